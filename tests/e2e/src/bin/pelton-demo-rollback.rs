//! A bad version of a task's logic and how it goes: sent as a canary it takes itself back at its third failure, and a rewind undoes
//! what it did until then. What is left is held against a plain fold by the good version alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use pelton_e2e::api::Api;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{component, wait_for};
use pelton_e2e::servers::Servers;
use pelton_e2e::streams::{self, Entry};
use serde_json::{Value, json};

const JOB: &str = "ledger";
const STREAM: &str = "numbers";
const TASKS: u32 = 16;
const KEYS: u64 = 500;
const RECORDS: u64 = 20_000;
const _: () = assert!(
    !(RECORDS / KEYS + 1).is_multiple_of(3),
    "the first of each key that version 2 sees is none that it traps at"
);
const LIMIT: Duration = Duration::from_secs(60);

/// Numbers put so far, by key.
#[derive(Default)]
struct Feed {
    put: BTreeMap<String, u64>,
}

impl Feed {
    fn next(&mut self, records: u64) -> Vec<Entry> {
        let mut next = |at: u64| {
            let key = format!("key-{}", at * 7 % KEYS);
            let number = self.put.entry(key.clone()).or_default();
            *number += 1;
            (key, number.to_string().into_bytes())
        };
        (0..records).map(&mut next).collect()
    }

    fn total(&self) -> u64 {
        self.put.values().sum()
    }
}

fn main() -> Result<()> {
    let began = Instant::now();
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let servers = Servers::start(folder.path())?;
    let kinesis = streams::client(&servers.kinesis());
    runtime.block_on(streams::create(&kinesis, STREAM, 4))?;
    let job = format!(
        "[jobs.{JOB}]\ninputs = [\"{STREAM}\"]\ntasks = {TASKS}\ncomponent = {:?}\n[jobs.{JOB}.config]\nversion = 1\n",
        component("ledger")?
    );
    let host = HostFiles::write(folder.path(), "host", &servers, &job)?;
    let (mut process, api, mut feed) = (host.start(&[])?, host.api()?, Feed::default());
    let put = |feed: &mut Feed, records: u64| {
        let entries = feed.next(records);
        entries.chunks(500).try_for_each(|call| runtime.block_on(streams::put(&kinesis, STREAM, call)))
    };

    put(&mut feed, RECORDS)?;
    by_version(&api, feed.total())?;
    eprintln!("{RECORDS} records are folded by version 1, in {TASKS} tasks");

    let (_, view) = api.get(&format!("/v1/jobs/{JOB}"))?;
    let bad = json!({
        "component": view["component"], "config": { "version": "2", "flawed": "1" }, "canary": { "tasks": [1, 5, 9] }
    });
    ask(&api, "deployments", &bad)?;
    wait_for("the canary to be tried", LIMIT, || {
        let tasks = api.tasks(JOB)?;
        Ok((tasks.iter().filter(|task| task["deployment"] == 2).count() == 3).then_some(()))
    })?;
    eprintln!("version 2 is tried by three of the tasks; it traps at every third record of a key");
    // One of each key, at which it does not yet.
    put(&mut feed, KEYS)?;
    by_version(&api, feed.total())?;
    put(&mut feed, RECORDS)?;
    wait_for("the canary to take itself back", LIMIT, || Ok(rollout(&api)?["canary"].is_null().then_some(())))?;
    let versions = by_version(&api, feed.total())?;
    let left = versions.get(&2).copied().unwrap_or_default();
    // Else there would be nothing to rewind, and all that follows would hold of itself.
    ensure!(left > 0, "version 2 folded nothing before it took itself back: {versions:?}");
    ensure!(api.dead_letters(JOB)?.is_empty(), "a canary sets no dead letters");
    eprintln!("at its third failure it took itself back; no record is lost, and {left} are folded by version 2");

    let asked = Instant::now();
    ask(&api, "rollback?rewind=true", &Value::Null)?;
    let versions = wait_for("the state to be that of version 1 alone", LIMIT, || {
        let versions = by_version(&api, feed.total())?;
        Ok((versions.len() == 1).then_some(versions))
    })?;
    eprintln!("rewound: {} ms later all of {} are folded by version 1", asked.elapsed().as_millis(), versions[&1]);

    put(&mut feed, RECORDS)?;
    by_version(&api, feed.total())?;
    let state = api.counts(JOB)?;
    for (key, numbers) in &feed.put {
        let (count, last) = (state.get(format!("n/{key}").as_bytes()), state.get(format!("l/{key}").as_bytes()));
        ensure!(count == Some(numbers) && last == Some(numbers), "{key}: {count:?} up to {last:?}, not {numbers}");
    }
    ensure!(!state.keys().any(|key| key.starts_with(b"d/")), "records came out of order");
    ensure!(api.dead_letters(JOB)?.is_empty(), "there are dead letters");
    process.terminate()?;
    let status = process.wait(LIMIT)?;
    ensure!(status.success(), "the host ended with {status} when it was told to stop:\n{}", process.said()?);
    println!(
        "every one of {} counts equals the fold by version 1: {} records in {:.1} s",
        feed.put.len(),
        feed.total(),
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn rollout(api: &Api) -> Result<Value> {
    Ok(api.get(&format!("/v1/jobs/{JOB}/rollout"))?.1)
}

fn ask(api: &Api, path: &str, body: &Value) -> Result<()> {
    let answer = api.ask("POST", &format!("/v1/jobs/{JOB}/{path}"), &[], body.to_string().as_bytes())?;
    if answer.status >= 300 {
        bail!("refused: {}", String::from_utf8_lossy(&answer.body));
    }
    Ok(())
}

/// Waits until so many records are folded, and says how many each version has folded of those that count.
fn by_version(api: &Api, records: u64) -> Result<BTreeMap<u64, u64>> {
    wait_for("the records to be folded", LIMIT, || {
        let state = api.counts(JOB).unwrap_or_default();
        let counts = state.iter().filter(|(key, _)| key.starts_with(b"n/"));
        let folded: u64 = counts.map(|(_, count)| *count).sum();
        let mut versions = BTreeMap::new();
        for (_, version) in state.iter().filter(|(key, _)| key.starts_with(b"v/")) {
            *versions.entry(*version).or_default() += 1;
        }
        Ok((folded == records).then_some(versions))
    })
}
