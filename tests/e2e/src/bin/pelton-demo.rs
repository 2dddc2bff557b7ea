//! The whole way of a record on this machine: real text through Kinesis into word-count, its shards split and merged on the
//! way, its logic swapped while it runs, its host killed in mid-stream and one task's local state deleted; then every count is held against a plain fold.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::component;
use pelton_e2e::servers::Servers;
use pelton_e2e::streams::{self, Entry};
use pelton_e2e::{fold, text};
use serde_json::json;

const WORDS_MIN: usize = 200_000;
const JOB: &str = "words";
const STREAM: &str = "text";
/// Lines get one of so many partition keys.
const KEYS: usize = 5_000;
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let began = Instant::now();
    let folder = tempfile::tempdir()?;
    let lines = text::lines(WORDS_MIN)?;
    let expected = fold::word_counts(lines.iter().map(String::as_str));
    let total: u64 = expected.values().sum();
    eprintln!("{} lines of real text, {total} words, {} different ones", lines.len(), expected.len());

    let runtime = tokio::runtime::Runtime::new()?;
    let servers = Servers::start(folder.path())?;
    let kinesis = streams::client(&servers.kinesis());
    runtime.block_on(streams::create(&kinesis, STREAM, 4))?;
    eprintln!("embedded Kinesis at {}, DynamoDB at {}", servers.kinesis(), servers.dynamodb());
    let host = HostFiles::write(folder.path(), "host", &servers, &job()?)?;
    let mut process = host.start(&[])?;

    let entry = |(index, line): (usize, &String)| (format!("line-{}", index % KEYS), line.clone().into_bytes());
    let records: Vec<Entry> = lines.iter().enumerate().map(entry).collect();
    let bar = ProgressBar::new(records.len() as u64);
    bar.set_style(ProgressStyle::with_template("putting records {wide_bar} {pos}/{len}")?);
    let eighth = records.len().div_ceil(8);
    for (part, chunk) in records.chunks(eighth).enumerate() {
        let say = |what: &str| bar.suspend(|| eprintln!("{what}"));
        match part {
            2 => {
                say("splitting a shard, at a hash key inside a task's slice");
                runtime.block_on(streams::split(&kinesis, STREAM, 1))?;
            }
            3 => {
                wait_for_folds(&host, LIMIT)?;
                let swapped = swap(&host)?;
                say(&format!(
                    "hot swap: every task runs deployment 2, {} ms after it was asked for",
                    swapped.as_millis()
                ));
            }
            4 => {
                wait_for_folds(&host, LIMIT)?;
                say("killing the host in mid-stream (SIGKILL), and deleting one task's local state");
                process.kill()?;
                delete_one_state(&host.data)?;
            }
            5 => {
                say("merging two shards while no host runs");
                runtime.block_on(streams::merge(&kinesis, STREAM, 2))?;
            }
            6 => {
                say("starting the host again");
                process = host.start(&[])?;
            }
            _ => {}
        }
        for call in chunk.chunks(500) {
            runtime.block_on(streams::put(&kinesis, STREAM, call))?;
            bar.inc(call.len() as u64);
        }
    }
    bar.finish();

    eprintln!("waiting until everything is folded and committed");
    let api = host.api()?;
    api.wait_caught_up(JOB, LIMIT)?;
    let found = api.counts(JOB)?;
    if found != expected {
        bail!("counts differ from the fold:\n{}", fold::differences(&found, &expected).join("\n"));
    }
    process.terminate()?;
    let status = process.wait(LIMIT)?;
    if !status.success() {
        bail!("the host ended with {status} when it was told to stop:\n{}", process.said()?);
    }
    println!(
        "every one of {} counts equals the fold: {total} words in {:.1} s",
        found.len(),
        began.elapsed().as_secs_f64()
    );
    println!(
        "\nTry next:\n  \
         target/debug/pelton check target/wasm32-wasip2/guest/word_count.wasm\n  \
         target/debug/pelton dev -c plugins/word-count/pelton.toml\n  \
         target/debug/pelton --help"
    );
    Ok(())
}

fn job() -> Result<String> {
    Ok(format!("[jobs.{JOB}]\ninputs = [\"{STREAM}\"]\ncomponent = {:?}\n", component("word_count")?))
}

/// Waits until the host has folded something, so that killing it interrupts work.
fn wait_for_folds(host: &HostFiles, limit: Duration) -> Result<()> {
    let api = host.api()?;
    pelton_e2e::process::wait_for("the first records to be folded", limit, || {
        let tasks = api.tasks(JOB).unwrap_or_default();
        let folded: u64 = tasks.iter().filter_map(|task| task["records_folded"].as_u64()).sum();
        Ok((folded > 0).then_some(()))
    })
}

/// Deploys the component anew while its tasks run, and waits until all of them have changed.
fn swap(host: &HostFiles) -> Result<Duration> {
    let api = host.api()?;
    let (_, job) = api.get(&format!("/v1/jobs/{JOB}"))?;
    let body = json!({ "component": job["component"], "config": { "release": "second" } });
    let began = Instant::now();
    let answer = api.ask("POST", &format!("/v1/jobs/{JOB}/deployments"), &[], body.to_string().as_bytes())?;
    if answer.status != 201 {
        bail!("the deployment was refused: {}", String::from_utf8_lossy(&answer.body));
    }
    pelton_e2e::process::wait_for("every task to change", LIMIT, || {
        let tasks = api.tasks(JOB)?;
        Ok(tasks.iter().all(|task| task["deployment"] == 2).then_some(()))
    })?;
    Ok(began.elapsed())
}

fn delete_one_state(data: &Path) -> Result<()> {
    let mut open = vec![data.join("state")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "redb") {
                std::fs::remove_file(path)?;
                return Ok(());
            }
        }
    }
    bail!("no local state below {}", data.display())
}
