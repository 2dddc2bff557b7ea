//! Shadows on a running job: one of the same logic differs in nothing, whatever it asks of clocks and chance; one that differs is told
//! with examples, and nothing of it is kept or sent; one that traps or loops holds up nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use pelton_core::codec;
use pelton_e2e::api::Api;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, component, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::{streams, table};
use serde_json::{Value, json};

const JOB: &str = "shadowed";
const LIMIT: Duration = Duration::from_secs(120);
const TASKS: u64 = 8;
const KEYS: u64 = 500;
/// The share of a shadow that is to have window after window.
const PART_PERCENT: u32 = 25;
/// Records put at a time.
const CHUNK: u64 = 10_000;

/// A job that runs, with nothing folded yet.
struct Started {
    stage: Stage,
    host: HostFiles,
    process: Process,
    api: Api,
    component: String,
    config: Value,
    /// Numbers put, by key.
    put: BTreeMap<String, u64>,
}

impl Started {
    fn new(config: Value, format: &str) -> Result<Self> {
        let stage = Stage::set(&[("in", 4), ("out", 1)])?;
        let ledger = component("ledger")?;
        let told = config.as_object().context("a configuration")?;
        let told: String = told.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let host = stage.host(
            "host",
            &format!(
                "[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = {TASKS}\ncomponent = {ledger:?}\ncommit-interval = \"50ms\"\n\
                 [jobs.{JOB}.outputs.out]\nstream = \"out\"\nformat = {format:?}\n[jobs.{JOB}.config]\n{told}"
            ),
        )?;
        let (process, api) = (host.start(&[])?, host.api()?);
        api.wait_caught_up(JOB, LIMIT)?;
        let (_, job) = api.get(&format!("/v1/jobs/{JOB}"))?;
        let component = job["component"].as_str().context("a component")?.to_owned();
        Ok(Self { stage, host, process, api, component, config, put: BTreeMap::new() })
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        self.api.ask_of(JOB, method, path, body)
    }

    /// Has the same component with this besides in its configuration run as a shadow.
    fn shadow(&self, besides: Value, share_percent: u32) -> Result<u64> {
        let mut config = self.config.clone();
        let besides = besides.as_object().cloned().unwrap_or_default();
        config.as_object_mut().context("a configuration")?.extend(besides);
        let shadow = json!({ "share_percent": share_percent });
        let body = json!({ "component": self.component, "config": config, "shadow": shadow });
        let (status, made) = self.ask("POST", "deployments", &body)?;
        ensure!(status == 201, "{made}");
        made["deployment"].as_u64().context("a deployment")
    }

    fn findings(&self) -> Result<Value> {
        let (status, found) = self.ask("GET", "shadow", &json!(null))?;
        ensure!(status == 200, "{found}");
        Ok(found)
    }

    fn put(&mut self, records: u64) -> Result<()> {
        let mut left = records;
        while left > 0 {
            let mut entries = Vec::new();
            for at in 0..left.min(CHUNK) {
                let key = format!("key{}", (at * 37) % KEYS);
                let number = self.put.entry(key.clone()).or_default();
                *number += 1;
                entries.push(entry(&key, &number.to_string()));
            }
            left -= entries.len() as u64;
            self.stage.put("in", &entries)?;
        }
        Ok(())
    }

    /// Puts records while the host is down: the embedded Kinesis stands still for ever if it is given those of two streams at once, and
    /// its hash maps have it so.
    fn put_apart(&mut self, records: u64) -> Result<()> {
        self.process.terminate()?;
        ensure!(self.process.wait(LIMIT)?.success(), "{}", self.process.said()?);
        self.put(records)?;
        self.process = self.host.start(&[])?;
        Ok(())
    }

    /// Waits until all is folded, and expects the live state to be the fold of what was put and of nothing else.
    fn check(&self) -> Result<BTreeMap<Vec<u8>, u64>> {
        let put: u64 = self.put.values().sum();
        wait_for("the records to be folded", LIMIT, || {
            // The host may still be starting.
            let folded: u64 = self.api.fates(JOB).unwrap_or_default().get("folded").copied().unwrap_or_default();
            Ok((folded >= put).then_some(()))
        })?;
        self.api.wait_caught_up(JOB, LIMIT)?;
        let state = self.api.counts(JOB)?;
        for (key, numbers) in &self.put {
            let count = state.get(format!("n/{key}").as_bytes());
            ensure!(count == Some(numbers), "{key}: {count:?} folded of {numbers}");
        }
        ensure!(self.api.dead_letters(JOB)?.is_empty(), "dead letters");
        Ok(state)
    }

    fn stop(mut self) -> Result<()> {
        self.process.terminate()?;
        ensure!(self.process.wait(LIMIT)?.success(), "{}", self.process.said()?);
        Ok(())
    }
}

#[test]
fn a_shadow_of_the_same_logic_differs_in_nothing() -> Result<()> {
    const RECORDS: u64 = 100_000;
    let mut job = Started::new(json!({ "chance": "1", "patient": "1", "output": "out" }), "kpl")?;
    // Behind what was folded before, both sides begin alike all the same.
    job.put_apart(CHUNK)?;
    job.check()?;
    let number = job.shadow(json!({}), 100)?;
    job.put_apart(RECORDS)?;
    let state = job.check()?;
    let found = job.findings()?;
    let compared = |what: &str| found["compared"][what].as_u64().unwrap_or_default();
    ensure!(found["deployment"] == number && compared("records") == RECORDS, "{found}");
    ensure!(compared("windows") == TASKS && compared("outputs") == RECORDS && compared("keys") > KEYS, "{found}");
    let none = json!({ "outputs": 0, "keys": 0, "timers": 0, "failures": 0 });
    ensure!(found["differences"] == none && found["examples"] == json!([]), "{found}");
    ensure!(found["live"]["memory_bytes"].as_u64() > Some(0), "{found}");
    ensure!(found["live"]["memory_bytes"] == found["shadow"]["memory_bytes"], "{found}");
    let values: BTreeSet<u64> =
        state.iter().filter(|(key, _)| key.starts_with(b"c/")).map(|(_, value)| *value).collect();
    ensure!(values.len() as u64 == KEYS, "{} values by chance for {KEYS} keys", values.len());
    job.stop()
}

#[test]
fn nor_does_one_that_begins_anew_again_and_again() -> Result<()> {
    const RECORDS: u64 = 100_000;
    const WINDOWS: u64 = 3 * TASKS;
    let mut job = Started::new(json!({ "chance": "1", "patient": "1" }), "raw")?;
    job.shadow(json!({}), PART_PERCENT)?;
    let mut put = 0;
    let found = loop {
        job.put(CHUNK)?;
        job.check()?;
        put += CHUNK;
        let found = job.findings()?;
        let windows = found["compared"]["windows"].as_u64().unwrap_or_default();
        if (put >= RECORDS && windows >= WINDOWS) || put >= 10 * RECORDS {
            break found;
        }
    };
    let compared = |what: &str| found["compared"][what].as_u64().unwrap_or_default();
    ensure!(compared("windows") >= WINDOWS && compared("records") < put, "{found} of {put} records");
    let none = json!({ "outputs": 0, "keys": 0, "timers": 0, "failures": 0 });
    ensure!(found["differences"] == none && found["examples"] == json!([]), "{found}");
    println!("{} windows, {} of {put} records compared", compared("windows"), compared("records"));
    job.stop()
}

#[test]
fn nor_does_one_of_logic_that_is_slow_to_fail() -> Result<()> {
    let mut job = Started::new(json!({ "slow": "1000000" }), "kpl")?;
    let number = job.shadow(json!({}), 100)?;
    job.put_apart(1_000)?;
    let poisoned: Vec<_> = (0..KEYS).map(|key| entry(&format!("key{key}"), "poison")).collect();
    job.stage.put("in", &poisoned)?;
    wait_for("what is poisoned to be set aside", LIMIT, || {
        // The host may still be starting.
        Ok((job.api.fates(JOB).unwrap_or_default().get("dead") == Some(&KEYS)).then_some(()))
    })?;
    let found = job.findings()?;
    ensure!(found["deployment"] == number && found["compared"]["calls"].as_u64() > Some(0), "{found}");
    let none = json!({ "outputs": 0, "keys": 0, "timers": 0, "failures": 0 });
    ensure!(found["differences"] == none && found["examples"] == json!([]), "{found}");
    job.stop()
}

#[test]
fn what_differs_is_told_and_none_of_it_is_kept_or_sent() -> Result<()> {
    const RECORDS: u64 = 2_000;
    let mut job = Started::new(json!({ "output": "out", "timers": "1" }), "raw")?;
    let number = job.shadow(json!({ "doubled": "1" }), 100)?;
    job.put_apart(RECORDS)?;
    let mut state = job.check()?;
    let found = job.findings()?;
    let differences = &found["differences"];
    ensure!(differences["outputs"] == RECORDS && differences["keys"].as_u64() >= Some(KEYS), "{found}");
    ensure!(differences["timers"] == 0 && differences["failures"] == 0, "{found}");
    ensure!(found["compared"]["timers"] == RECORDS, "{found}");
    let examples = found["examples"].as_array().context("examples")?;
    ensure!(examples.len() == 10, "{found}");
    let output = examples.iter().find(|example| example["kind"] == "output").context("an output")?;
    ensure!(output["live"] == "1" && output["shadow"] == "another", "{output}");
    ensure!(output["what"].as_str().is_some_and(|what| what.starts_with("out: key")), "{output}");
    ensure!(output["given"].as_str().is_some_and(|given| given.starts_with("in shardId-")), "{output}");

    // What it emitted went nowhere, and its timers were not its own.
    let out = wait_for("the outputs", LIMIT, || {
        let out = job.stage.run(streams::read_all(&job.stage.kinesis, "out"))?;
        Ok((out.len() as u64 >= RECORDS).then_some(out))
    })?;
    ensure!(out.len() as u64 == RECORDS && out.iter().all(|(_, data)| data != b"another"), "{} outputs", out.len());
    wait_for("the timers to be fired", LIMIT, || {
        state = job.api.counts(JOB)?;
        let fired: u64 = state.iter().filter(|(key, _)| key.starts_with(b"f/")).map(|(_, fired)| *fired).sum();
        Ok((fired == RECORDS).then_some(()))
    })?;
    ensure!(job.findings()?["differences"]["keys"] == differences["keys"], "timers did the same");

    // There is one of the two at a time, and a way out of each.
    let canary = json!({ "component": job.component, "config": job.config, "canary": { "percent": 50 } });
    let (status, problem) = job.ask("POST", "deployments", &canary)?;
    ensure!(status == 409 && problem["detail"].as_str().is_some_and(|what| what.contains("as a shadow")), "{problem}");
    let both = json!({ "component": job.component, "canary": { "percent": 50 }, "shadow": {} });
    ensure!(job.ask("POST", "deployments", &both)?.0 == 400);
    let (status, rollout) = job.ask("DELETE", "shadow", &json!(null))?;
    ensure!(status == 200 && rollout["shadow"].is_null() && rollout["current"] == 1, "{rollout}");
    ensure!(job.ask("GET", "shadow", &json!(null))?.0 == 409);
    job.shadow(json!({ "doubled": "1" }), 100)?;
    job.put_apart(RECORDS)?;
    job.check()?;
    // Another takes its place while there is an instance of it in every task.
    let again = job.shadow(json!({ "doubled": "1" }), 100)?;
    let (status, rollout) = job.ask("POST", &format!("deployments/{again}/promote"), &json!(null))?;
    ensure!(status == 200 && rollout["current"] == again && rollout["previous"] == 1, "{rollout}");
    ensure!(rollout["shadow"].is_null() && again == number + 2, "{rollout}");
    wait_for("every task to change", LIMIT, || {
        Ok(job.api.tasks(JOB)?.iter().all(|task| task["deployment"] == again).then_some(()))
    })?;
    job.stop()
}

#[test]
fn one_that_traps_or_loops_holds_up_nobody() -> Result<()> {
    const RECORDS: u64 = 30_000;
    let mut job = Started::new(json!({}), "raw")?;
    let folded = |job: &mut Started| {
        let began = Instant::now();
        job.put(RECORDS)?;
        job.check()?;
        anyhow::Ok(began.elapsed())
    };
    let alone = folded(&mut job)?;
    for (flaw, late) in [("flawed", false), ("stuck", true)] {
        job.shadow(json!({ flaw: "1" }), 5)?;
        let mut rounds = 0;
        let found = loop {
            rounds += 1;
            let in_time = |beside| beside < alone * 2 + Duration::from_secs(3);
            let mut beside = folded(&mut job)?;
            if !in_time(beside) {
                // A busy disk may hold up one: the longer of two more counts.
                beside = folded(&mut job)?.max(folded(&mut job)?);
            }
            // What it costs `make bench` measures; a loop that were let go on would take seconds each time.
            ensure!(in_time(beside), "{flaw}: {beside:?} after {alone:?}");
            let found = job.findings()?;
            if found["differences"]["failures"].as_u64() > Some(0) || rounds == 20 {
                break found;
            }
        };
        ensure!(found["differences"]["failures"].as_u64() > Some(0), "{flaw}: {found}");
        ensure!((found["late"].as_u64() > Some(0)) == late, "{flaw}: {found}");
    }
    births(&job.stage)?;
    job.stop()
}

/// Every instance's first call is the first of a commit, which says that it was born there. Of the log that stands.
fn births(stage: &Stage) -> Result<()> {
    let items = stage.run(table::items(&table::client(&stage.servers.dynamodb()), "pelton-test"))?;
    let mut births = 0;
    for item in items {
        let Some(AttributeValue::S(sk)) = item.get("sk") else { continue };
        let Some(AttributeValue::B(data)) = item.get("data").filter(|_| sk.starts_with("log/")) else { continue };
        let commit = codec::decode(&data.as_ref().to_vec().into(), &[])?;
        for (at, invocation) in commit.invocations.iter().enumerate() {
            ensure!(!invocation.born || at == 0, "an instance was born amid commit {}", commit.number);
            ensure!(invocation.born == (commit.born == commit.number) || at > 0, "commit {}", commit.number);
            births += u64::from(invocation.born);
        }
    }
    ensure!(births > TASKS, "{births} births");
    Ok(())
}
