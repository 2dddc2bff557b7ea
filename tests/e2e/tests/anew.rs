//! Tasks that their logic stopped begin anew with what the job is to run next, on a host that goes on: no record is lost, and none
//! folded twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pelton_e2e::api::Api;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, component, wait_for};
use pelton_e2e::stage::{Stage, entry};
use serde_json::{Value, json};
use tempfile::TempDir;

const JOB: &str = "stopping";
const LIMIT: Duration = Duration::from_secs(60);
/// Long enough for the host to look twice whether a stopped task is to run something else.
const PAUSE: Duration = Duration::from_secs(5);
const TASKS: u64 = 4;
const KEYS: u64 = 40;

/// A job whose tasks stop at a record that fails: `cured`, unless `cure` is configured.
struct Started {
    stage: Stage,
    host: HostFiles,
    /// The component's file.
    file: PathBuf,
    _folder: TempDir,
    process: Process,
    api: Api,
    /// Records put, by key.
    put: BTreeMap<String, u64>,
}

fn current(api: &Api) -> Result<Value> {
    Ok(api.get(&format!("/v1/jobs/{JOB}/rollout"))?.1)
}

fn job(file: &Path) -> String {
    format!(
        "[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = {TASKS}\ncomponent = {file:?}\ncommit-interval = \"50ms\"\n\
         [jobs.{JOB}.on-error]\nretries = 0\nthen = \"stop\"\n"
    )
}

impl Started {
    fn new() -> Result<Self> {
        let stage = Stage::set(&[("in", 2)])?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("task.wasm");
        std::fs::copy(component("misbehaving")?, &file)?;
        let host = stage.host("host", &job(&file))?;
        let (process, api) = (host.start(&[])?, host.api()?);
        api.wait_caught_up(JOB, LIMIT)?;
        Ok(Self { stage, host, file, _folder: folder, process, api, put: BTreeMap::new() })
    }

    /// Puts a record of each key.
    fn put(&mut self, what: &str) -> Result<()> {
        let keys: Vec<String> = (0..KEYS).map(|key| format!("key{key}")).collect();
        keys.iter().for_each(|key| *self.put.entry(key.clone()).or_default() += 1);
        self.stage.put("in", &keys.iter().map(|key| entry(key, what)).collect::<Vec<_>>())
    }

    fn ask(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        self.api.ask_of(JOB, "POST", path, body)
    }

    fn deploy(&self, config: &Value) -> Result<u64> {
        let (_, job) = self.api.get(&format!("/v1/jobs/{JOB}"))?;
        let (status, made) = self.ask("deployments", &json!({ "component": job["component"], "config": config }))?;
        ensure!(status == 201, "{made}");
        made["deployment"].as_u64().context("a deployment")
    }

    /// Waits until every task is in a phase, and tells in which epochs.
    fn wait(&self, phase: &str, deployment: u64) -> Result<Vec<u64>> {
        wait_for(&format!("every task to be {phase}"), LIMIT, || {
            // A host that starts does not answer yet, or not with tasks.
            let tasks = self.api.tasks(JOB).unwrap_or_default();
            let there = |task: &Value| task["phase"] == phase && task["deployment"] == deployment;
            let epochs = tasks.iter().map(|task| task["epoch"].as_u64().unwrap_or_default());
            let all = tasks.len() as u64 == TASKS && tasks.iter().all(there);
            Ok(all.then(|| epochs.collect()))
        })
    }

    /// Waits until all that was put is folded, and expects each record to be so once.
    fn check(&self) -> Result<()> {
        let put: u64 = self.put.values().sum();
        let counts = wait_for("the records to be folded", LIMIT, || {
            let counts = self.api.counts(JOB).unwrap_or_default();
            Ok((counts.values().sum::<u64>() >= put).then_some(counts))
        })?;
        let wrong: Vec<_> = self.put.iter().filter(|(key, put)| counts.get(key.as_bytes()) != Some(put)).collect();
        ensure!(wrong.is_empty(), "{wrong:?} put, and folded {counts:?}");
        self.api.wait_caught_up(JOB, LIMIT)
    }
}

#[test]
fn what_is_deployed_next_goes_on_where_the_logic_stopped() -> Result<()> {
    let mut job = Started::new()?;
    job.put("count")?;
    job.check()?;
    job.put("cured")?;
    job.put("count")?;
    let epochs = job.wait("stopped", 1)?;
    std::thread::sleep(PAUSE);
    ensure!(job.wait("stopped", 1)? == epochs, "nothing else is to be run, and tasks begin anew");
    // One that fails as well stops them again, at the same record.
    let other = job.deploy(&json!({ "other": "1" }))?;
    let again = job.wait("stopped", other)?;
    ensure!(again.iter().zip(&epochs).all(|(now, before)| now > before), "{again:?} after {epochs:?}");
    let cured = job.deploy(&json!({ "cure": "1" }))?;
    job.wait("running", cured)?;
    job.check()?;

    // What a bad version did is undone in tasks that it stopped, too.
    let bad = job.deploy(&json!({}))?;
    job.wait("running", bad)?;
    job.put("count")?;
    job.put("cured")?;
    job.wait("stopped", bad)?;
    let (status, rollout) = job.ask("rollback?rewind=true", &json!(null))?;
    ensure!(status == 200 && rollout["current"] == cured, "{rollout}");
    job.wait("running", cured)?;
    job.put("count")?;
    job.check()?;
    job.process.terminate()?;
    ensure!(job.process.wait(LIMIT)?.success(), "{}", job.process.said()?);
    Ok(())
}

#[test]
fn a_canary_goes_on_where_the_logic_stopped_and_nowhere_else() -> Result<()> {
    const TRYING: [u64; 2] = [0, 2];
    let mut job = Started::new()?;
    job.put("cured")?;
    job.put("count")?;
    let before = job.wait("stopped", 1)?;
    let (_, running) = job.api.get(&format!("/v1/jobs/{JOB}"))?;
    let try_out = |config: Value| -> Result<u64> {
        let canary = json!({ "tasks": TRYING });
        let body = json!({ "component": running["component"], "config": config, "canary": canary });
        let (status, made) = job.ask("deployments", &body)?;
        ensure!(status == 201, "{made}");
        made["deployment"].as_u64().context("a deployment")
    };
    let phases = || -> Result<Vec<(bool, u64)>> {
        let tasks = job.api.tasks(JOB)?;
        let phase = |task: &Value| (task["phase"] == "running", task["deployment"].as_u64().unwrap_or_default());
        Ok(tasks.iter().map(phase).collect())
    };
    // One that fails as well is taken back, and its tasks stop again by what they ran before.
    try_out(json!({ "other": "1" }))?;
    let (mut epochs, rolled) = (job.wait("stopped", 1)?, || current(&job.api));
    wait_for("the canary to be taken back", LIMIT, || Ok(rolled()?["canary"].is_null().then_some(())))?;
    wait_for("its tasks to rest", LIMIT, || {
        std::thread::sleep(PAUSE);
        let now = job.wait("stopped", 1)?;
        Ok((std::mem::replace(&mut epochs, now.clone()) == now).then_some(()))
    })?;
    ensure!((epochs[1], epochs[3]) == (before[1], before[3]), "others began anew: {epochs:?} after {before:?}");
    // One that does not goes on there.
    let cured = try_out(json!({ "cure": "1" }))?;
    let expected: Vec<_> =
        (0..TASKS).map(|task| if TRYING.contains(&task) { (true, cured) } else { (false, 1) }).collect();
    wait_for("the canary to run", LIMIT, || Ok((phases()? == expected).then_some(())))?;
    let (status, rollout) = job.ask(&format!("deployments/{cured}/promote"), &json!(null))?;
    ensure!(status == 200 && rollout["current"] == cured, "{rollout}");
    job.wait("running", cured)?;
    job.check()
}

#[test]
fn a_job_that_is_created_needs_its_file_no_more() -> Result<()> {
    let mut job = Started::new()?;
    job.put("count")?;
    job.check()?;
    let deployed = job.deploy(&json!({ "other": "1" }))?;
    job.wait("running", deployed)?;
    for lost in [|file: &PathBuf| std::fs::write(file, "half a component"), |file: &PathBuf| std::fs::remove_file(file)]
    {
        lost(&job.file)?;
        job.process.kill()?;
        job.process = job.host.start(&[])?;
        wait_for("the job to run", LIMIT, || Ok(job.api.wait_caught_up(JOB, LIMIT).ok()))?;
        job.wait("running", deployed)?;
        job.put("count")?;
        job.check()?;
    }
    ensure!(job.process.said()?.contains("the job runs what the table has"), "{}", job.process.said()?);
    Ok(())
}

#[test]
fn a_task_that_another_host_took_is_left_to_it() -> Result<()> {
    let mut job = Started::new()?;
    job.put("cured")?;
    job.wait("stopped", 1)?;
    // Nobody tells the first host, whose tasks do nothing any more.
    let other = job.stage.host("other", &self::job(&job.file))?;
    let first = std::mem::replace(&mut job.process, other.start(&[])?);
    job.api = other.api()?;
    job.wait("stopped", 1)?;
    let cured = job.deploy(&json!({ "cure": "1" }))?;
    let epochs = job.wait("running", cured)?;
    job.check()?;
    std::thread::sleep(PAUSE);
    job.put("cured")?;
    job.check()?;
    ensure!(job.wait("running", cured)? == epochs, "the first host took a task back");
    let told = wait_for("the first host to say so", LIMIT, || {
        let said = first.said()?;
        Ok(said.contains("runs on another host, and is left to it").then_some(said))
    })?;
    ensure!(!told.contains("begins anew"), "{told}");
    // Nor does it say how far back a task can go that it has not.
    let (status, problem) = job.host.api()?.ask_of(JOB, "POST", "rollback?rewind=true", &json!(null))?;
    let detail = problem["detail"].as_str().unwrap_or_default();
    ensure!(status == 409 && detail.contains("runs on another host"), "{status} {problem}");
    ensure!(job.wait("running", cured)? == epochs, "something was undone");
    Ok(())
}

#[test]
fn one_that_stops_as_soon_as_it_runs_goes_on_too() -> Result<()> {
    const TIMER: Duration = Duration::from_secs(3);
    let stage = Stage::set(&[("in", 1)])?;
    let job = format!("[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = 2\ncomponent = {:?}\n", component("ledger")?);
    let config = json!({ "timers": "1", "timer-ms": TIMER.as_millis().to_string() });
    let host = stage
        .host("host", &format!("{job}[jobs.{JOB}.config]\ntimers = \"1\"\ntimer-ms = {}\n", config["timer-ms"]))?;
    let (process, api) = (host.start(&[])?, host.api()?);
    api.wait_caught_up(JOB, LIMIT)?;
    let (_, running) = api.get(&format!("/v1/jobs/{JOB}"))?;
    let deploy = |config: &Value| -> Result<()> {
        let body = json!({ "component": running["component"], "config": config });
        let (status, made) = api.ask_of(JOB, "POST", "deployments", &body)?;
        ensure!(status == 201, "{made}");
        Ok(())
    };
    let put =
        |number: &str| stage.put("in", &(0..KEYS).map(|key| entry(&format!("key{key}"), number)).collect::<Vec<_>>());
    let sum = |of: &[u8]| -> Result<u64> {
        // Nothing is to be had of a task that has yet to begin.
        let counts = api.counts(JOB).unwrap_or_default();
        Ok(counts.iter().filter(|(key, _)| key.starts_with(of)).map(|(_, count)| count).sum())
    };
    let wait_stopped = |what: &str| {
        wait_for(what, LIMIT, || {
            let stopped = api.tasks(JOB)?[1]["phase"] == "stopped" && process.said()?.contains(what);
            Ok(stopped.then_some(()))
        })
    };
    put("1")?;
    wait_for("all to be folded", LIMIT, || Ok((sum(b"n/")? == KEYS).then_some(())))?;

    // It began on the state of the other task, and does not on that of this one.
    let mut broken = config.clone();
    broken["broken-in"] = "1".into();
    deploy(&broken)?;
    put("2")?;
    wait_stopped("its init failed: told to")?;
    std::thread::sleep(TIMER);
    // Timers are due by now, and so it is called, and stops, in the turn in which it begins to run.
    deploy(&broken)?;
    wait_stopped("begins anew with deployment 3")?;
    deploy(&config)?;
    wait_for("all to be folded, and all timers fired", LIMIT, || {
        Ok((sum(b"n/")? == 2 * KEYS && sum(b"f/")? == 2 * KEYS).then_some(()))
    })?;
    ensure!(sum(b"d/")? == 0, "records came out of order");
    Ok(())
}
