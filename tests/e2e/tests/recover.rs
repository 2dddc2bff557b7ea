//! A table restored from a backup: no job runs on it, until it is told to go on from what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pelton_core::aggregate;
use pelton_e2e::api::Api;
use pelton_e2e::process::{component, pelton_says};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::streams::{self, Entry};
use pelton_e2e::table;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(40);
const KEYS: usize = 30;
const ROUNDS: usize = 20;

/// Records of every key, with enough noise that snapshots are taken.
fn records(word: &str, random: &mut StdRng) -> Vec<Entry> {
    let mut noise = || (0..800).map(|_| random.random_range('a'..='z')).collect::<String>();
    let mut record =
        |at: usize| entry(&format!("key{}", at % KEYS), &format!("{word} {} {} {}", noise(), noise(), noise()));
    (0..ROUNDS * KEYS).map(&mut record).collect()
}

fn recover(config: &str, job: &str) -> Result<(i32, String, String)> {
    pelton_says(&["recover", job, "-c", config])
}

/// Has the job run a second deployment.
fn deploy(api: &Api) -> Result<()> {
    let (_, job) = api.get("/v1/jobs/words")?;
    let body = json!({ "component": job["component"], "config": { "output": "counts", "release": "second" } });
    let (status, made) = api.ask_of("words", "POST", "deployments", &body)?;
    ensure!(status == 201, "{made}");
    Ok(())
}

#[test]
fn a_job_goes_on_from_what_a_backup_holds() -> Result<()> {
    let stage = Stage::set(&[("in", 2), ("out", 1)])?;
    let jobs = format!(
        "[jobs.words]\ninputs = [\"in\"]\ntasks = 2\ncomponent = {:?}\ncommit-interval = \"50ms\"\n\
         [jobs.words.outputs.counts]\nstream = \"out\"\n[jobs.words.config]\noutput = \"counts\"\n",
        component("word_count")?
    );
    let host = stage.host("host", &jobs)?;
    let client = table::client(&stage.servers.dynamodb());
    let count = |word: &str| host.api()?.counts("words").map(|counts| counts.get(word.as_bytes()).copied());
    let all = Some((ROUNDS * KEYS) as u64);

    let mut random = StdRng::seed_from_u64(1);
    let mut process = host.start(&[])?;
    stage.put("in", &records("before", &mut random))?;
    host.api()?.wait_caught_up("words", LIMIT)?;
    deploy(&host.api()?)?;
    process.terminate()?;
    process.wait(LIMIT)?;
    let backup = stage.run(table::items(&client, "pelton-test"))?;
    let snapshots = backup.iter().filter(|item| item["sk"].as_s().is_ok_and(|sk| sk.starts_with("snapshot/")));
    ensure!(snapshots.count() > 0, "some state is in a snapshot");
    let mut process = host.start(&[])?;
    stage.put("in", &records("after", &mut random))?;
    host.api()?.wait_caught_up("words", LIMIT)?;
    process.kill()?;

    // The table it was created in needs nothing, and has no other job.
    let config = host.config.to_string_lossy().into_owned();
    let (exit, _, said) = recover(&config, "words")?;
    ensure!(exit == 1 && said.contains("needs no recovery"), "{exit}: {said}");
    let (exit, _, said) = recover(&config, "verbs")?;
    ensure!(exit == 1 && said.contains("has no job verbs"), "{exit}: {said}");

    // What was restored is refused, recovered once, and runs.
    stage.run(table::restore(&client, "pelton-test", "restored", backup))?;
    let text = std::fs::read_to_string(&host.config)?.replace("\"pelton-test\"", "\"restored\"");
    std::fs::write(&host.config, text)?;
    let mut process = host.start(&[])?;
    ensure!(!process.wait(LIMIT)?.success(), "a job does not run in a restored table");
    ensure!(process.said()?.contains("pelton recover"), "it says what to do: {}", process.said()?);
    let (exit, printed, said) = recover(&config, "words")?;
    ensure!(exit == 0 && printed.contains("goes on in table restored with 2 tasks"), "{exit}: {printed} {said}");
    let (exit, _, said) = recover(&config, "words")?;
    ensure!(exit == 1 && said.contains("needs no recovery"), "{exit}: {said}");

    let mut process = host.start(&[])?;
    host.api()?.wait_caught_up("words", LIMIT)?;
    ensure!(
        count("before")? == all && count("after")? == all,
        "before {:?}, after {:?}",
        count("before")?,
        count("after")?
    );
    let (_, rollout) = host.api()?.get("/v1/jobs/words/rollout")?;
    ensure!(rollout["current"] == 2 && rollout["previous"] == 1, "what runs goes on too: {rollout}");
    process.kill()?;
    std::fs::remove_dir_all(&host.data)?;
    let _process = host.start(&[])?;
    host.api()?.wait_caught_up("words", LIMIT)?;
    ensure!(count("before")? == all && count("after")? == all, "and again from the changelog alone");
    outputs_begin_anew(&stage.run(streams::read_all(&stage.kinesis, "out"))?)
}

/// What came after the backup went out under two incarnations, and what came before under one.
fn outputs_begin_anew(outputs: &[Entry]) -> Result<()> {
    let mut incarnations: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (_, data) in outputs {
        let aggregate = aggregate::unpack(&data.clone().into()).context("an output is not an aggregate")?;
        for record in &aggregate.records {
            let id = record.output_id().context("an output has no id")?;
            let text = String::from_utf8(record.data.to_vec())?;
            for word in ["before", "after"].into_iter().filter(|word| text.lines().any(|line| line.starts_with(word))) {
                incarnations.entry(word).or_default().insert(id.incarnation.to_string());
            }
        }
    }
    let counted = |word: &str| incarnations.get(word).map_or(0, BTreeSet::len);
    ensure!((counted("before"), counted("after")) == (1, 2), "{incarnations:?}");
    Ok(())
}
