//! Hosts killed again and again under a chain of two jobs, with all that streams hold: plain records, records put into other
//! shards than their key's, aggregates with strays, damaged aggregates, records that cannot be processed, and timers. In the
//! end both jobs' states and the dead letters are those of a fold that shares no code with Pelton, and each timer fired once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kinesis::primitives::Blob;
use md5::{Digest as _, Md5};
use pelton_core::slice::HashKey;
use pelton_e2e::aggregate::{Part, aggregate, damaged, part};
use pelton_e2e::api::{Api, base64};
use pelton_e2e::process::{Process, component, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::streams::{self, Entry};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const LIMIT: Duration = Duration::from_secs(60);
/// Every second one is a SIGKILL at a random moment, the others are deaths at a named point.
const KILLS: usize = 100;
const KEYS: usize = 30;
const PLAIN: usize = 120;
const POINTS: [&str; 6] =
    ["before-append", "after-append", "before-apply", "after-apply", "before-publish", "after-publish"];

/// What was put, and what must become of it.
struct Fold {
    random: StdRng,
    /// Numbers given so far, by key.
    given: BTreeMap<String, u64>,
    /// Numbers to be folded, by key, in their order.
    folded: BTreeMap<String, Vec<u64>>,
    /// Cause, key and data of each dead letter, sorted in the end.
    dead: Vec<(&'static str, String, String)>,
    raw: u64,
}

fn hash(key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(key).into())
}

impl Fold {
    fn key(&mut self) -> (String, u64) {
        let key = format!("key{}", self.random.random_range(0..KEYS));
        let number = self.given.entry(key.clone()).or_default();
        *number += 1;
        (key, *number)
    }

    /// Records that their own tasks are to fold.
    fn plain(&mut self, records: usize) -> Vec<Entry> {
        let record = |_| {
            let (key, number) = self.key();
            self.folded.entry(key.clone()).or_default().push(number);
            entry(&key, &number.to_string())
        };
        (0..records).map(record).collect()
    }

    /// Puts one record of each odd kind.
    fn put_odd(&mut self, stage: &Stage) -> Result<()> {
        let (key, number) = self.key();
        stage.put("in", &[entry(&key, &format!("poison{number}"))])?;
        self.dead.push(("poison", key, format!("poison{number}")));

        stage.put("in", &[("a".into(), damaged(&[part("b", "1")]))])?;
        self.raw += 1;

        let (key, number) = self.key();
        let chosen = self.random.random();
        let range = put(stage, &key, number.to_string().into_bytes(), chosen)?;
        self.judge(range, hash(&key), &key, number);

        let mut parts = Vec::new();
        for at in 0..6 {
            let (key, number) = self.key();
            let chosen = (at == 0).then(|| HashKey(self.random.random()));
            parts.push((number, Part { chosen, ..part(&key, &number.to_string()) }));
        }
        let packed: Vec<Part> = parts.iter().map(|(_, part)| part.clone()).collect();
        let chosen = self.random.random();
        let range = put(stage, "a", aggregate(&packed), chosen)?;
        for (number, part) in parts {
            self.judge(range, part.chosen.map_or(hash(&part.key), |chosen| chosen.0), &part.key, number);
        }
        Ok(())
    }

    /// What becomes of a record with this effective hash that a shard of this range delivers.
    fn judge(&mut self, (start, end): (u128, u128), effective: u128, key: &str, number: u64) {
        let within = |hash: u128| start <= hash && hash <= end;
        if !within(effective) {
            let cause = if effective == hash(key) { "outside" } else { "stray" };
            self.dead.push((cause, key.into(), number.to_string()));
        } else if !within(hash(key)) {
            self.dead.push(("outside", key.into(), number.to_string()));
        } else {
            self.folded.entry(key.into()).or_default().push(number);
        }
    }
}

/// Puts a record where a hash key says, and returns the range of the shard that took it.
fn put(stage: &Stage, key: &str, data: Vec<u8>, chosen: u128) -> Result<(u128, u128)> {
    let put = stage.kinesis.put_record().stream_name("in").partition_key(key).data(Blob::new(data));
    let reply = stage.run(put.explicit_hash_key(chosen.to_string()).send())?;
    let shards = stage.run(stage.kinesis.list_shards().stream_name("in").send())?;
    let shard = shards.shards().iter().find(|shard| shard.shard_id() == reply.shard_id());
    Ok(streams::range(shard.context("the shard is listed")?))
}

fn jobs() -> Result<String> {
    let ledger = component("ledger")?;
    let common = format!("tasks = 4\ncomponent = {ledger:?}\ncommit-interval = \"50ms\"\n");
    Ok(format!(
        "[jobs.first]\ninputs = [\"in\"]\n{common}[jobs.first.limits]\ndead-letters = 10000\n\
         [jobs.first.outputs.next]\nstream = \"between\"\n[jobs.first.config]\noutput = \"next\"\ntimers = true\n\
         [jobs.second]\ninputs = [{{ stream = \"between\", from-job = \"first\" }}]\n{common}"
    ))
}

#[test]
fn nothing_is_lost_or_repeated_of_all_that_streams_hold() -> Result<()> {
    let stage = Stage::set(&[("in", 3), ("between", 2)])?;
    let host = stage.host("host", &jobs()?)?;
    let mut fold = Fold {
        random: StdRng::seed_from_u64(7),
        given: BTreeMap::new(),
        folded: BTreeMap::new(),
        dead: Vec::new(),
        raw: 0,
    };
    let mut at_points = BTreeSet::new();
    for kill in 0..KILLS {
        let point = POINTS[(kill / 2) % POINTS.len()];
        let fault = format!("{point}:{}", fold.random.random_range(0..4));
        let named = kill % 2 == 1;
        let environment: &[(&str, &str)] = if named { &[("PELTON_FAULT_POINT", &fault)] } else { &[] };
        let mut process = host.start(environment)?;
        stage.put("in", &fold.plain(PLAIN))?;
        fold.put_odd(&stage)?;
        match kill % 10 {
            1 => stage.run(streams::split(&stage.kinesis, "in", kill))?,
            4 => stage.run(streams::split(&stage.kinesis, "between", kill))?,
            6 => stage.run(streams::merge(&stage.kinesis, "in", kill))?,
            9 => stage.run(streams::merge(&stage.kinesis, "between", kill))?,
            _ => {}
        }
        stage.put("in", &fold.plain(PLAIN))?;
        fold.put_odd(&stage)?;
        if named && wait_for("the host to die", Duration::from_secs(5), || process.ended()).is_ok() {
            at_points.insert(point);
        } else {
            std::thread::sleep(Duration::from_millis(fold.random.random_range(50..900)));
            process.kill()?;
        }
        if kill % 7 == 3 {
            std::fs::remove_dir_all(&host.data)?;
        }
    }
    let missed: Vec<_> = POINTS.iter().filter(|point| !at_points.contains(*point)).collect();
    ensure!(missed.is_empty(), "no host died at {missed:?}");
    let process = host.start(&[])?;
    check(&host.api()?, &process, fold)
}

fn check(api: &Api, process: &Process, mut fold: Fold) -> Result<()> {
    let records: u64 = fold.folded.values().map(|numbers| numbers.len() as u64).sum();
    api.wait_caught_up("first", LIMIT).with_context(|| process.said().unwrap_or_default())?;
    wait_for("every timer to fire", LIMIT, || {
        let fired = api.fates("first")?.get("timers").copied().unwrap_or_default();
        Ok((fired >= records).then_some(()))
    })?;
    api.wait_caught_up("first", LIMIT)?;
    wait_for("every output to be folded", LIMIT, || {
        let folded = api.fates("second")?.get("folded").copied().unwrap_or_default();
        Ok((folded >= records).then_some(()))
    })?;
    api.wait_caught_up("second", LIMIT)?;

    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for (key, numbers) in &fold.folded {
        expected.insert(format!("n/{key}"), numbers.len() as u64);
        expected.insert(format!("l/{key}"), *numbers.last().context("a key has numbers")?);
    }
    same("second", &state(api, "second")?, &expected)?;
    let timers = fold.folded.iter().flat_map(|(key, numbers)| numbers.iter().map(move |at| format!("f/{key}#{at}")));
    expected.extend(timers.map(|timer| (timer, 1)));
    expected.insert("r/a".into(), fold.raw);
    same("first", &state(api, "first")?, &expected)?;

    let mut letters = Vec::new();
    for letter in api.dead_letters("first")? {
        let cause = match letter["cause"].as_str() {
            Some("poison") => "poison",
            Some("out-of-range") => "outside",
            Some("stray") => "stray",
            _ => anyhow::bail!("a dead letter of another cause: {letter}"),
        };
        let content = &letter["content"];
        let key = content["partition_key"].as_str().context("a dead letter has a partition key")?;
        letters.push((cause, key.to_owned(), String::from_utf8(base64(&content["data_base64"])?)?));
    }
    // An effective hash outside makes a stray of any record of an aggregate, and a plain record is out of range.
    let plain = |(cause, key, data): (&'static str, String, String)| {
        (if cause == "poison" { cause } else { "outside" }, key, data)
    };
    letters = letters.into_iter().map(plain).collect();
    fold.dead = fold.dead.into_iter().map(plain).collect();
    letters.sort();
    fold.dead.sort();
    ensure!(letters == fold.dead, "dead letters: {} found, {} expected", letters.len(), fold.dead.len());
    let fates = api.fates("first")?;
    let put = records + fold.raw + fold.dead.len() as u64;
    ensure!(fates["folded"] + fates["dead"] == put && fates["timers"] == records, "{put} were put: {fates:?}");
    ensure!(api.fates("second")?["folded"] == records, "{:?}", api.fates("second")?);
    println!("{put} records, {} dead letters, {:?} downstream", fold.dead.len(), api.fates("second")?);
    Ok(())
}

fn state(api: &Api, job: &str) -> Result<BTreeMap<String, u64>> {
    let counts = api.counts(job)?;
    counts.into_iter().map(|(key, count)| Ok((String::from_utf8(key)?, count))).collect()
}

fn same(job: &str, found: &BTreeMap<String, u64>, expected: &BTreeMap<String, u64>) -> Result<()> {
    let keys: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let differ = keys.into_iter().filter(|key| found.get(*key) != expected.get(*key));
    let differ: Vec<_> =
        differ.map(|key| format!("{key}: {:?}, not {:?}", found.get(key), expected.get(key))).collect();
    ensure!(
        differ.is_empty(),
        "{job}: {} entries differ, among them {:?}",
        differ.len(),
        &differ[..differ.len().min(8)]
    );
    Ok(())
}
