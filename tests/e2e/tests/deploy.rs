//! Deployments on a running job: swapped under load, with kills and reshards, each commit by the deployment that it names;
//! what cannot run refused without a trace.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use pelton_e2e::api::Api;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, component, wait_for};
use pelton_e2e::servers::free_port;
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::swapping::{JOB, LIMIT, Started, ask, current, digest, logs, pins, start};
use pelton_e2e::{streams, table};
use serde_json::{Value, json};

const COMMIT: Duration = Duration::from_millis(50);
const TASKS: u64 = 64;
const SWAPS: usize = 20;
/// Records put between two swaps.
const RECORDS: u64 = 400;

#[test]
fn each_commit_is_folded_by_the_deployment_it_names() -> Result<()> {
    let Started { stage, host, mut process, api, mut feed } = start(4, TASKS, COMMIT, RECORDS)?;
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
        if swap % 8 == 2 {
            // Amid the swap.
            process = killed_and_started(process, &host, &api, &rollout)?;
        }
        wait_for("every task to change", LIMIT, || Ok(pins(&api)?.keys().eq([&runs]).then_some(())))?;
        match swap % 5 {
            1 => stage.run(streams::split(&stage.kinesis, "in", swap))?,
            3 => stage.run(streams::merge(&stage.kinesis, "in", swap))?,
            _ => {}
        }
        feed.put(&stage, RECORDS / 2)?;
        if swap % 8 == 6 {
            process = killed_and_started(process, &host, &api, &rollout)?;
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

/// The host killed and started anew, with what the tasks are to run as it was.
fn killed_and_started(mut process: Process, host: &HostFiles, api: &Api, rollout: &Value) -> Result<Process> {
    process.kill()?;
    let process = host.start(&[])?;
    wait_for("the host to answer", LIMIT, || Ok(current(api).ok()))?;
    let standing = current(api)?;
    ensure!(standing == *rollout, "a restart changes what runs: {standing} after {rollout}");
    Ok(process)
}

/// Every commit's records are marked with the version of the deployment that it names. The log of so few commits is whole.
fn check_commits(stage: &Stage) -> Result<()> {
    let (mut marked, mut swaps) = (0, 0);
    for log in logs(stage)?.values() {
        for commit in log {
            for (key, value) in commit.writes.iter().filter(|(key, _)| key[1..].starts_with(b"v/")) {
                let version = u64::from_be_bytes(value.as_deref().context("a version")?.try_into()?);
                ensure!(version == commit.deployment.0, "{key:?} by {version} in a commit of {}", commit.deployment);
                marked += 1;
            }
        }
        let pins: Vec<u64> =
            log.iter().filter(|commit| !commit.invocations.is_empty()).map(|commit| commit.deployment.0).collect();
        swaps += pins.windows(2).filter(|pair| pair[0] != pair[1]).count();
    }
    ensure!(marked > 1_000 && swaps > 300, "{marked} records marked, {swaps} swaps in the logs");
    Ok(())
}

#[test]
fn what_cannot_run_is_refused_and_changes_nothing() -> Result<()> {
    let Started { stage, mut process, api, mut feed, .. } = start(1, 4, COMMIT, 100)?;
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
fn a_host_that_cannot_load_what_it_is_to_run_begins_with_what_ran_before() -> Result<()> {
    let Started { stage, host, mut process, api, mut feed } = start(1, 4, COMMIT, 100)?;
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
