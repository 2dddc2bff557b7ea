//! A component made of plain bindings, to which WASI's stores are all it knows: it runs as a task, over the task's own state,
//! log and configuration.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, ensure};
use pelton_core::slice::{HashKey, TaskCount};
use pelton_e2e::api::Api;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, component, wait_for};
use pelton_e2e::stage::{Stage, entry};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

fn value(api: &Api, key: &str) -> Result<String> {
    let state = api.state("stores")?;
    let found = state.into_iter().find(|(_, found, _)| found == key.as_bytes());
    let (_, _, value) = found.with_context(|| format!("{key} is not in the state"))?;
    Ok(String::from_utf8(value)?)
}

#[test]
fn plain_bindings_run_as_a_task_and_keep_their_state() -> Result<()> {
    let stage = Stage::set(&[("in", 1)])?;
    let job = format!(
        "[jobs.stores]\ninputs = [\"in\"]\ntasks = 1\ncomponent = {:?}\n[jobs.stores.on-error]\nthen = \"stop\"\nretries = 0\n\
         [jobs.stores.config]\ngreeting = \"hello\"\n",
        component("stores")?
    );
    let host = stage.host("host", &job)?;
    let mut process = host.start(&[])?;
    let texts = ["count", "count", "swap", "list", "refused"];
    stage.put("in", &texts.map(|text| entry("ada", text)))?;
    let api = host.api()?;
    api.wait_caught_up("stores", LIMIT)?;
    ensure!(value(&api, "count/ada")? == "2", "two were counted");
    ensure!(value(&api, "greeting")? == "hello", "the configuration was read");
    ensure!(value(&api, "swap/ada")? == "three", "the swaps were done");
    let listed = "count/ada greeting large/0 large/1 large/2 large/3 large/4 swap/ada";
    ensure!(value(&api, "listed")? == listed, "{}", value(&api, "listed")?);
    let said = value(&api, "said")?;
    let expected = [
        "no such store",
        "a key has 0 bytes; keys have 1 to 1024",
        "a key has 1025 bytes",
        "a value has 8388609 bytes; values have up to 8388608",
        "the value of \"text\" is not a decimal number",
        "is not from -9223372036854775808 to 9223372036854775807",
    ];
    for (said, expected) in said.lines().zip(expected) {
        ensure!(said.contains(expected), "{said:?} lacks {expected:?}");
    }
    process.kill()?;
    let logged = process.said()?;
    ensure!(
        logged.contains("job stores task 0 deployment 1: count: ada stands at 2"),
        "the guest's line is not in the log: {logged}"
    );

    // What the stores hold is the task's state: it is there after a crash, and after the loss of the disk.
    std::fs::remove_dir_all(&host.data)?;
    let _process = host.start(&[])?;
    stage.put("in", &[entry("ada", "count")])?;
    let api = host.api()?;
    api.wait_caught_up("stores", LIMIT)?;
    ensure!(value(&api, "count/ada")? == "3", "{}", value(&api, "count/ada")?);
    Ok(())
}

/// Starts a job of so many tasks, and keeps another component on its host, which it could be given.
fn started(
    stage: &Stage,
    (job, tasks): (&str, u32),
    runs: &str,
    config: &str,
    other: &str,
) -> Result<(HostFiles, Process, Api, Value)> {
    let told = format!(
        "[jobs.{job}]\ninputs = [\"in\"]\ntasks = {tasks}\ncomponent = {:?}\n[jobs.{job}.config]\n{config}\n",
        component(runs)?
    );
    let host = stage.host("host", &told)?;
    let (process, api) = (host.start(&[])?, host.api()?);
    api.wait_caught_up(job, LIMIT)?;
    let (status, pushed) = api.put("/v1/components", std::fs::read(component(other)?)?)?;
    ensure!(status == 201, "{pushed}");
    Ok((host, process, api, pushed["digest"].clone()))
}

#[test]
fn tasks_with_timers_are_not_given_what_fires_none() -> Result<()> {
    let stage = Stage::set(&[("in", 1)])?;
    let (host, mut process, api, stores) =
        started(&stage, ("sessions", 256), "sessionize", "gap-ms = \"600000\"", "stores")?;
    stage.put("in", &[entry("ada", "open")])?;
    let task = TaskCount::new(256).context("256 is a count")?.task_of(HashKey::of("ada")).0;
    let at_task = || Ok::<_, Error>(api.tasks("sessions")?[usize::from(task)].clone());
    wait_for("a timer to be set", LIMIT, || Ok((at_task()?["timers"] == 1).then_some(())))?;
    let (status, refused) = api.ask_of("sessions", "POST", "deployments", &json!({ "component": stores }))?;
    let said = refused["detail"].as_str().unwrap_or_default();
    let names = [&format!("task {task} has timers set (1)")[..], "exports no pelton:task/timer-handler"];
    ensure!(status == 422 && names.iter().all(|name| said.contains(name)), "{status}: {refused}");
    ensure!(at_task()?["deployment"] == 1, "it goes on with what it runs");

    api.wait_caught_up("sessions", LIMIT)?;
    // Nor is a task that has yet to be loaded, of which nobody knows whether it has any.
    for _ in 0..3 {
        process.kill()?;
        std::fs::remove_dir_all(host.data.join("state"))?;
        process = host.start(&[])?;
        let began = Instant::now();
        loop {
            ensure!(began.elapsed() < LIMIT, "waited for it to be refused again");
            // The host may not answer yet, or not run the job.
            let asked = api.ask_of("sessions", "POST", "deployments", &json!({ "component": stores }));
            std::thread::sleep(Duration::from_millis(1));
            let Ok((status, answer)) = asked else { continue };
            ensure!([404, 422, 503].contains(&status), "{status}: {answer}");
            if status == 422 {
                break;
            }
        }
    }
    Ok(())
}

#[test]
fn timers_of_what_was_gone_back_from_become_dead_letters_at_once() -> Result<()> {
    let stage = Stage::set(&[("in", 1)])?;
    let (_, _process, api, ledger) = started(&stage, ("stores", 1), "stores", "greeting = \"hello\"", "ledger")?;
    let body = json!({ "component": ledger, "config": { "timers": "1", "timer-ms": "2000" } });
    let (status, made) = api.ask_of("stores", "POST", "deployments", &body)?;
    ensure!(status == 201, "{made}");
    let timers: Vec<_> = (1..=3).map(|number| entry("ada", &number.to_string())).collect();
    stage.put("in", &timers)?;
    wait_for("timers to be set", LIMIT, || Ok((api.tasks("stores")?[0]["timers"] == 3).then_some(())))?;
    ensure!(api.post("/v1/jobs/stores/rollback")? == 200, "it goes back");
    let letters = wait_for("the timers to be set aside", LIMIT, || {
        let letters = api.dead_letters("stores")?;
        Ok((letters.len() == 3).then_some(letters))
    })?;
    ensure!(letters.iter().all(|letter| letter["cause"] == "poison" && letter["attempts"] == 1), "{letters:?}");
    stage.put("in", &[entry("ada", "count")])?;
    wait_for("the next record to be folded", LIMIT, || Ok(value(&api, "count/ada").ok()))?;
    Ok(())
}
