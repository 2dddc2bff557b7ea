//! A canary on a running job: one that fails takes itself back within a commit interval, with nothing lost and nothing set aside; one
//! that committed nothing was never there; one that does well is for all.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pelton_core::codec::{self, SystemEntry};
use pelton_core::id::DeploymentNumber;
use pelton_core::slice::{HashKey, TaskCount};
use pelton_e2e::api::Api;
use pelton_e2e::events::Watch;
use pelton_e2e::process::{pelton_says, wait_for};
use pelton_e2e::stage::Stage;
use pelton_e2e::swapping::{Feed, JOB, KEYS, LIMIT, Started, ask, current, digest, logs, pins, start};
use serde_json::{Value, json};

/// Long beside what a way back takes, so that whoever waited for the next commit would be seen to.
const COMMIT: Duration = Duration::from_secs(2);
const TASKS: u16 = 8;
/// The tasks that try a canary.
const TRYING: [u64; 3] = [1, 3, 5];
/// What is said of a call that the ledger's `flawed` ends.
const FLAW: &str = "trapped";

/// Has some tasks try a version that traps at every third number of a key.
fn try_flawed(api: &Api) -> Result<()> {
    let flawed = json!({
        "component": digest(api)?, "config": { "version": "2", "flawed": "1" }, "canary": { "tasks": TRYING }
    });
    let (status, made) = ask(api, "POST", "deployments", &flawed)?;
    ensure!(status == 201 && made["deployment"] == 2, "{made}");
    wait_for("the canary to be tried", LIMIT, || Ok((pins(api)?.get(&2) == Some(&TRYING.len())).then_some(())))
}

/// When, by the host's clock, a task failed under the canary, in milliseconds since 1970.
fn failures(api: &Api, task: u64) -> Result<Vec<u64>> {
    let task = task.to_string();
    let args = ["--json", "logs", "--url", &api.base, JOB, "--deployment", "2", "--task", &task, "-n", "100000"];
    let (code, out, said) = pelton_says(&args)?;
    ensure!(code == 0, "{said}");
    let lines = out.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let of_host = lines.iter().filter(|line| line["source"] == "host");
    let failed = of_host.filter(|line| line["text"].as_str().unwrap_or_default().contains(FLAW));
    Ok(failed.filter_map(|line| line["at_ms"].as_u64()).collect())
}

/// Puts what the canary fails with, and expects that within a commit interval of its third failure in one task it is taken back: the
/// table says so, and each task that tried it runs the version before.
fn goes_back_in_time(stage: &Stage, api: &Api, feed: &mut Feed, records: u64) -> Result<()> {
    let events = Watch::begin(api, None)?;
    feed.put(stage, records)?;
    let (mut failed, mut is_over, mut gone, mut back_ms) = (None, false, BTreeSet::new(), 0);
    while !(failed.is_some() && is_over && gone.len() == TRYING.len()) {
        let event = events.wait("the canary to be taken back", LIMIT, |_| true)?;
        match event.name.as_str() {
            "canary-failed" => failed = failed.or(Some(event.data.clone())),
            "rollout" if event.data["canary"].is_null() => is_over = true,
            "swapped" if event.data["deployment"] == 1 => gone.extend(event.data["task"].as_u64()),
            _ => continue,
        }
        back_ms = back_ms.max(event.data["at_ms"].as_u64().context("an event has its time")?);
    }
    ensure!(gone.iter().eq(&TRYING), "{gone:?} went back");
    let failed = failed.context("it failed")?;
    let cause = failed["cause"].as_str().unwrap_or_default();
    ensure!(failed["deployment"] == 2 && cause.contains(FLAW), "{failed}");
    let times = failures(api, failed["task"].as_u64().context("it failed in a task")?)?;
    ensure!(times.len() == 3, "task {} failed at {times:?}", failed["task"]);
    for task in TRYING {
        ensure!(failures(api, task)?.len() <= 3, "task {task} failed on after its third failure");
    }
    let took = Duration::from_millis(back_ms.checked_sub(times[2]).context("it is taken back after it failed")?);
    println!("taken back {} ms after the third failure", took.as_millis());
    ensure!(took < COMMIT, "it was taken back {took:?} after its third failure, at {times:?}");
    wait_for("the canary to be run by nobody", LIMIT, || Ok(pins(api)?.keys().eq([&1]).then_some(())))
}

/// Expects no log to have a commit by the canary, nor a task to keep that it ran it. The logs of so few commits are whole.
fn is_in_no_log(stage: &Stage) -> Result<()> {
    let logs = logs(stage)?;
    ensure!(logs.len() == usize::from(TASKS), "{} logs", logs.len());
    for (task, log) in &logs {
        let mut pinned = Vec::new();
        for commit in log {
            ensure!(commit.deployment != DeploymentNumber(2), "{task}: commit {} is of the canary", commit.number);
            let Some(Some(pins)) = commit.writes.get(&codec::pins_key()) else { continue };
            let SystemEntry::Pins(pins) = codec::decode_system(&codec::pins_key(), pins.clone())? else {
                bail!("{task}: commit {} has no pins where they are kept", commit.number);
            };
            pinned = pins.kept.iter().map(|pin| pin.deployment.0).collect();
            ensure!(pinned == [1], "{task}: commit {} keeps that it ran {pinned:?}", commit.number);
        }
        ensure!(!pinned.is_empty(), "{task} does not keep what it ran");
    }
    Ok(())
}

#[test]
fn a_canary_that_fails_before_it_commits_was_never_there() -> Result<()> {
    // Two numbers of each key, so that the next one is the third.
    let Started { stage, mut process, api, mut feed, .. } = start(2, TASKS.into(), COMMIT, 2 * KEYS)?;
    let before = current(&api)?;
    try_flawed(&api)?;
    goes_back_in_time(&stage, &api, &mut feed, 3 * KEYS)?;
    ensure!(feed.check(&api)? == feed.fold(|_, _| 1), "the state is not the fold by the first version alone");
    let after = current(&api)?;
    ensure!(["current", "previous", "shadow"].iter().all(|what| before[what] == after[what]), "{before} {after}");
    is_in_no_log(&stage)?;
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}

#[test]
fn what_a_canary_committed_before_it_failed_stays_and_one_that_does_not_fail_is_for_all() -> Result<()> {
    let Started { stage, host, mut process, api, mut feed } = start(2, TASKS.into(), COMMIT, 3 * KEYS)?;
    try_flawed(&api)?;
    // The fourth of each key, at which it does not fail; then the fifth, and the sixth.
    feed.put(&stage, KEYS)?;
    feed.check(&api)?;
    let trying = current(&api)?;
    process.kill()?;
    process = host.start(&[])?;
    feed.check(&api)?;
    ensure!(current(&api)? == trying && pins(&api)?.get(&2) == Some(&TRYING.len()), "{trying} before it was killed");
    goes_back_in_time(&stage, &api, &mut feed, 2 * KEYS)?;
    let state = feed.check(&api).context("a canary sets no dead letters, and loses nothing")?;
    let tasks = TaskCount::new(TASKS.into()).context("a number of tasks")?;
    let tries = |key: &str| TRYING.contains(&tasks.task_of(HashKey::of(key)).0.into());
    // Whether it was given a fifth number without a sixth behind it is a matter of how they came.
    let by = |key: &str, number: u64| match number {
        4 if tries(key) => 2,
        5 if tries(key) => state.get(format!("v/{key}#5").as_bytes()).copied().unwrap_or_default().clamp(1, 2),
        _ => 1,
    };
    ensure!(state == feed.fold(by), "what the canary's tasks folded before it failed is not what stays of it");

    let good = json!({ "component": digest(&api)?, "config": { "version": "3" }, "canary": { "percent": 25 } });
    let (status, made) = ask(&api, "POST", "deployments", &good)?;
    ensure!(status == 201 && made["deployment"] == 3, "{made}");
    wait_for("the canary to be tried", LIMIT, || Ok((pins(&api)?.get(&3) == Some(&2)).then_some(())))?;
    let (status, rollout) = ask(&api, "POST", "deployments/3/promote", &json!(null))?;
    ensure!(status == 200 && rollout["current"] == 3 && rollout["previous"] == 1, "{rollout}");
    feed.put(&stage, 2 * KEYS)?;
    wait_for("every task to change", LIMIT, || Ok(pins(&api)?.keys().eq([&3]).then_some(())))?;
    feed.check(&api)?;
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}

#[test]
fn a_canary_that_passes_a_limit_or_cannot_begin_in_a_task_is_taken_back() -> Result<()> {
    let Started { stage, process: _process, api, mut feed, .. } =
        start(2, TASKS.into(), Duration::from_millis(50), 2 * KEYS)?;
    let component = digest(&api)?;
    let events = Watch::begin(&api, None)?;
    for (config, limits, words) in [
        (json!({ "version": "1", "stuck": "1" }), json!({ "batch_timeout_ms": 1_000 }), "`batch-timeout`"),
        (json!({ "version": "1", "broken-in": "3" }), json!({}), "its init failed"),
    ] {
        let body = json!({ "component": component, "config": config, "limits": limits, "canary": { "tasks": TRYING } });
        let (status, made) = ask(&api, "POST", "deployments", &body)?;
        ensure!(status == 201, "{made}");
        feed.put(&stage, 3 * KEYS)?;
        let failed = events.wait("the canary to fail", LIMIT, |event| {
            event.name == "canary-failed" && event.data["deployment"] == made["deployment"]
        })?;
        let cause = failed.data["cause"].as_str().unwrap_or_default();
        ensure!(cause.contains(words), "{failed:?}");
        wait_for("the canary to be taken back", LIMIT, || {
            Ok((current(&api)?["canary"].is_null() && pins(&api)?.keys().eq([&1])).then_some(()))
        })?;
        ensure!(feed.check(&api)? == feed.fold(|_, _| 1), "the state is not the fold");
    }
    Ok(())
}

#[test]
fn a_canary_that_does_worse_than_its_rule_bears_is_taken_back() -> Result<()> {
    let Started { stage, process: _process, api, mut feed, .. } =
        start(2, TASKS.into(), Duration::from_millis(50), 2 * KEYS)?;
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
