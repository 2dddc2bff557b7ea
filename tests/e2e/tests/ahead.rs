//! An instance begins ahead of its first call only where nobody can tell: what its `init` sees of state, time and chance is of
//! that call, and what it says is said once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use pelton_e2e::api::Api;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, component, pelton_says, wait_for};
use pelton_e2e::stage::{Stage, entry};
use serde_json::{Value, json};

const JOB: &str = "stores";
const LIMIT: Duration = Duration::from_secs(60);

struct Started {
    stage: Stage,
    _host: HostFiles,
    _process: Process,
    api: Api,
}

impl Started {
    fn new() -> Result<Self> {
        let stage = Stage::set(&[("in", 1)])?;
        let job = format!(
            "[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = 1\ncomponent = {:?}\n[jobs.{JOB}.config]\ngreeting = \"hello\"\n",
            component("stores")?
        );
        let host = stage.host("host", &job)?;
        let (process, api) = (host.start(&[])?, host.api()?);
        api.wait_caught_up(JOB, LIMIT)?;
        let started = Self { stage, _host: host, _process: process, api };
        for _ in 0..2 {
            started.stage.put("in", &[entry("ada", "count")])?;
        }
        started.wait("count/ada", |count| count == "2")?;
        Ok(started)
    }

    /// Waits for a value in the state.
    fn wait(&self, key: &str, is_it: impl Fn(&str) -> bool) -> Result<String> {
        wait_for(key, LIMIT, || {
            let found = self.api.state(JOB)?.into_iter().find(|(_, found, _)| found == key.as_bytes());
            let value = found.map(|(_, _, value)| String::from_utf8(value)).transpose()?;
            Ok(value.filter(|value| is_it(value)))
        })
    }

    /// Deploys it with what it is to do at first, has it begin, and gives the deployment's number and what it saw.
    fn begin(&self, at_init: &str) -> Result<(u64, Vec<String>)> {
        let (_, job) = self.api.get(&format!("/v1/jobs/{JOB}"))?;
        let body = json!({ "component": job["component"], "config": { "at-init": at_init } });
        let (status, made) = self.api.ask_of(JOB, "POST", "deployments", &body)?;
        ensure!(status == 201, "{at_init}: {made}");
        let number = made["deployment"].as_u64().context("a deployment")?;
        self.stage.put("in", &[entry(&number.to_string(), "began")])?;
        let saw = self.wait(&format!("began/{number}"), |_| true)?;
        Ok((number, saw.lines().map(str::to_owned).collect()))
    }

    fn pause_us(&self) -> Result<u64> {
        self.api.tasks(JOB)?[0]["swap_pause_us"].as_u64().context("the last swap took a time")
    }
}

fn now_ms() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64)
}

#[test]
fn what_a_beginning_sees_is_of_its_first_call() -> Result<()> {
    let started = Started::new()?;
    ensure!(started.begin("state several")?.1 == ["2", "2"], "its state is there");
    let (_, saw) = started.begin("list")?;
    ensure!(saw[0].split(' ').any(|key| key == "count/ada"), "its keys are there: {saw:?}");
    // A host goes by the dates of replies, which have whole seconds: it may be behind by one, and by how long a reply takes.
    let since = now_ms()? - 2_000;
    let (_, saw) = started.begin("time")?;
    let time: u64 = saw[0].parse()?;
    ensure!((since..=now_ms()?).contains(&time), "{time} is not since {since}");
    ensure!(started.begin("chance")?.1 != started.begin("chance")?.1, "chance is of the call");
    Ok(())
}

#[test]
fn what_a_beginning_says_is_said_once() -> Result<()> {
    let started = Started::new()?;
    for (at_init, expected) in [
        ("log print", vec!["init: it begins", "it begins, and prints"]),
        ("mutter", vec!["it begins, and"]),
        ("mutter time", vec!["it begins, and"]),
    ] {
        let (number, _) = started.begin(at_init)?;
        // Half a line is one when nothing more can come.
        started.begin("")?;
        let (url, number) = (started.api.base.as_str(), number.to_string());
        let (_, out, _) = pelton_says(&["--json", "logs", "--url", url, JOB, "--deployment", &number])?;
        let lines: Vec<Value> = out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let said: Vec<_> = lines.iter().filter_map(|line| line["text"].as_str()).collect();
        ensure!(said == expected, "{at_init}: {said:?}");
    }
    Ok(())
}

#[test]
fn a_swap_does_not_wait_for_a_beginning_that_needs_nothing() -> Result<()> {
    let started = Started::new()?;
    let pause = |at_init: &str| {
        started.begin(at_init)?;
        started.pause_us()
    };
    // Whoever waits does so each time; another program may hold up one.
    let shortest = |at_init: &str| {
        let pauses = (0..4).map(|_| pause(at_init)).collect::<Result<Vec<_>>>()?;
        pauses.into_iter().min().context("there are some")
    };
    let (with_call, ahead) = (shortest("spin time")?, shortest("spin")?);
    ensure!(ahead * 4 < with_call, "it took {ahead} µs, and {with_call} µs where it had to wait");
    Ok(())
}
