//! Records that are gone before they were read: those of a host that comes too late, stands still, or dies amid telling of it.
//! And no gap where nothing is gone.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kinesis::primitives::{DateTime, DateTimeFormat};
use pelton_e2e::account::{Account, JOB, KEYS, Pairs, TASKS, gap, identities, told};
use pelton_e2e::api::Api;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, wait_for};
use pelton_e2e::streams;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(40);
/// More than retention, and less.
const TOO_LATE_H: u64 = 30;
const IN_TIME_H: u64 = 20;
const CONTINUE: &str = "on-gap = \"continue\"";

/// A host that has folded some of a stream of three shards, so that slices lie across their borders.
fn begin(settings: &str) -> Result<(Account, HostFiles, Process)> {
    let mut account = Account::open(3)?;
    let host = account.host(settings)?;
    let process = host.start(&[])?;
    account.put()?;
    account.check(&host.api()?, &(0..0))?;
    Ok((account, host, process))
}

/// Waits until every task has stopped before a gap that a dead letter tells of, and returns these letters.
fn stopped(api: &Api) -> Result<Vec<Value>> {
    let tasks = wait_for("the tasks to stop", LIMIT, || {
        let tasks = api.tasks(JOB).unwrap_or_default();
        Ok((tasks.len() == TASKS && tasks.iter().all(|task| task["phase"] == "stopped")).then_some(tasks))
    });
    let letters = api.dead_letters(JOB)?;
    for task in tasks.with_context(|| format!("{:?}", api.tasks(JOB)))? {
        let cause = task["cause"].as_str().unwrap_or_default();
        let its = letters.iter().filter(|letter| letter["task"] == task["task"]).filter_map(gap);
        let named = its.filter(|content| cause.contains(content["shard"].as_str().unwrap_or("none")));
        ensure!(named.count() == 1 && cause.starts_with("gap in"), "{cause} with {letters:?}");
        ensure!(cause.contains("kept as a dead letter") && cause.contains(CONTINUE), "{cause}");
    }
    ensure!(letters.len() == TASKS, "{letters:?}");
    Ok(letters)
}

#[test]
fn what_a_host_comes_too_late_for_is_told_of_once_and_the_rest_folded() -> Result<()> {
    let (mut account, host, mut process) = begin(CONTINUE)?;
    process.terminate()?;
    process.wait(LIMIT)?;
    let lost = account.put()?;
    account.pass(TOO_LATE_H)?;
    account.put()?;

    let mut process = host.start(&[])?;
    let api = host.api()?;
    let letters = account.letters(&api, &account.pairs(&[])?)?;
    account.put()?;
    ensure!(account.check(&api, &lost)? == lost.len());
    told(&api, &letters)?;

    process.kill()?;
    let _process = host.start(&[])?;
    account.put()?;
    ensure!(account.check(&api, &lost)? == lost.len());
    ensure!(identities(&api.dead_letters(JOB)?) == identities(&letters));
    told(&api, &[])
}

#[test]
fn a_host_that_stood_still_for_too_long_finds_what_it_missed() -> Result<()> {
    let (mut account, host, process) = begin(CONTINUE)?;
    process.signal("STOP")?;
    // What it had asked for may still be answered with some of it.
    let lost = account.put()?;
    account.pass(TOO_LATE_H)?;
    process.signal("CONT")?;
    let api = host.api()?;
    let letters = account.letters(&api, &account.pairs(&[])?)?;
    account.put()?;
    ensure!(account.check(&api, &lost)? > 0);
    told(&api, &letters)
}

#[test]
fn a_host_that_dies_amid_gaps_tells_of_each_once() -> Result<()> {
    let (mut account, host, mut process) = begin(CONTINUE)?;
    process.kill()?;
    let lost = account.put()?;
    account.pass(TOO_LATE_H)?;
    // Each task first appends its fence.
    for fault in ["before-append:4", "after-append:5", "before-apply:6", "after-apply:4", "after-append:7"] {
        account.put()?;
        let mut process = host.start(&[("PELTON_FAULT_POINT", fault)])?;
        let status = process.wait(LIMIT).with_context(|| fault.to_owned())?;
        ensure!(!status.success() && process.said()?.contains("dying at"), "{fault}: {status}");
    }
    let _process = host.start(&[])?;
    let api = host.api()?;
    ensure!(account.check(&api, &lost)? == lost.len());
    account.letters(&api, &account.pairs(&[])?)?;
    Ok(())
}

#[test]
fn tasks_stop_before_a_gap_until_they_are_told_to_go_on() -> Result<()> {
    let (mut account, host, mut process) = begin("")?;
    process.kill()?;
    let lost = account.put()?;
    account.pass(TOO_LATE_H)?;

    let mut process = host.start(&[])?;
    let api = host.api()?;
    let first = stopped(&api)?;
    told(&api, &first)?;
    process.kill()?;
    // Started again it stops again. What it says stands in the changelog.
    std::fs::remove_dir_all(&host.data)?;
    let mut process = host.start(&[])?;
    ensure!(identities(&stopped(&api)?) == identities(&first));
    told(&api, &[])?;
    account.put()?;
    process.terminate()?;
    let status = process.wait(LIMIT)?;
    ensure!(!status.success() && process.said()?.contains("had stopped: gap in"), "{status}");

    std::fs::write(&host.config, std::fs::read_to_string(&host.config)? + CONTINUE)?;
    let _process = host.start(&[])?;
    let letters = account.letters(&api, &account.pairs(&[])?)?;
    ensure!(account.check(&api, &lost)? == lost.len());
    ensure!(identities(&letters).is_superset(&identities(&first)), "{letters:?} after {first:?}");
    Ok(())
}

#[test]
fn shards_that_are_gone_short_of_their_end_are_gaps_to_their_end() -> Result<()> {
    let (mut account, host, mut process) = begin(CONTINUE)?;
    let api = host.api()?;
    let kinesis = account.stage.kinesis.clone();
    // This one is read to its end, and no gap when it is gone.
    account.stage.run(streams::split(&kinesis, "in", 1))?;
    account.put()?;
    account.check(&api, &(0..0))?;
    process.terminate()?;
    process.wait(LIMIT)?;
    // Some is lost of parents, and some of their children.
    let first = account.put()?;
    account.stage.run(streams::split(&kinesis, "in", 0))?;
    account.stage.run(streams::merge(&kinesis, "in", 3))?;
    let last = account.put()?;
    account.pass(TOO_LATE_H)?;

    let _process = host.start(&[])?;
    let letters = account.letters(&api, &account.pairs(&["shardId-000000000001"])?)?;
    for content in letters.iter().filter_map(gap) {
        let shard = content["shard"].as_str().context("a gap has a shard")?;
        let is_gone = ["0", "2", "4"].iter().any(|closed| shard.ends_with(closed));
        ensure!(content["to"]["at"] == if is_gone { "shard_end" } else { "timestamp" }, "{content}");
    }
    account.put()?;
    ensure!(account.check(&api, &(first.start..last.end))? == 2 * KEYS);
    told(&api, &letters)
}

#[test]
fn a_start_that_asks_for_what_is_gone_is_told_of() -> Result<()> {
    let mut account = Account::open(3)?;
    let start = DateTime::from(SystemTime::now()).fmt(DateTimeFormat::DateTime)?;
    let lost = account.put()?;
    account.pass(TOO_LATE_H)?;
    let host = account.host(&format!("{CONTINUE}\nstart = {start:?}"))?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    let letters = account.letters(&api, &account.pairs(&[])?)?;
    account.put()?;
    ensure!(account.check(&api, &lost)? == lost.len());
    told(&api, &letters)
}

#[test]
fn no_gap_where_nothing_is_gone() -> Result<()> {
    // It would stop before one.
    let (mut account, host, mut process) = begin("")?;
    process.kill()?;
    account.put()?;
    let kinesis = account.stage.kinesis.clone();
    account.stage.run(streams::split(&kinesis, "in", 1))?;
    account.put()?;
    account.pass(IN_TIME_H)?;
    account.put()?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    account.check(&api, &(0..0))?;
    account.letters(&api, &Pairs::new())?;
    told(&api, &[])
}

#[test]
fn no_gap_in_what_was_gone_before_a_job_was_created() -> Result<()> {
    for start in ["trim-horizon", "latest"] {
        let mut account = Account::open(3)?;
        let kinesis = account.stage.kinesis.clone();
        account.put()?;
        account.stage.run(streams::split(&kinesis, "in", 0))?;
        account.stage.run(streams::merge(&kinesis, "in", 2))?;
        account.put()?;
        account.pass(TOO_LATE_H)?;
        account.begin_anew();
        let host = account.host(&format!("start = {start:?}"))?;
        let mut process = host.start(&[])?;
        let api = host.api()?;
        api.wait_caught_up(JOB, LIMIT)?;
        account.put()?;
        account.check(&api, &(0..0))?;
        process.kill()?;
        let _process = host.start(&[])?;
        account.stage.run(streams::split(&kinesis, "in", 0))?;
        account.put()?;
        account.check(&api, &(0..0))?;
        account.letters(&api, &Pairs::new())?;
        told(&api, &[])?;
    }
    Ok(())
}
