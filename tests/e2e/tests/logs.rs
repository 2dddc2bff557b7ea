//! What guests say: read by job, task, deployment and level, as it comes or from what is kept, and never more than their limit.

use std::time::Duration;

use anyhow::{Result, ensure};
use pelton_e2e::contract::Contract;
use pelton_e2e::process::{Process, component, pelton_says, wait_for};
use pelton_e2e::stage::{Stage, entry};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
/// Lines of a task in a second.
const LINES: usize = 200;

/// What `pelton logs` shows for programs.
fn shown(base: &str, args: &[&str]) -> Result<Vec<Value>> {
    let args = [&["--json", "logs", "--url", base], args].concat();
    let (code, out, said) = pelton_says(&args)?;
    ensure!(code == 0, "{args:?}: {said}");
    out.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn what_guests_say_can_be_read_and_is_bounded() -> Result<()> {
    let stage = Stage::set(&[("in", 1), ("noise", 1)])?;
    let jobs = format!(
        "[jobs.stores]\ninputs = [\"in\"]\ntasks = 2\ncomponent = {:?}\n[jobs.stores.config]\ngreeting = \"hello\"\n\
         [jobs.noisy]\ninputs = [\"noise\"]\ntasks = 1\ncomponent = {:?}\n[jobs.noisy.limits]\nlog-lines = {LINES}\n",
        component("stores")?,
        component("misbehaving")?
    );
    let host = stage.host("host", &jobs)?;
    let mut process = host.start(&[])?;
    let api = host.api()?;
    stage.put("in", &[entry("ada", "count"), entry("bob", "count")])?;
    stage.put("noise", &[entry("key", "chatter")])?;
    api.wait_caught_up("stores", LIMIT)?;
    api.wait_caught_up("noisy", LIMIT)?;

    // By job, task, deployment and level.
    let lines = shown(&api.base, &["stores"])?;
    let line = lines.iter().find(|line| line["text"] == "count: ada stands at 1");
    let line = line.ok_or_else(|| anyhow::anyhow!("the line is missing: {lines:?}"))?;
    ensure!(line["level"] == "warn" && line["source"] == "logging" && line["deployment"] == 1, "{line}");
    Contract::of(&api)?.check_value("LineView", line)?;
    let task = &line["task"];
    let of_task = shown(&api.base, &["stores", "--task", &task.to_string()])?;
    ensure!(of_task.contains(line) && of_task.iter().all(|line| line["task"] == *task), "{of_task:?}");
    ensure!(shown(&api.base, &["stores", "--deployment", "2"])?.is_empty(), "there is no such deployment");
    ensure!(shown(&api.base, &["stores", "--level", "error"])?.is_empty(), "nothing failed");
    for that_has_it in [["--level", "warn"], ["--level", "info"], ["--deployment", "1"]] {
        let lines = shown(&api.base, &[&["stores"], &that_has_it[..]].concat())?;
        ensure!(lines.contains(line), "{that_has_it:?}: {lines:?}");
    }
    ensure!(shown(&api.base, &["stores", "-n", "1"])?.len() == 1, "one was asked for");
    let (_, people, _) = pelton_says(&["logs", "--url", &api.base, "stores"])?;
    ensure!(people.contains(&format!("warn     task {task} deployment 1: count: ada stands at 1")), "{people}");

    // No more than the limit, and what is left out is told. 20,000 lines take a second or two.
    let noise = wait_for("the dropped lines to be told", LIMIT, || {
        let lines = shown(&api.base, &["noisy", "-n", "100000"])?;
        let told = |line: &Value| line["source"] == "host" && line["text"].as_str().unwrap_or("").contains("dropped");
        Ok(lines.iter().any(told).then_some(lines))
    })?;
    let printed = noise.iter().filter(|line| line["source"] == "stdout").count();
    ensure!((LINES..20_000).contains(&printed), "{printed} lines were kept");

    // As they come, until the host stops.
    let file = stage.folder().join("followed");
    let mut follower = Process::start(&["logs", "--url", &api.base, "stores", "-f", "-n", "0"], &[], &file)?;
    // It is not known when it is connected: what is said meanwhile, it may miss.
    let mut puts = 0;
    wait_for("a line to be followed", LIMIT, || {
        puts += 1;
        stage.put("in", &[entry(&format!("key{puts}"), "count")])?;
        Ok(follower.said()?.contains("stands at").then_some(()))
    })?;
    process.terminate()?;
    process.wait(LIMIT)?;
    ensure!(follower.wait(LIMIT)?.success(), "{}", follower.said()?);
    ensure!(follower.said()?.contains("the host has stopped"), "{}", follower.said()?);
    Ok(())
}

#[test]
fn what_is_asked_wrongly_is_told() -> Result<()> {
    let stage = Stage::set(&[("in", 1)])?;
    let job = format!("[jobs.words]\ninputs = [\"in\"]\ntasks = 2\ncomponent = {:?}\n", component("word_count")?);
    let host = stage.host("host", &job)?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    api.wait_caught_up("words", LIMIT)?;
    for (path, status, words) in [
        ("/v1/jobs/words/logs?level=loud", 400, "expected one of trace, debug, info, warn, error, critical"),
        ("/v1/jobs/words/logs?task=2", 404, "job words has 2 tasks, 0 to 1"),
        ("/v1/jobs/words/logs?follow=yes", 400, "expected true or false"),
        ("/v1/jobs/words/logs?tail=some", 400, "expected a whole number"),
        ("/v1/jobs/words/logs?taks=1", 400, "did you mean task?"),
        ("/v1/jobs/others/logs", 404, "others"),
    ] {
        let (found, problem) = api.get(path)?;
        ensure!(found == status && problem["detail"].as_str().unwrap_or("").contains(words), "{path}: {problem}");
    }
    let (code, _, said) = pelton_says(&["logs", "--url", &api.base, "words", "--level", "loud"])?;
    ensure!(code == 2 && said.contains("expected one of trace"), "{code}: {said}");
    Ok(())
}
