//! A disk that takes no more: tasks stop at it, each alone and saying so, and nothing that they committed is missing afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pelton_e2e::process::{component, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::streams::Entry;

const JOB: &str = "words";
const TASKS: usize = 4;
const LIMIT: Duration = Duration::from_secs(60);
/// Bytes that a file of the host may have, and that is less than what is put at last comes to in a task.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Words put, each of so many bytes; the first of them fit.
const WORDS: usize = 12_000;
const FIRST_WORDS: usize = 100;
const WORD_BYTES: usize = 1_000;

/// Letters and digits that cannot be compressed much, so that a snapshot is due with a commit of many.
fn word(number: usize) -> String {
    let mut state = number as u64 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from_digit((state >> 33) as u32 % 36, 36).unwrap_or('0')
    };
    (0..WORD_BYTES).map(|_| next()).collect()
}

#[test]
fn tasks_stop_where_the_disk_is_full_and_lose_nothing() -> Result<()> {
    let stage = Stage::set(&[("in", 2)])?;
    let job = format!(
        "[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = {TASKS}\ncomponent = {:?}\ncommit-interval = \"50ms\"\n",
        component("word_count")?
    );
    let host = stage.host("host", &job)?;
    let mut process = host.start(&[])?;
    let api = host.api()?;
    api.wait_caught_up(JOB, LIMIT)?;
    process.kill()?;

    let mut process = host.start_on_disk_of(FILE_BYTES_MAX)?;
    wait_for("the host to answer", LIMIT, || Ok(api.tasks(JOB).ok()))?;
    let words: Vec<Entry> = (0..WORDS).map(|number| entry(&format!("key{number}"), &word(number))).collect();
    stage.put("in", &words[..FIRST_WORDS])?;
    wait_for("the first to be committed", LIMIT, || Ok((api.counts(JOB)?.len() == FIRST_WORDS).then_some(())))?;
    stage.put("in", &words[FIRST_WORDS..])?;
    let causes = wait_for("every task to stop", LIMIT, || {
        let tasks = api.tasks(JOB)?;
        let stopped = tasks.iter().filter(|task| task["phase"] == "stopped");
        let causes: Vec<String> = stopped.filter_map(|task| task["cause"].as_str().map(str::to_owned)).collect();
        Ok((causes.len() == TASKS).then_some(causes))
    })?;
    ensure!(causes.iter().all(|cause| cause.starts_with("the local state failed")), "{causes:?}");
    process.kill()?;

    // Elsewhere it is had from the snapshots and the log: a snapshot that was due with what could not be applied would lack that.
    std::fs::remove_dir_all(&host.data)?;
    let _process = host.start(&[])?;
    wait_for("everything to be folded", LIMIT, || Ok(api.wait_caught_up(JOB, LIMIT).ok()))?;
    let counts = wait_for("every word", LIMIT, || {
        let counts = api.counts(JOB)?;
        Ok((counts.len() == WORDS).then_some(counts))
    });
    let counts = counts
        .with_context(|| api.counts(JOB).map(|counts| format!("{} of {WORDS}", counts.len())).unwrap_or_default())?;
    let expected: BTreeMap<Vec<u8>, u64> = (0..WORDS).map(|number| (word(number).into_bytes(), 1)).collect();
    ensure!(counts == expected, "a word was not counted once");
    Ok(())
}
