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
/// Bytes that a file of the host may have, and that is less than the state of a task comes to.
const FILE_BYTES_MAX: usize = 2 << 20;
/// Words put, each of so many bytes.
const WORDS: usize = 12_000;
const WORD_BYTES: usize = 1_000;
/// Records put at a time, which makes a snapshot due with nearly every commit.
const RECORDS: usize = 500;

fn word(number: usize) -> String {
    format!("w{number:0>width$}", width = WORD_BYTES - 1)
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
    for some in words.chunks(RECORDS) {
        stage.put("in", some)?;
        std::thread::sleep(Duration::from_millis(50));
    }
    let causes = wait_for("every task to stop", LIMIT, || {
        let tasks = api.tasks(JOB)?;
        let causes: Vec<String> = tasks.iter().filter_map(|task| task["cause"].as_str().map(str::to_owned)).collect();
        Ok((causes.len() == TASKS).then_some(causes))
    })?;
    ensure!(causes.iter().all(|cause| cause.starts_with("the local state failed")), "{causes:?}");
    process.kill()?;

    // Elsewhere it is had from the snapshots and the log.
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
