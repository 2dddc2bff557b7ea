//! Deployments on a running job: swapped under load, with kills and reshards, each commit by the deployment that it names;
//! what cannot run refused without a trace.

use std::time::Duration;

use anyhow::{Context as _, Error, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use pelton_aws::{AwsSettings, DynamoDeployments, DynamoTable};
use pelton_e2e::api::Api;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, component, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::swapping::{Feed, JOB, LIMIT, Started, ask, current, digest, logs, pins, rebuilt, start};
use pelton_e2e::{streams, table};
use pelton_engine::ports::{Deployments as _, PutOutcome};
use pelton_engine::{DeploymentContent, Grants, GuestLimits, digest_of};
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
    let (status, pushed) = api.put("/v1/components", rebuilt(&std::fs::read(component("ledger")?)?, 1))?;
    ensure!(status == 201, "{pushed}");
    let (status, made) = ask(&api, "POST", "deployments", &json!({ "component": pushed["digest"] }))?;
    ensure!(status == 201 && made["deployment"] == 2, "{made}");
    process.kill()?;

    // A compiler that dies says nothing of the component, which is waited for.
    let mut lives = 0;
    while !process.said()?.contains("waits for deployment 2: component") {
        lives += 1;
        ensure!(lives < 20, "no compiler was seen: {}", process.said()?);
        std::fs::remove_dir_all(host.data.join("compiled"))?;
        process = host.start(&[])?;
        wait_for("the job to run, or a compiler to be killed", LIMIT, || {
            Ok((process.kill_children()? > 0 || current(&api).is_ok()).then_some(()))
        })?;
        wait_for("the job to run", LIMIT, || Ok(current(&api).ok()))?;
        let (_, job) = api.get(&format!("/v1/jobs/{JOB}"))?;
        ensure!(job["deployment"] == 2 && job["refusal"].is_null(), "{job}");
        process.kill()?;
    }

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

#[test]
fn a_first_deployment_that_cannot_begin_is_none() -> Result<()> {
    let (stage, folder) = (Stage::set(&[("in", 1)])?, tempfile::tempdir()?);
    let (file, bytes) = (folder.path().join("task.wasm"), std::fs::read(component("ledger")?)?);
    std::fs::write(&file, &bytes)?;
    let broken = "broken = 1\n";
    let job =
        format!("[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = 2\ncomponent = {file:?}\n[jobs.{JOB}.config]\n{broken}");
    let host = stage.host("host", &job)?;
    let mut process = host.start(&[])?;
    let (ended, said) = (process.wait(LIMIT)?, process.said()?);
    ensure!(!ended.success() && said.contains(JOB) && said.contains("its init failed: told to"), "{ended}: {said}");

    // What is set right is the first, with the component that there is now, and nothing was passed by meanwhile.
    let (api, mut feed) = (host.api()?, Feed::default());
    feed.put(&stage, 100)?;
    let mended = rebuilt(&bytes, 1);
    std::fs::write(&file, &mended)?;
    std::fs::write(&host.config, std::fs::read_to_string(&host.config)?.replace(broken, "version = 1\n"))?;
    let mut process = host.start(&[])?;
    let state = feed.check(&api)?;
    ensure!(state == feed.fold(|_, _| 1), "{state:?}");
    ensure!(current(&api)?["current"] == 1 && digest(&api)? == format!("sha256:{}", digest_of(&mended)));
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}

#[test]
fn what_cannot_begin_on_the_state_of_now_is_gone_back_to_by_a_rewind_alone() -> Result<()> {
    let stage = Stage::set(&[("in", 1)])?;
    let host = stage.host(
        "host",
        &format!(
            "[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = 1\ncomponent = {:?}\ncommit-interval = \"50ms\"\n\
             [jobs.{JOB}.config]\ngreeting = \"hello\"\nat-init = \"absent\"\n",
            component("stores")?
        ),
    )?;
    let (_process, api) = (host.start(&[])?, host.api()?);
    api.wait_caught_up(JOB, LIMIT)?;
    let body = json!({ "component": digest(&api)?, "config": { "greeting": "hello" } });
    let (status, made) = ask(&api, "POST", "deployments", &body)?;
    ensure!(status == 201, "{made}");
    stage.put("in", &[entry("ada", "count")])?;
    wait_for("the record to be folded and committed", LIMIT, || {
        Ok(api.state(JOB)?.iter().any(|(_, key, _)| key == b"count/ada").then_some(()))
    })?;
    let standing = current(&api)?;
    let (status, problem) = ask(&api, "POST", "rollback", &json!(null))?;
    let why = problem["detail"].as_str().unwrap_or_default();
    ensure!(status == 422 && why.contains("its init failed: count/ada is there"), "{problem}");
    ensure!(current(&api)? == standing && pins(&api)?.keys().eq([&2]));
    let (status, rollout) = ask(&api, "POST", "rollback?rewind=true", &json!(null))?;
    ensure!(status == 200 && rollout["current"] == 1, "{rollout}");
    wait_for("the task to go back", LIMIT, || Ok(pins(&api)?.keys().eq([&1]).then_some(())))?;
    // There it begins, and does not take the record again: it counts only where it has one setting.
    wait_for("what was counted to be undone", LIMIT, || Ok(api.state(JOB)?.is_empty().then_some(())))?;
    ensure!(api.tasks(JOB)?[0]["phase"] == "running");
    Ok(())
}

#[test]
fn a_restart_with_an_older_configuration_changes_nothing() -> Result<()> {
    let Started { stage, host, mut process, api, mut feed } = start(1, 4, COMMIT, 100)?;
    let ledger = component("ledger")?;
    let (status, pushed) = api.put("/v1/components", rebuilt(&std::fs::read(&ledger)?, 1))?;
    ensure!(status == 201, "{pushed}");
    let content = json!({
        "component": pushed["digest"], "config": { "version": "2" }, "limits": { "batch_timeout_ms": 4_000 },
    });
    let (status, made) = ask(&api, "POST", "deployments", &content)?;
    ensure!(status == 201 && made["deployment"] == 2, "{made}");
    wait_for("every task to change", LIMIT, || Ok(pins(&api)?.keys().eq([&2]).then_some(())))?;
    let by_the_first = feed.put.clone();
    let deployments = || Ok::<_, Error>(ask(&api, "GET", "deployments", &json!(null))?.1);
    let (rollout, listed) = (current(&api)?, deployments()?);

    // It names a component that never ran here, the configuration of the first deployment, and limits of none.
    let text = std::fs::read_to_string(&host.config)?;
    let text = text.replace(&format!("{ledger:?}"), &format!("{:?}", component("word_count")?));
    std::fs::write(&host.config, format!("{text}[jobs.{JOB}.limits]\nbatch-timeout = \"3s\"\n"))?;
    process = killed_and_started(process, &host, &api, &rollout)?;
    feed.put(&stage, 100)?;
    let state = feed.check(&api)?;
    let expected =
        feed.fold(|key, number| if by_the_first.get(key).is_some_and(|first| number <= *first) { 1 } else { 2 });
    ensure!(state == expected, "{state:?}");
    ensure!(deployments()? == listed && pins(&api)?.keys().eq([&2]), "{listed} before, and {} now", deployments()?);
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}

#[test]
fn a_host_that_cannot_run_a_change_goes_on_and_says_so_until_it_can() -> Result<()> {
    let Started { stage, process: _process, api, mut feed, .. } = start(1, 4, COMMIT, 100)?;
    let bytes = rebuilt(&std::fs::read(component("ledger")?)?, 1);
    let (_, job) = api.get(&format!("/v1/jobs/{JOB}"))?;
    let incarnation = job["incarnation"].as_str().context("an incarnation")?.parse()?;
    // Another host deploys what is not kept, or not to be seen yet.
    let content = DeploymentContent {
        component: digest_of(&bytes),
        config: [("version".to_owned(), "2".to_owned())].into(),
        limits: GuestLimits::default(),
        grants: Grants::default(),
    };
    let settings = AwsSettings {
        region: Some("us-east-1".into()),
        kinesis_endpoint: Some(stage.servers.kinesis()),
        dynamodb_endpoint: Some(stage.servers.dynamodb()),
    };
    stage.run(async {
        let connections = pelton_aws::connect(&settings).await;
        let table = DynamoTable::open(connections.dynamodb.clone(), "pelton-test").await?;
        let deployments = DynamoDeployments::new(table, incarnation, connections.clock.clone());
        let made = deployments.add(&content).await?;
        let standing = deployments.rollout().await?.context("what the job runs")?;
        ensure!(deployments.set_rollout(&standing.deploy(made.number)).await? == PutOutcome::Applied);
        Ok(())
    })?;
    let refusal = || -> Result<Option<String>> {
        let (_, job) = api.get(&format!("/v1/jobs/{JOB}"))?;
        Ok(job["refusal"].as_str().map(str::to_owned))
    };
    let why = wait_for("the host to say that it cannot", LIMIT, refusal)?;
    ensure!(why.contains("is kept") && pins(&api)?.keys().eq([&1]), "{why}");
    feed.put(&stage, 100)?;
    feed.check(&api)?;

    let (status, pushed) = api.put("/v1/components", bytes)?;
    ensure!(status == 201, "{pushed}");
    wait_for("every task to change", LIMIT, || Ok(pins(&api)?.keys().eq([&2]).then_some(())))?;
    wait_for("the refusal to be over", LIMIT, || Ok(refusal()?.is_none().then_some(())))?;
    feed.put(&stage, 100)?;
    feed.check(&api)?;
    Ok(())
}

#[test]
fn of_those_made_at_once_the_one_with_the_highest_number_runs() -> Result<()> {
    const AT_ONCE: u64 = 6;
    let Started { api, stage: _stage, process: _process, .. } = start(1, 4, COMMIT, 10)?;
    let component = digest(&api)?;
    for round in 1..=5 {
        let made = std::thread::scope(|scope| {
            let deploy = |number: u64| {
                let body = json!({ "component": component, "config": { "version": number.to_string() } });
                let (status, made) = ask(&api, "POST", "deployments", &body)?;
                ensure!(status == 201, "{made}");
                made["deployment"].as_u64().context("a deployment")
            };
            let threads: Vec<_> = (1..=AT_ONCE).map(|number| scope.spawn(move || deploy(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("asking does not panic")).collect::<Result<Vec<_>>>()
        })?;
        ensure!(made.iter().max() == Some(&(1 + round * AT_ONCE)), "{made:?}");
        let rollout = current(&api)?;
        ensure!(rollout["current"] == 1 + round * AT_ONCE, "{made:?} were made, and {rollout} runs");
    }
    Ok(())
}

#[test]
fn a_component_that_no_job_needs_is_deleted_and_all_others_stay() -> Result<()> {
    /// A host looks a minute after its start, before which all is done that it is to find; and an hour later.
    const LOOKED: Duration = Duration::from_secs(100);
    let Started { stage, process: _process, api, .. } = start(1, 4, COMMIT, 10)?;
    let (runs, bytes) = (digest(&api)?, std::fs::read(component("ledger")?)?);
    let push = |number: u8| -> Result<String> {
        let (status, pushed) = api.put("/v1/components", rebuilt(&bytes, number))?;
        ensure!(status == 201, "{pushed}");
        Ok(pushed["digest"].as_str().context("a digest")?.to_owned())
    };
    let (long_ago, lately) = (push(1)?, push(2)?);
    let client = table::client(&stage.servers.dynamodb());
    for digest in [&runs, &long_ago] {
        let key = |name: &str| AttributeValue::S(name.to_owned());
        let update = client.update_item().table_name("pelton-test").update_expression("SET wanted_ms = :once");
        let update = update.key("pk", key(&format!("component/{}", digest.trim_start_matches("sha256:"))));
        let update = update.key("sk", key("head")).expression_attribute_values(":once", AttributeValue::N("1".into()));
        stage.run(update.send())?;
    }
    let status = |digest: &str| Ok::<_, Error>(api.get(&format!("/v1/components/{digest}"))?.0);
    wait_for("what nobody needs to be deleted", LOOKED, || Ok((status(&long_ago)? == 404).then_some(())))?;
    ensure!((status(&runs)?, status(&lately)?) == (200, 200), "what is needed or was pushed lately is deleted too");
    Ok(())
}
