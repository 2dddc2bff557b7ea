//! A job of the `ledger` task whose deployment is changed while it runs, and the records it folds meanwhile. Its deployments have
//! their number as `version`, by which each record says who folded it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use pelton_core::codec;
use pelton_core::commit::Commit;
use serde_json::Value;

use crate::api::Api;
use crate::host::HostFiles;
use crate::process::{Process, component, wait_for};
use crate::stage::{Stage, entry};
use crate::table;

/// Its name.
pub const JOB: &str = "swapping";
/// How long anything may take that is waited for.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Partition keys of its records.
pub const KEYS: u64 = 200;

/// Numbers put so far, by key.
#[derive(Debug, Default)]
pub struct Feed {
    /// The last number of each key.
    pub put: BTreeMap<String, u64>,
    next: u64,
}

impl Feed {
    /// Waits until no more than so many records are not folded.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait(&self, api: &Api, left: u64) -> Result<BTreeMap<Vec<u8>, u64>> {
        let put: u64 = self.put.values().sum();
        wait_for("the records to be folded", LIMIT, || {
            let state = api.counts(JOB).unwrap_or_default();
            let counts = state.iter().filter(|(key, _)| key.starts_with(b"n/"));
            Ok((counts.map(|(_, count)| *count).sum::<u64>() + left >= put).then_some(state))
        })
    }

    /// Waits until all of it is folded and committed, and expects each record to be folded once and in its order.
    ///
    /// # Errors
    /// When it was not, or that takes too long.
    pub fn check(&self, api: &Api) -> Result<BTreeMap<Vec<u8>, u64>> {
        let state = self.wait(api, 0)?;
        ensure!(!state.keys().any(|key| key.starts_with(b"d/")), "records came out of order");
        for (key, numbers) in &self.put {
            let count = state.get(format!("n/{key}").as_bytes());
            ensure!(count == Some(numbers), "{key}: {count:?} folded of {numbers}");
        }
        ensure!(api.dead_letters(JOB)?.is_empty(), "dead letters");
        Ok(state)
    }

    /// The state there is when each record was folded by the version that this gives for its key and number.
    pub fn fold(&self, version: impl Fn(&str, u64) -> u64) -> BTreeMap<Vec<u8>, u64> {
        let mut state = BTreeMap::new();
        for (key, numbers) in &self.put {
            state.insert(format!("l/{key}").into_bytes(), *numbers);
            state.insert(format!("n/{key}").into_bytes(), *numbers);
            let marks = (1..=*numbers).map(|number| (format!("v/{key}#{number}").into_bytes(), version(key, number)));
            state.extend(marks);
        }
        state
    }

    /// Puts records of all keys, by turns.
    ///
    /// # Errors
    /// When Kinesis refuses.
    pub fn put(&mut self, stage: &Stage, records: u64) -> Result<()> {
        let mut entries = Vec::new();
        for _ in 0..records {
            // A stride that meets every key.
            self.next = (self.next + 37) % KEYS;
            let key = format!("key{}", self.next);
            let number = self.put.entry(key.clone()).or_default();
            *number += 1;
            entries.push(entry(&key, &number.to_string()));
        }
        stage.put("in", &entries)
    }
}

/// A job that runs, and has folded some records by its first deployment.
#[derive(Debug)]
pub struct Started {
    /// Its servers.
    pub stage: Stage,
    /// Its host, as configured.
    pub host: HostFiles,
    /// Its host, as it runs.
    pub process: Process,
    /// How to ask it things.
    pub api: Api,
    /// What was put.
    pub feed: Feed,
}

/// Starts the job on a stream of so many shards, with so many tasks, and has it fold so many records.
///
/// # Errors
/// When it does not run.
pub fn start(shards: i32, tasks: u64, commit_interval: Duration, records: u64) -> Result<Started> {
    let stage = Stage::set(&[("in", shards)])?;
    let (ledger, commit_ms) = (component("ledger")?, commit_interval.as_millis());
    let host = stage.host(
        "host",
        &format!(
            "[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = {tasks}\ncomponent = {ledger:?}\ncommit-interval = \"{commit_ms}ms\"\n\
             [jobs.{JOB}.config]\nversion = 1\n"
        ),
    )?;
    let (process, api, mut feed) = (host.start(&[])?, host.api()?, Feed::default());
    feed.put(&stage, records)?;
    feed.check(&api)?;
    Ok(Started { stage, host, process, api, feed })
}

/// What its host answers to a request about it.
///
/// # Errors
/// When there is no answer.
pub fn ask(api: &Api, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
    api.ask_of(JOB, method, path, body)
}

/// What its tasks are to run.
///
/// # Errors
/// When its host does not say so.
pub fn current(api: &Api) -> Result<Value> {
    let (status, rollout) = api.get(&format!("/v1/jobs/{JOB}/rollout"))?;
    ensure!(status == 200, "{rollout}");
    Ok(rollout)
}

/// The digest of what the job runs now.
///
/// # Errors
/// When its host does not say so.
pub fn digest(api: &Api) -> Result<String> {
    let (_, job) = api.get(&format!("/v1/jobs/{JOB}"))?;
    Ok(job["component"].as_str().context("a component")?.to_owned())
}

/// How many tasks run each deployment.
///
/// # Errors
/// When its host does not say so.
pub fn pins(api: &Api) -> Result<BTreeMap<u64, usize>> {
    let mut pins = BTreeMap::new();
    for task in api.tasks(JOB)? {
        *pins.entry(task["deployment"].as_u64().context("a deployment")?).or_default() += 1;
    }
    Ok(pins)
}

/// The commits in the log of each task, in their order.
///
/// # Errors
/// When the table cannot be read, or one of them is larger than an item.
pub fn logs(stage: &Stage) -> Result<BTreeMap<String, Vec<Commit>>> {
    let items = stage.run(table::items(&table::client(&stage.servers.dynamodb()), "pelton-test"))?;
    let mut logs: BTreeMap<String, BTreeMap<String, Commit>> = BTreeMap::new();
    for item in items {
        let (Some(AttributeValue::S(pk)), Some(AttributeValue::S(sk))) = (item.get("pk"), item.get("sk")) else {
            continue;
        };
        let Some(AttributeValue::B(data)) = item.get("data").filter(|_| sk.starts_with("log/")) else { continue };
        let commit = codec::decode(&data.as_ref().to_vec().into(), &[])?;
        logs.entry(pk.clone()).or_default().insert(sk.clone(), commit);
    }
    Ok(logs.into_iter().map(|(task, log)| (task, log.into_values().collect())).collect())
}

/// A component with the same logic and another digest, one for each number: what tools leave out of it changes.
pub fn rebuilt(component: &[u8], number: u8) -> Vec<u8> {
    let section = [0, 6, 4, b'n', b'o', b't', b'e', number];
    [component, &section].concat()
}
