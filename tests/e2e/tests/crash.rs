//! Hosts killed again and again, at random moments and at named points, with splits and merges under way: in the end every
//! record is folded once and in its key's order, and every output is published, its repeats told by their ids.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pelton_core::aggregate;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, component, wait_for};
use pelton_e2e::servers::Servers;
use pelton_e2e::streams::{self, Entry};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const JOB: &str = "crashing";
const INPUT: &str = "input";
const OUTPUT: &str = "output";
/// Every second one is a SIGKILL at a random moment, the others are deaths at a named point.
const KILLS: usize = 50;
const KEYS: usize = 40;
const TASKS: usize = 4;
/// Records are put so often while a host is to reach a point.
const BURSTS_MAX: usize = 12;
/// Records put in each life of the host.
const RECORDS: usize = 400;
const LIMIT: Duration = Duration::from_secs(60);

/// Named points, by turns with kills at random moments. First those of snapshots, which come the more seldom the larger the
/// state is.
const POINTS: [&str; 8] = [
    "before-manifest",
    "before-trim",
    "before-append",
    "after-append",
    "before-apply",
    "after-apply",
    "before-publish",
    "after-publish",
];

struct Feed {
    random: StdRng,
    /// Records put so far, by key.
    counts: BTreeMap<usize, usize>,
}

impl Feed {
    /// The next records: each has its key and place in its key as words, and a long random one to make the log grow.
    fn next(&mut self, records: usize) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(records);
        for _ in 0..records {
            let key = self.random.random_range(0..KEYS);
            let place = self.counts.entry(key).or_default();
            *place += 1;
            let noise: String = (0..800).map(|_| self.random.random_range('a'..='z')).collect();
            entries.push((format!("key{key}"), format!("key{key} s{key}x{place} z{noise}").into_bytes()));
        }
        entries
    }
}

#[test]
fn nothing_is_lost_repeated_or_reordered() -> Result<()> {
    crash(1, false)
}

#[test]
fn nor_when_every_disk_is_lost() -> Result<()> {
    crash(2, true)
}

fn crash(seed: u64, lose_disks: bool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let servers = Servers::start(folder.path())?;
    let kinesis = streams::client(&servers.kinesis());
    runtime.block_on(streams::create(&kinesis, INPUT, 3))?;
    runtime.block_on(streams::create(&kinesis, OUTPUT, 2))?;
    let job = format!(
        "[jobs.{JOB}]\ninputs = [\"{INPUT}\"]\ntasks = {TASKS}\ncomponent = {:?}\ncommit-interval = \"50ms\"\n\
         [jobs.{JOB}.outputs.counts]\nstream = \"{OUTPUT}\"\n[jobs.{JOB}.config]\noutput = \"counts\"\n",
        component("word_count")?
    );
    let host = HostFiles::write(folder.path(), "host", &servers, &job)?;
    let mut feed = Feed { random: StdRng::seed_from_u64(seed), counts: BTreeMap::new() };

    let put = |records: &[Entry]| runtime.block_on(streams::put(&kinesis, INPUT, records));
    let mut at_points = BTreeSet::new();
    for kill in 0..KILLS {
        let points = if kill < KILLS / 2 + 1 { &POINTS[..] } else { &POINTS[2..] };
        let point = points[(kill / 2) % points.len()];
        let passes = if POINTS[..2].contains(&point) { 0 } else { feed.random.random_range(0..4) };
        let fault = format!("{point}:{passes}");
        let named = kill % 2 == 1;
        let environment: &[(&str, &str)] = if named { &[("PELTON_FAULT_POINT", &fault)] } else { &[] };
        let mut process = host.start(environment)?;
        for half in 0..2 {
            put(&feed.next(RECORDS / 2))?;
            match (kill % 5, half) {
                (1, 0) => runtime.block_on(streams::split(&kinesis, INPUT, kill))?,
                (3, 0) => runtime.block_on(streams::merge(&kinesis, INPUT, kill))?,
                _ => {}
            }
        }
        if named && dies_by_itself(&put, &mut feed, &mut process)? {
            at_points.insert(point);
        } else {
            std::thread::sleep(Duration::from_millis(feed.random.random_range(100..1_200)));
            process.kill()?;
        }
        if lose_disks {
            std::fs::remove_dir_all(&host.data)?;
        }
    }
    let missed: Vec<_> = POINTS.iter().filter(|point| !at_points.contains(*point)).collect();
    ensure!(missed.is_empty(), "no host died at {missed:?}");

    let mut process = host.start(&[])?;
    let api = host.api()?;
    api.wait_caught_up(JOB, LIMIT).with_context(|| process.said().unwrap_or_default())?;
    check_state(&feed, &api.counts(JOB)?)?;
    check_outputs(&feed, &runtime.block_on(streams::read_all(&kinesis, OUTPUT))?)?;
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "told to stop, the host ended otherwise:\n{}", process.said()?);
    Ok(())
}

/// Puts more records until the host reaches the point at which it dies: some come only when the log has grown.
fn dies_by_itself(put: &dyn Fn(&[Entry]) -> Result<()>, feed: &mut Feed, process: &mut Process) -> Result<bool> {
    for _ in 0..BURSTS_MAX {
        if wait_for("the host to die", Duration::from_secs(1), || process.ended()).is_ok() {
            return Ok(true);
        }
        put(&feed.next(RECORDS))?;
    }
    Ok(false)
}

fn check_state(feed: &Feed, counts: &BTreeMap<Vec<u8>, u64>) -> Result<()> {
    for (key, records) in &feed.counts {
        let word = format!("key{key}").into_bytes();
        ensure!(
            counts.get(&word) == Some(&(*records as u64)),
            "key{key}: {:?} counted of {records}",
            counts.get(&word)
        );
        for place in 1..=*records {
            let word = format!("s{key}x{place}").into_bytes();
            ensure!(counts.get(&word) == Some(&1), "record {place} of key{key}: folded {:?} times", counts.get(&word));
        }
    }
    let total: u64 = counts.values().sum();
    let records: usize = feed.counts.values().sum();
    ensure!(total == 3 * records as u64, "{total} words counted in {records} records of three");
    Ok(())
}

/// Each key's messages, their repeats dropped by id, tell its records one after another.
fn check_outputs(feed: &Feed, records: &[Entry]) -> Result<()> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for (key, data) in records {
        let aggregate = aggregate::unpack(&data.clone().into()).context("an output is not an aggregate")?;
        for record in aggregate.records {
            let id = record.tags.iter().find(|tag| tag.key == aggregate::ID_TAG).and_then(|tag| tag.value.clone());
            if ids.insert(id.context("an output has no id")?) {
                let text = String::from_utf8(record.data.to_vec())?;
                let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('z')).collect();
                told.entry(key.clone()).or_default().push(lines.join(" "));
            }
        }
    }
    for (key, count) in &feed.counts {
        let expected: Vec<String> = (1..=*count).map(|place| format!("key{key}={place} s{key}x{place}=1")).collect();
        let found = told.remove(&format!("key{key}")).unwrap_or_default();
        let differs = (0..expected.len().max(found.len())).find(|at| found.get(*at) != expected.get(*at));
        if let Some(at) = differs {
            anyhow::bail!("key{key}, message {at}: {:?} where {:?} was expected", found.get(at), expected.get(at));
        }
    }
    ensure!(told.is_empty(), "messages under keys never put: {:?}", told.keys());
    Ok(())
}
