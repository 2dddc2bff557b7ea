//! Streams that are split, merged and scaled while they are written and read, on two servers that speak Kinesis' API: in the
//! end every record is folded once and in its key's order, and nothing is behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::Shard;
use pelton_core::slice::HashKey;
use pelton_e2e::api::Api;
use pelton_e2e::kinesis_local::KinesisLocal;
use pelton_e2e::load::{Load, Pace, Put};
use pelton_e2e::process::{component, wait_for};
use pelton_e2e::stage::Stage;
use pelton_e2e::streams;

const JOB: &str = "resharded";
const STREAM: &str = "in";
/// Slices of a fifth of the hash space: few borders of shards are borders of slices.
const TASKS: u128 = 5;
/// Rounds of the load before and after each change, so that every shard has some.
const ROUNDS: u64 = 3;
const LIMIT: Duration = Duration::from_secs(90);

/// What happens to the stream, one after another.
const CHANGES: [Change; 5] = [Change::Split, Change::Merge, Change::Scale(8), Change::Scale(5), Change::Scale(3)];

#[derive(Clone, Copy, Debug)]
enum Change {
    /// Of a shard, at a hash key in the midst of a slice.
    Split,
    /// Of two shards that were not one before.
    Merge,
    /// To so many shards.
    Scale(u128),
}

/// A Kinesis, and what is known of it.
struct Server {
    address: String,
    client: Client,
    pace: Pace,
    /// Whether its UpdateShardCount makes children of known parents, as Kinesis' does.
    scales: bool,
}

impl Server {
    fn change(&self, stage: &Stage, change: Change) -> Result<()> {
        let client = &self.client;
        match change {
            Change::Split => {
                let slice = u128::MAX / TASKS;
                let at = slice * 2 + slice / 3 + 12_345;
                stage.run(streams::split_at(client, STREAM, at))
            }
            Change::Merge => stage.run(streams::merge(client, STREAM, 0)),
            Change::Scale(count) if self.scales => stage.run(streams::update_count(client, STREAM, count)),
            Change::Scale(count) => stage.run(streams::scale(client, STREAM, count)),
        }
    }
}

fn job(settings: &str) -> Result<String> {
    let ledger = component("ledger")?;
    Ok(format!(
        "[jobs.{JOB}]\ninputs = [\"{STREAM}\"]\ntasks = {TASKS}\ncomponent = {ledger:?}\ncommit-interval = \"50ms\"\n\
         {settings}\n"
    ))
}

/// Everything under a running load, and then the account.
fn reshard(stage: &Stage, server: &Server, settings: &str) -> Result<()> {
    stage.run(streams::create(&server.client, STREAM, 4))?;
    let host = stage.host("host", &job(settings)?)?.read_from(&server.address, &stage.servers)?;
    let process = host.start(&[])?;
    let load = Load::begin(&server.address, STREAM, server.pace)?;
    load.pass(ROUNDS)?;
    let mut written = BTreeSet::new();
    for change in CHANGES {
        server.change(stage, change).with_context(|| format!("{change:?}"))?;
        let open = stage.run(streams::open_shards(&server.client, STREAM))?;
        if let Change::Scale(count) = change {
            ensure!(open.len() as u128 == count, "{change:?} came to {} shards", open.len());
        }
        let takes_some = |shard: &&Shard| {
            let (start, end) = streams::range(shard);
            (0..server.pace.keys).any(|key| (start..=end).contains(&HashKey::of(&format!("key{key}")).0))
        };
        written.extend(open.iter().filter(takes_some).map(|shard| shard.shard_id().to_owned()));
        load.pass(ROUNDS)?;
    }
    let put = load.end()?;
    ensure!(put.shards.is_superset(&written), "of {written:?} only {:?} took records", put.shards);
    check(&host.api()?, &put, server.pace).with_context(|| process.said().unwrap_or_default())?;
    let shards = stage.run(streams::shards(&server.client, STREAM))?.len();
    println!("{} records, {shards} shards, of which {} took some", put.rounds * server.pace.keys, put.shards.len());
    Ok(())
}

/// Each key's records were folded once and in their order, and nothing is behind.
fn check(api: &Api, put: &Put, pace: Pace) -> Result<()> {
    let records = put.rounds * pace.keys;
    let folded = wait_for("every record to be folded", LIMIT, || {
        let Ok(fates) = api.fates(JOB) else { return Ok(None) };
        Ok((fates.get("folded").copied().unwrap_or_default() >= records).then_some(()))
    });
    folded.with_context(|| format!("{:?} of {records}, {:?}", api.fates(JOB), api.tasks(JOB)))?;
    api.wait_caught_up(JOB, LIMIT)?;
    let expected: BTreeMap<Vec<u8>, u64> = (0..pace.keys)
        .flat_map(|key| ["n", "l"].map(|what| (format!("{what}/key{key}").into_bytes(), put.rounds)))
        .collect();
    let found = api.counts(JOB)?;
    let keys: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differ = keys.into_iter().filter(|key| found.get(*key) != expected.get(*key));
    let differ: Vec<_> = differ.map(|key| format!("{}: {:?}", String::from_utf8_lossy(key), found.get(key))).collect();
    ensure!(differ.is_empty(), "{} rounds were put: {differ:?}", put.rounds);
    let fates = api.fates(JOB)?;
    ensure!(fates == BTreeMap::from([("folded".to_owned(), records)]), "{records} were put: {fates:?}");
    Ok(())
}

/// The embedded server's own UpdateShardCount makes shards without parents, which Kinesis never does: what it stands for is
/// done split by split and merge by merge.
fn embedded(settings: &str) -> Result<()> {
    let stage = Stage::set(&[])?;
    let pace = Pace { keys: 60, pause: Duration::from_millis(5), ahead_max: 2_000 };
    let server = Server { address: stage.servers.kinesis(), client: stage.kinesis.clone(), pace, scales: false };
    reshard(&stage, &server, settings)
}

#[test]
fn nothing_is_lost_or_reordered_on_the_embedded_server() -> Result<()> {
    embedded("")
}

#[test]
fn nor_where_its_shards_push() -> Result<()> {
    embedded("consumer = \"fan-out\"")
}

#[test]
fn nor_on_kinesis_local() -> Result<()> {
    let stage = Stage::set(&[])?;
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kinesis-local");
    let Some(kinesis) = KinesisLocal::start(&installed, stage.folder())? else { return Ok(()) };
    let pace = Pace { keys: 60, pause: Duration::from_millis(100), ahead_max: 4 };
    let client = streams::client(&kinesis.address());
    let server = Server { address: kinesis.address(), client, pace, scales: true };
    reshard(&stage, &server, "")
}
