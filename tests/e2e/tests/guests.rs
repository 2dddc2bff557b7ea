//! Guests that misbehave, each under a partition key of its own: they are cut off and named, and the tasks beside them go on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pelton_e2e::process::{component, wait_for};
use pelton_e2e::stage::{Stage, entry};

const LIMIT: Duration = Duration::from_secs(40);
const TASKS: usize = 32;

/// Puts one bad record among good ones, and expects its task to stop with a cause while every other counts on.
fn check(bad: &str, expected_cause: &str) -> Result<()> {
    let stage = Stage::set(&[("in", 1), ("out", 1)])?;
    let job = format!(
        "[jobs.bad]\ninputs = [\"in\"]\ntasks = {TASKS}\ncomponent = {:?}\n\
         [jobs.bad.outputs.out]\nstream = \"out\"\n\
         [jobs.bad.limits]\nmemory = \"16MiB\"\nbatch-timeout = \"300ms\"\nbatch-writes = \"1MiB\"\nbatch-outputs = \"1MiB\"\n\
         [jobs.bad.on-error]\nretries = 1\nthen = \"stop\"\n",
        component("misbehaving")?
    );
    let host = stage.host("host", &job)?;
    let _process = host.start(&[])?;
    let good: Vec<_> = (0..200).map(|key| entry(&format!("good{key}"), "count")).collect();
    stage.put("in", &good)?;
    stage.put("in", &[entry("bad", bad)])?;
    stage.put("in", &good)?;
    let api = host.api()?;
    let stopped = wait_for("the bad task to stop", LIMIT, || {
        let tasks = api.tasks("bad").unwrap_or_default();
        Ok(tasks.into_iter().find(|task| task["phase"] == "stopped"))
    })?;
    let cause = stopped["cause"].as_str().context("a stopped task has a cause")?;
    ensure!(cause.contains(expected_cause), "the cause is {cause:?}, without {expected_cause:?}");
    wait_for("the others to count everything", LIMIT, || {
        let state = api.state("bad")?;
        let others = state.iter().filter(|(task, key, _)| stopped["task"] != *task && key.starts_with(b"good"));
        let counts: Vec<u64> =
            others.map(|(_, _, value)| u64::from_be_bytes(value.as_slice().try_into().unwrap_or_default())).collect();
        Ok((counts.len() > 200 / 2 && counts.iter().all(|count| *count == 2)).then_some(()))
    })?;
    let running = api.tasks("bad")?.iter().filter(|task| task["phase"] == "running").count();
    ensure!(running == TASKS - 1, "{running} tasks run");
    Ok(())
}

#[test]
fn the_largest_value_survives_the_loss_of_the_disk() -> Result<()> {
    let stage = Stage::set(&[("in", 1)])?;
    let job = format!("[jobs.big]\ninputs = [\"in\"]\ntasks = 2\ncomponent = {:?}\n", component("misbehaving")?);
    let host = stage.host("host", &job)?;
    let mut process = host.start(&[])?;
    stage.put("in", &[entry("key", "big-value")])?;
    host.api()?.wait_caught_up("big", LIMIT)?;
    process.kill()?;
    std::fs::remove_dir_all(&host.data)?;
    let _process = host.start(&[])?;
    host.api()?.wait_caught_up("big", LIMIT)?;
    let state = host.api()?.state("big")?;
    let (_, _, value) = state.iter().find(|(_, key, _)| key == b"big").context("the value is there")?;
    ensure!(value.len() == 8 * 1024 * 1024, "it has {} bytes", value.len());
    let mut state = 1u64;
    let same = value.iter().all(|byte| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte == (state >> 32) as u8
    });
    ensure!(same, "its bytes are not those written");
    Ok(())
}

#[test]
fn one_that_loops_for_ever() -> Result<()> {
    check("loop", "cut off after 300 ms")
}

#[test]
fn one_that_grows_without_end() -> Result<()> {
    check("grow", "more memory than its limit")
}

#[test]
fn one_that_writes_without_end() -> Result<()> {
    check("write", "`batch-writes` in [jobs.NAME.limits]")
}

#[test]
fn one_that_emits_without_end() -> Result<()> {
    check("emit", "`batch-outputs` in [jobs.NAME.limits]")
}

#[test]
fn one_that_logs_without_end_is_heard_at_its_pace() -> Result<()> {
    let stage = Stage::set(&[("in", 1)])?;
    let job = format!(
        "[jobs.bad]\ninputs = [\"in\"]\ntasks = 1\ncomponent = {:?}\n[jobs.bad.limits]\nlog-lines = 5\n\
         batch-timeout = \"60s\"\n",
        component("misbehaving")?
    );
    let host = stage.host("host", &job)?;
    let process = host.start(&[])?;
    let began = Instant::now();
    stage.put("in", &[entry("key", "chatter")])?;
    host.api()?.wait_caught_up("bad", LIMIT)?;
    process.terminate()?;
    wait_for("the host to say what it dropped", LIMIT, || {
        Ok(process.said()?.contains("lines were dropped: it logs more than 5 a second, `log-lines`").then_some(()))
    })?;
    let said = process.said()?;
    let lines = said.lines().filter(|line| line.contains("task 0 deployment 1: chatter"));
    // The call may last for several seconds where the machine is busy.
    let lines_max = 5 * (began.elapsed().as_secs() as usize + 2);
    ensure!((1..=lines_max).contains(&lines.count()), "too much was logged: {said}");
    Ok(())
}

#[test]
fn one_that_traps() -> Result<()> {
    check("trap", "trapped")
}

#[test]
fn one_that_gives_up() -> Result<()> {
    check("fatal", "told to")
}

#[test]
fn one_that_writes_too_long_a_key() -> Result<()> {
    check("long-key", "2000 bytes")
}
