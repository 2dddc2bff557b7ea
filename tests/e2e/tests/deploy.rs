//! Deployments on a running job: swapped under load, with kills and reshards, each commit by the deployment that it names;
//! what cannot run refused without a trace; a canary that fails taking itself back.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use pelton_core::codec;
use pelton_e2e::api::Api;
use pelton_e2e::events::Watch;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, component, wait_for};
use pelton_e2e::servers::free_port;
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::{streams, table};
use serde_json::{Value, json};

const JOB: &str = "swapping";
const LIMIT: Duration = Duration::from_secs(60);
const TASKS: u64 = 64;
const KEYS: u64 = 200;
const SWAPS: usize = 20;
/// Records put between two swaps.
const RECORDS: u64 = 400;

/// Numbers put so far, by key.
#[derive(Default)]
struct Feed {
    put: BTreeMap<String, u64>,
    next: u64,
}

impl Feed {
    /// Waits until no more than so many records are not folded.
    fn wait(&self, api: &Api, left: u64) -> Result<BTreeMap<Vec<u8>, u64>> {
        let put: u64 = self.put.values().sum();
        wait_for("the records to be folded", LIMIT, || {
            let state = api.counts(JOB).unwrap_or_default();
            let counts = state.iter().filter(|(key, _)| key.starts_with(b"n/"));
            Ok((counts.map(|(_, count)| *count).sum::<u64>() + left >= put).then_some(state))
        })
    }

    /// Waits until all of it is folded and committed, and expects each record to be folded once and in its order.
    fn check(&self, api: &Api) -> Result<BTreeMap<Vec<u8>, u64>> {
        let state = self.wait(api, 0)?;
        ensure!(!state.keys().any(|key| key.starts_with(b"d/")), "records came out of order");
        for (key, numbers) in &self.put {
            let count = state.get(format!("n/{key}").as_bytes());
            ensure!(count == Some(numbers), "{key}: {count:?} folded of {numbers}");
        }
        ensure!(api.dead_letters(JOB)?.is_empty(), "dead letters");
        Ok(state)
    }

    fn put(&mut self, stage: &Stage, records: u64) -> Result<()> {
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
struct Started {
    stage: Stage,
    host: HostFiles,
    process: Process,
    api: Api,
    feed: Feed,
}

fn start(shards: i32, tasks: u64, records: u64) -> Result<Started> {
    let stage = Stage::set(&[("in", shards)])?;
    let ledger = component("ledger")?;
    let host = stage.host(
        "host",
        &format!(
            "[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = {tasks}\ncomponent = {ledger:?}\ncommit-interval = \"50ms\"\n\
             [jobs.{JOB}.config]\nversion = 1\n"
        ),
    )?;
    let (process, api, mut feed) = (host.start(&[])?, host.api()?, Feed::default());
    feed.put(&stage, records)?;
    feed.check(&api)?;
    Ok(Started { stage, host, process, api, feed })
}

fn ask(api: &Api, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
    api.ask_of(JOB, method, path, body)
}

fn current(api: &Api) -> Result<Value> {
    let (status, rollout) = api.get(&format!("/v1/jobs/{JOB}/rollout"))?;
    ensure!(status == 200, "{rollout}");
    Ok(rollout)
}

/// The digest of what the job runs now.
fn digest(api: &Api) -> Result<String> {
    let (_, job) = api.get(&format!("/v1/jobs/{JOB}"))?;
    Ok(job["component"].as_str().context("a component")?.to_owned())
}

/// How many tasks run each deployment.
fn pins(api: &Api) -> Result<BTreeMap<u64, usize>> {
    let mut pins = BTreeMap::new();
    for task in api.tasks(JOB)? {
        *pins.entry(task["deployment"].as_u64().context("a deployment")?).or_default() += 1;
    }
    Ok(pins)
}

#[test]
fn each_commit_is_folded_by_the_deployment_it_names() -> Result<()> {
    let Started { stage, host, mut process, api, mut feed } = start(4, TASKS, RECORDS)?;
    let component = digest(&api)?;
    let (status, made) =
        ask(&api, "POST", "deployments", &json!({ "component": component, "config": { "version": "2" } }))?;
    ensure!(status == 201 && made["deployment"] == 2, "{made}");

    for swap in 0..SWAPS {
        // Most of what was put is folded, and some is on its way.
        feed.put(&stage, RECORDS / 2)?;
        feed.wait(&api, RECORDS / 2)?;
        // By turns, back to what was run before.
        let runs = swap as u64 % 2 + 1;
        let (status, rollout) = ask(&api, "POST", &format!("deployments/{runs}/rollback"), &json!(null))?;
        ensure!(status == 200 && rollout["current"] == runs, "{rollout}");
        wait_for("every task to change", LIMIT, || Ok(pins(&api)?.keys().eq([&runs]).then_some(())))?;
        match swap % 5 {
            1 => stage.run(streams::split(&stage.kinesis, "in", swap))?,
            3 => stage.run(streams::merge(&stage.kinesis, "in", swap))?,
            _ => {}
        }
        feed.put(&stage, RECORDS / 2)?;
        if swap % 4 == 2 {
            process.kill()?;
            process = host.start(&[])?;
            wait_for("the host to answer", LIMIT, || Ok(current(&api).ok()))?;
            let standing = current(&api)?;
            ensure!(standing == rollout, "a restart changes what runs: {standing} after {rollout}");
        }
    }
    let state = feed.check(&api).with_context(|| process.said().unwrap_or_default())?;
    let folded: u64 = feed.put.values().sum();
    let versions = state.iter().filter(|(key, _)| key.starts_with(b"v/")).map(|(_, version)| *version);
    let (ones, twos): (Vec<u64>, Vec<u64>) = versions.partition(|version| *version == 1);
    ensure!(ones.len() + twos.len() == folded as usize, "{} and {} of {folded}", ones.len(), twos.len());
    ensure!(ones.len() > 100 && twos.len() > 100, "both versions folded: {} and {}", ones.len(), twos.len());
    check_commits(&stage)?;
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}

/// Every commit's records are marked with the version of the deployment that it names. The log of so few commits is whole.
fn check_commits(stage: &Stage) -> Result<()> {
    let items = stage.run(table::items(&table::client(&stage.servers.dynamodb()), "pelton-test"))?;
    let (mut marked, mut swaps) = (0, 0);
    let mut logs: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for item in items {
        let (Some(AttributeValue::S(pk)), Some(AttributeValue::S(sk))) = (item.get("pk"), item.get("sk")) else {
            continue;
        };
        let Some(AttributeValue::B(data)) = item.get("data").filter(|_| sk.starts_with("log/")) else { continue };
        let commit = codec::decode(&data.as_ref().to_vec().into(), &[])?;
        for (key, value) in commit.writes.iter().filter(|(key, _)| key[1..].starts_with(b"v/")) {
            let version = u64::from_be_bytes(value.as_deref().context("a version")?.try_into()?);
            ensure!(version == commit.deployment.0, "{key:?} by {version} in a commit of {}", commit.deployment);
            marked += 1;
        }
        if !commit.invocations.is_empty() {
            logs.entry(pk.clone()).or_default().insert(sk.clone(), commit.deployment.0);
        }
    }
    for log in logs.values() {
        let pins: Vec<u64> = log.values().copied().collect();
        swaps += pins.windows(2).filter(|pair| pair[0] != pair[1]).count();
    }
    ensure!(marked > 1_000 && swaps > 300, "{marked} records marked, {swaps} swaps in the logs");
    Ok(())
}

#[test]
fn what_cannot_run_is_refused_and_changes_nothing() -> Result<()> {
    let Started { stage, mut process, api, mut feed, .. } = start(1, 4, 100)?;
    let (component, before) = (digest(&api)?, current(&api)?);

    let unknown = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";
    let refusals = [
        (json!({ "component": unknown }), 404, "is kept"),
        (json!({ "component": component, "config": { "broken": "1" } }), 422, "its init failed: told to"),
        (json!({ "component": component, "limits": { "memory_bytes": 1_048_576 } }), 422, "memory"),
        (json!({ "component": component, "limits": { "memory_bytes": 1 } }), 400, "memory_bytes is 1"),
        (json!({ "component": component, "limits": { "fuel": 1 } }), 400, "fuel"),
        (json!({ "component": component, "canary": { "percent": 0 } }), 400, "percent is 0"),
        (json!({ "component": component, "canary": { "tasks": [4] } }), 400, "tasks 0 to 3"),
        (json!({ "component": "what" }), 400, "digest"),
    ];
    for (body, expected, why) in refusals {
        let (status, problem) = ask(&api, "POST", "deployments", &body)?;
        let detail = problem["detail"].as_str().unwrap_or_default();
        ensure!(status == expected && detail.contains(why), "{body}: {status} {problem}");
    }
    let (status, problem) = ask(&api, "POST", "rollback", &json!(null))?;
    ensure!(status == 409, "{problem}");
    let (status, problem) = ask(&api, "POST", "deployments/9/rollback", &json!(null))?;
    ensure!(status == 404, "{problem}");
    let (status, problem) = ask(&api, "POST", "deployments/1/promote", &json!(null))?;
    ensure!(status == 409, "{problem}");
    ensure!(current(&api)? == before, "what was refused changed what runs");
    feed.put(&stage, 100)?;
    feed.check(&api)?;
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}

#[test]
fn a_canary_that_fails_takes_itself_back() -> Result<()> {
    let Started { stage, mut process, api, mut feed, .. } = start(2, 8, 400)?;
    let component = digest(&api)?;

    let flawed = json!({
        "component": component, "config": { "version": "2", "flawed": "1" }, "canary": { "tasks": [1, 3, 5] }
    });
    let (status, made) = ask(&api, "POST", "deployments", &flawed)?;
    ensure!(status == 201, "{made}");
    wait_for("the canary to be tried", LIMIT, || Ok((pins(&api)?.get(&2) == Some(&3)).then_some(())))?;
    feed.put(&stage, 600)?;
    wait_for("the canary to be taken back", LIMIT, || {
        Ok((current(&api)?["canary"].is_null() && pins(&api)?.keys().eq([&1])).then_some(()))
    })?;
    feed.check(&api).context("a canary sets no dead letters, and loses nothing")?;

    // One that does not fail is for all in the end.
    let good = json!({ "component": component, "config": { "version": "3" }, "canary": { "percent": 25 } });
    let (status, made) = ask(&api, "POST", "deployments", &good)?;
    ensure!(status == 201 && made["deployment"] == 3, "{made}");
    wait_for("the canary to be tried", LIMIT, || Ok((pins(&api)?.get(&3) == Some(&2)).then_some(())))?;
    let (status, rollout) = ask(&api, "POST", "deployments/3/promote", &json!(null))?;
    ensure!(status == 200 && rollout["current"] == 3 && rollout["previous"] == 1, "{rollout}");
    feed.put(&stage, 400)?;
    wait_for("every task to change", LIMIT, || Ok(pins(&api)?.keys().eq([&3]).then_some(())))?;
    feed.check(&api)?;
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}

#[test]
fn a_canary_that_does_worse_than_its_rule_bears_is_taken_back() -> Result<()> {
    let Started { stage, process: _process, api, mut feed, .. } = start(2, 8, 400)?;
    let component = digest(&api)?;
    let events = Watch::begin(&api, None)?;
    let mut goes_back = |config: Value, rule: Value, words: &str| -> Result<()> {
        let mut canary = json!({ "tasks": [1, 4, 6], "failures_max": 1_000 });
        canary.as_object_mut().context("an object")?.append(rule.clone().as_object_mut().context("an object")?);
        let body = json!({ "component": component, "config": config, "canary": canary });
        let (status, made) = ask(&api, "POST", "deployments", &body)?;
        ensure!(status == 201, "{made}");
        // An instance's first call does not count, however many records it is given: others have to follow.
        wait_for("the canary to be judged", LIMIT, || {
            feed.put(&stage, 1_000)?;
            std::thread::sleep(Duration::from_millis(200));
            Ok(current(&api)?["canary"].is_null().then_some(()))
        })?;
        let failed = events.wait("the canary to fail", LIMIT, |event| event.name == "canary-failed")?;
        let cause = failed.data["cause"].as_str().unwrap_or_default();
        ensure!(failed.data["deployment"] == made["deployment"] && failed.data["task"].is_null(), "{failed:?}");
        ensure!(cause.contains(words), "{cause}");
        wait_for("the canary to be taken back", LIMIT, || {
            Ok((current(&api)?["canary"].is_null() && pins(&api)?.keys().eq([&1])).then_some(()))
        })?;
        feed.check(&api)?;
        Ok(())
    };
    goes_back(json!({ "slow": "100000" }), json!({ "slower_percent": 300 }), "300 % longer")?;
    goes_back(json!({ "flawed": "yes" }), json!({ "errors_percent": 5 }), "more than 5 beyond them")?;
    for (rule, words) in [
        (json!({ "tasks": [1], "slower_percent": 0 }), "canary.slower_percent is 0; from 1 to 10000"),
        (json!({ "tasks": [1], "errors_percent": 101 }), "canary.errors_percent is 101; from 1 to 100"),
        (json!({ "percent": 100, "slower_percent": 5 }), "a canary of all leaves none"),
    ] {
        let (status, problem) = ask(&api, "POST", "deployments", &json!({ "component": component, "canary": rule }))?;
        ensure!(status == 400 && problem["detail"].as_str().unwrap_or_default().contains(words), "{problem}");
    }
    Ok(())
}

#[test]
fn a_host_that_cannot_load_what_it_is_to_run_begins_with_what_ran_before() -> Result<()> {
    let Started { stage, host, mut process, api, mut feed } = start(1, 4, 100)?;
    let (status, pushed) = api.put("/v1/components", rebuilt(&std::fs::read(component("ledger")?)?))?;
    ensure!(status == 201, "{pushed}");
    let (status, made) = ask(&api, "POST", "deployments", &json!({ "component": pushed["digest"] }))?;
    ensure!(status == 201 && made["deployment"] == 2, "{made}");
    process.kill()?;

    // The component is lost, in the table and as compiled here.
    let client = table::client(&stage.servers.dynamodb());
    let digest = pushed["digest"].as_str().context("a digest")?.trim_start_matches("sha256:");
    let key = |name: &str| AttributeValue::S(name.to_owned());
    let delete = client.delete_item().table_name("pelton-test").key("pk", key(&format!("component/{digest}")));
    stage.run(delete.key("sk", key("head")).send())?;
    std::fs::remove_dir_all(host.data.join("compiled"))?;
    let mut process = host.start(&[])?;
    wait_for("the job to run", LIMIT, || Ok(current(&api).ok()))?;
    let (_, job) = api.get(&format!("/v1/jobs/{JOB}"))?;
    let refusal = job["refusal"].as_str().context("a refusal")?;
    ensure!(job["deployment"] == 1 && refusal.contains("is kept"), "{job}");
    feed.put(&stage, 100)?;
    feed.check(&api)?;

    // And it can be set right from there.
    let (status, rollout) = ask(&api, "POST", "rollback", &json!(null))?;
    ensure!(status == 200 && rollout["current"] == 1 && rollout["previous"].is_null(), "{rollout}");
    // Asked for twice it leads nowhere else.
    ensure!(ask(&api, "POST", "rollback", &json!(null))?.0 == 409);
    wait_for("the refusal to be over", LIMIT, || {
        let (_, job) = api.get(&format!("/v1/jobs/{JOB}"))?;
        Ok(job["refusal"].is_null().then_some(()))
    })?;
    feed.put(&stage, 100)?;
    feed.check(&api)?;
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}

/// A component with the same logic and another digest: what tools leave out of it changes.
fn rebuilt(component: &[u8]) -> Vec<u8> {
    let section = [0, 5, 4, b'n', b'o', b't', b'e'];
    [component, &section].concat()
}

#[test]
fn dev_swaps_in_a_component_whose_file_changes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, config, log) =
        (folder.path().join("task.wasm"), folder.path().join("pelton.toml"), folder.path().join("log"));
    let bytes = std::fs::read(component("ledger")?)?;
    std::fs::write(&file, &bytes)?;
    let (port, kinesis_port, dynamodb_port) = (free_port()?, free_port()?, free_port()?);
    std::fs::write(
        &config,
        format!(
            "[host]\nlisten = \"127.0.0.1:{port}\"\n[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = 4\ncomponent = {file:?}\n\
             commit-interval = \"50ms\"\n"
        ),
    )?;
    let (kinesis, dynamodb) = (kinesis_port.to_string(), dynamodb_port.to_string());
    let config = config.to_string_lossy();
    let args = ["dev", "-c", &config, "--watch", "--kinesis-port", &kinesis, "--dynamodb-port", &dynamodb];
    let mut process = Process::start(&args, &[], &log)?;
    let api = Api::at(port)?;
    wait_for("the job to run", LIMIT, || Ok(current(&api).ok()))?;
    let client = streams::client(&format!("http://127.0.0.1:{kinesis_port}"));
    let runtime = tokio::runtime::Runtime::new()?;
    let put = |first: u64| {
        let records: Vec<_> = (first..first + 100).map(|number| entry("key", &number.to_string())).collect();
        runtime.block_on(streams::put(&client, "in", &records))
    };
    let counted = |expected: u64| {
        wait_for("the records to be folded", LIMIT, || {
            let state = api.counts(JOB).unwrap_or_default();
            Ok((state.get(b"n/key".as_slice()) == Some(&expected)).then_some(()))
        })
    };
    put(1)?;
    counted(100)?;
    std::fs::write(&file, rebuilt(&bytes))?;
    wait_for("the rebuilt component to run", LIMIT, || Ok(pins(&api)?.keys().eq([&2]).then_some(())))?;
    put(101)?;
    counted(200)?;
    // What cannot run is told, and changes nothing.
    std::fs::write(&file, &bytes[..1_000])?;
    wait_for("the failure to be told", LIMIT, || {
        Ok(process.said()?.contains("goes on with what it runs").then_some(()))
    })?;
    ensure!(pins(&api)?.keys().eq([&2]));
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}
