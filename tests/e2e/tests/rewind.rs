//! What a bad version did is undone on a running job: state, positions and what a job downstream sees are those of the old logic
//! alone, with kills and reshards in between.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pelton_core::commit::CommitKind;
use pelton_core::slice::{HashKey, TaskCount};
use pelton_e2e::api::Api;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, component, pelton_says, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::{streams, swapping};
use serde_json::{Value, json};

const JOB: &str = "undoing";
/// Folds what [`JOB`] emits, each output once.
const DOWN: &str = "downstream";
const LIMIT: Duration = Duration::from_secs(60);
const TASKS: u64 = 16;
const KEYS: u64 = 60;

/// A job, one downstream of it, and what was put into the first.
struct World {
    stage: Stage,
    host: HostFiles,
    process: Process,
    api: Api,
    put: BTreeMap<String, u64>,
    next: u64,
    /// Whether it has outputs.
    emits: bool,
}

impl World {
    fn start() -> Result<Self> {
        let stage = Stage::set(&[("in", 3), ("out", 2)])?;
        let ledger = component("ledger")?;
        let job = |name: &str, inputs: &str, tasks: u64, more: &str| {
            format!(
                "[jobs.{name}]\ninputs = {inputs}\ntasks = {tasks}\ncomponent = {ledger:?}\ncommit-interval = \"50ms\"\n{more}"
            )
        };
        let upstream = job(
            JOB,
            "[\"in\"]",
            TASKS,
            &format!(
                "[jobs.{JOB}.outputs.out]\nstream = \"out\"\n[jobs.{JOB}.config]\nversion = 1\noutput = \"out\"\n\
                 [jobs.{JOB}.on-error]\nretries = 0\n"
            ),
        );
        let downstream = job(DOWN, &format!("[{{ stream = \"out\", from-job = \"{JOB}\" }}]"), 4, "");
        let host = stage.host("host", &format!("{upstream}{downstream}"))?;
        let (process, api) = (host.start(&[])?, host.api()?);
        Ok(Self { stage, host, process, api, put: BTreeMap::new(), next: 0, emits: true })
    }

    /// A job without outputs, and none downstream.
    fn alone(tasks: u16, job: &str, config: &str) -> Result<Self> {
        let stage = Stage::set(&[("in", 1)])?;
        let ledger = component("ledger")?;
        let host = stage.host(
            "host",
            &format!(
                "[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = {tasks}\ncomponent = {ledger:?}\ncommit-interval = \"50ms\"\n{job}\n\
                 [jobs.{JOB}.config]\nversion = 1\n{config}\n"
            ),
        )?;
        let (process, api) = (host.start(&[])?, host.api()?);
        Ok(Self { stage, host, process, api, put: BTreeMap::new(), next: 0, emits: false })
    }

    fn put(&mut self, records: u64) -> Result<()> {
        let mut entries = Vec::new();
        for _ in 0..records {
            self.next = (self.next + 7) % KEYS;
            let key = format!("key{}", self.next);
            let number = self.put.entry(key.clone()).or_default();
            *number += 1;
            entries.push(entry(&key, &number.to_string()));
        }
        self.stage.put("in", &entries)
    }

    fn total(&self) -> u64 {
        self.put.values().sum()
    }

    /// Waits until a job has folded so many records, and gives its state.
    fn folded(&self, job: &str, records: u64) -> Result<BTreeMap<Vec<u8>, u64>> {
        let mut seen = 0;
        let state = wait_for("the records to be folded", LIMIT, || {
            let state = self.api.counts(job).unwrap_or_default();
            let counts = state.iter().filter(|(key, _)| key.starts_with(b"n/"));
            seen = counts.map(|(_, count)| *count).sum();
            Ok((seen >= records).then_some(state))
        });
        state.with_context(|| {
            format!("{job} has folded {seen} of {records}: {}", self.process.said().unwrap_or_default())
        })
    }

    /// Deploys another version, and waits until every task runs it.
    fn deploy(&self, version: u64, canary: &Value) -> Result<u64> {
        self.deploy_with(json!({ "version": version.to_string() }), canary)
    }

    fn deploy_with(&self, mut config: Value, canary: &Value) -> Result<u64> {
        let (_, job) = self.api.get(&format!("/v1/jobs/{JOB}"))?;
        if self.emits {
            config["output"] = json!("out");
        }
        let body = json!({ "component": job["component"], "config": config, "canary": canary });
        let (status, made) = self.ask("POST", "deployments", &body)?;
        ensure!(status == 201, "{made}");
        made["deployment"].as_u64().context("a deployment")
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        self.api.ask_of(JOB, method, path, body)
    }

    /// Waits until all is folded by the first version, and nothing is left of any other.
    fn folded_by_the_first(&self) -> Result<()> {
        let state = wait_for("the state to be that of the first version alone", LIMIT, || {
            let state = self.folded(JOB, self.total())?;
            Ok((versions(&state) == BTreeMap::from([(1, self.total())])).then_some(state))
        })?;
        check(self, &state)
    }

    fn caught_up(&self) -> Result<()> {
        wait_for("the records to be folded", LIMIT, || {
            let fates = self.api.fates(JOB).unwrap_or_default();
            Ok((fates.get("folded") == Some(&self.total())).then_some(()))
        })?;
        self.api.wait_caught_up(JOB, LIMIT)
    }

    /// `pelton rollback` with this, which ends with a code and says so.
    fn roll_back(&self, how: &str, code: i32, says: &str) -> Result<()> {
        let (ended, _, said) = pelton_says(&["rollback", "--url", &self.api.base, JOB, how])?;
        ensure!(ended == code && said.contains(says), "rollback {how} ends with {ended}: {said}");
        Ok(())
    }

    fn run_by(&self, deployment: u64, tasks: usize) -> Result<()> {
        wait_for("tasks to run a deployment", LIMIT, || {
            let tasks_of = self.api.tasks(JOB)?;
            let there = tasks_of.iter().filter(|task| task["deployment"] == deployment && task["phase"] == "running");
            Ok((there.count() == tasks).then_some(()))
        })
    }

    fn end(mut self) -> Result<()> {
        self.process.terminate()?;
        ensure!(self.process.wait(LIMIT)?.success(), "{}", self.process.said()?);
        Ok(())
    }
}

fn versions(state: &BTreeMap<Vec<u8>, u64>) -> BTreeMap<u64, u64> {
    let mut versions = BTreeMap::new();
    for version in state.iter().filter(|(key, _)| key.starts_with(b"v/")).map(|(_, version)| *version) {
        *versions.entry(version).or_default() += 1;
    }
    versions
}

fn check(world: &World, state: &BTreeMap<Vec<u8>, u64>) -> Result<()> {
    ensure!(!state.keys().any(|key| key.starts_with(b"d/")), "records came out of order");
    for (key, numbers) in &world.put {
        let (count, last) = (state.get(format!("n/{key}").as_bytes()), state.get(format!("l/{key}").as_bytes()));
        ensure!(count == Some(numbers) && last == Some(numbers), "{key}: {count:?} up to {last:?} of {numbers}");
    }
    Ok(())
}

/// The first version folds some, the second more; then all that the second did is undone.
fn undo(outputs: &str) -> Result<(World, u64)> {
    let mut world = World::start()?;
    world.put(1_500)?;
    world.folded(JOB, 1_500)?;
    world.deploy(2, &Value::Null)?;
    world.put(400)?;
    world.stage.run(streams::split(&world.stage.kinesis, "in", 0))?;
    world.put(400)?;
    world.stage.run(streams::merge(&world.stage.kinesis, "in", 1))?;
    world.put(400)?;
    let state = world.folded(JOB, world.total())?;
    ensure!(versions(&state).contains_key(&2), "the second version folded some: {:?}", versions(&state));

    let (status, problem) = world.ask("POST", "rollback?rewind=true", &Value::Null)?;
    let detail = problem["detail"].as_str().unwrap_or_default();
    ensure!(status == 400 && detail.contains("withhold or emitted again") || detail.contains("--outputs"), "{problem}");
    let undone = versions(&state)[&2];
    let (status, rollout) = world.ask("POST", &format!("rollback?rewind=true&outputs={outputs}"), &Value::Null)?;
    ensure!(status == 200 && rollout["current"] == 1, "{rollout}");
    // In the midst of it.
    world.process.kill()?;
    world.process = world.host.start(&[])?;
    wait_for("the host to answer", LIMIT, || Ok(world.api.tasks(JOB).ok()))?;
    world.run_by(1, TASKS as usize)?;
    world.put(600)?;
    world.folded_by_the_first()?;
    ensure!(world.api.dead_letters(JOB)?.is_empty(), "dead letters");
    Ok((world, undone))
}

#[test]
fn a_rewind_leaves_the_fold_of_the_old_logic_and_withheld_outputs_are_not_seen_twice() -> Result<()> {
    let (world, _) = undo("withhold")?;
    let downstream = world.folded(DOWN, world.total())?;
    check(&world, &downstream).context("downstream")?;
    world.end()
}

#[test]
fn a_rewind_that_emits_again_is_seen_by_who_is_downstream() -> Result<()> {
    let (world, undone) = undo("again")?;
    let downstream = world.folded(DOWN, world.total() + undone)?;
    let counts = downstream.iter().filter(|(key, _)| key.starts_with(b"n/"));
    let folded: u64 = counts.map(|(_, count)| *count).sum();
    ensure!(folded == world.total() + undone, "{folded} folded of {} and {undone} again", world.total());
    // The first that comes again of each key is out of order.
    let again = downstream.keys().filter(|key| key.starts_with(b"d/")).count() as u64;
    ensure!(again == KEYS, "{again} of {KEYS} keys came again");
    world.end()
}

#[test]
fn what_was_set_aside_is_seen_once_whatever_became_of_it() -> Result<()> {
    let mut world = World::start()?;
    world.put(600)?;
    world.folded(JOB, 600)?;
    let flawed = world.deploy_with(json!({ "version": "2", "flawed": "yes" }), &Value::Null)?;
    world.run_by(flawed, TASKS as usize)?;
    // Of five numbers more of each key, 11 to 15, it fails with two.
    world.put(5 * KEYS)?;
    world.folded(JOB, 600 + 3 * KEYS)?;
    let letters = wait_for("what it fails with to be set aside", LIMIT, || {
        Ok(Some(world.api.dead_letters(JOB)?).filter(|letters| letters.len() as u64 == 2 * KEYS))
    })?;
    let mended = world.deploy(3, &Value::Null)?;
    world.run_by(mended, TASKS as usize)?;
    for (at, letter) in letters.iter().enumerate() {
        let path = format!("/v1/jobs/{JOB}/dead-letters/{}/{}", letter["task"], letter["number"]);
        let status = match at % 3 {
            0 => world.api.delete(&path)?,
            1 => world.api.post(&format!("{path}/redrive"))?,
            _ => 202,
        };
        ensure!(status == 202, "{status} to {path}");
    }
    wait_for("them to be dropped and folded", LIMIT, || {
        Ok((world.api.dead_letters(JOB)?.len() as u64 == 2 * KEYS / 3).then_some(()))
    })?;
    let (status, rollout) = world.ask("POST", "deployments/1/rollback?rewind=true&outputs=withhold", &Value::Null)?;
    ensure!(status == 200 && rollout["current"] == 1, "{rollout}");
    world.folded_by_the_first()?;
    ensure!(world.api.dead_letters(JOB)?.is_empty(), "dead letters");
    // What comes after all of it comes once it is there.
    world.put(KEYS)?;
    let downstream = world.folded(DOWN, world.total())?;
    for (key, numbers) in &world.put {
        let count = downstream.get(format!("n/{key}").as_bytes());
        ensure!(count == Some(numbers), "downstream has {count:?} of {numbers} of {key}");
    }
    world.end()
}

#[test]
fn what_a_canary_did_is_undone_in_its_tasks_alone() -> Result<()> {
    let mut world = World::start()?;
    world.put(800)?;
    world.folded(JOB, 800)?;
    let canary = world.deploy(2, &json!({ "tasks": [2, 5, 9] }))?;
    world.run_by(canary, 3)?;
    world.put(800)?;
    let state = world.folded(JOB, world.total())?;
    ensure!(versions(&state).contains_key(&2), "the canary folded some");
    let (status, rollout) = world.ask("POST", "rollback?rewind=true&outputs=withhold", &Value::Null)?;
    ensure!(status == 200 && rollout["current"] == 1 && rollout["canary"].is_null(), "{rollout}");
    world.folded_by_the_first()?;
    let of_canary = |task: &str| ["/00002", "/00005", "/00009"].iter().any(|of| task.ends_with(of));
    let mut rewound = 0;
    for (task, log) in swapping::logs(&world.stage)? {
        let rewinds = log.iter().filter(|commit| matches!(commit.kind, CommitKind::Rewind(_))).count();
        ensure!(rewinds == 0 || of_canary(&task), "{task} never ran the canary, and is rewound");
        rewound += rewinds;
    }
    ensure!((1..=3).contains(&rewound), "{rewound} rewinds of 3 tasks");

    // There is nothing more to undo.
    let (status, problem) = world.ask("POST", "rollback?rewind=true&outputs=withhold", &Value::Null)?;
    ensure!(
        status == 409 && problem["detail"].as_str().unwrap_or_default().contains("no deployment was left"),
        "{problem}"
    );
    check(&world, &world.folded(DOWN, world.total())?).context("downstream")?;
    world.end()
}

#[test]
fn a_rewind_past_its_window_is_refused_and_changes_nothing() -> Result<()> {
    let mut world = World::alone(2, "rewind-window = \"1ms\"", "")?;
    world.put(100)?;
    world.folded(JOB, 100)?;
    let second = world.deploy(2, &Value::Null)?;
    world.put(100)?;
    let state = world.folded(JOB, 200)?;
    let (_, rollout) = world.api.get(&format!("/v1/jobs/{JOB}/rollout"))?;
    let (status, problem) = world.ask("POST", "rollback?rewind=true", &Value::Null)?;
    let detail = problem["detail"].as_str().unwrap_or_default();
    ensure!(status == 409 && detail.contains("rewind-window") && detail.contains("nothing is changed"), "{problem}");
    world.roll_back("--rewind", 1, "and its changelog is kept for rewind-window = 1 ms; nothing is changed")?;
    world.roll_back("--withdraw", 1, "the job has no rewind that could be withdrawn")?;
    world.run_by(second, 2)?;
    ensure!(world.api.get(&format!("/v1/jobs/{JOB}/rollout"))?.1 == rollout, "what was refused changed what runs");
    ensure!(world.api.counts(JOB)? == state, "what was refused changed the state");
    world.end()
}

#[test]
fn a_task_that_cannot_be_brought_back_keeps_what_it_has_once_the_rewind_is_withdrawn() -> Result<()> {
    // Of 8 MiB each: more than a rewind can write.
    const ROUNDS: u64 = 18;
    let mut world = World::alone(4, "", "hoards = \"key7\"")?;
    let task_of = |key: &str| TaskCount::new(4).map(|tasks| u64::from(tasks.task_of(HashKey::of(key)).0));
    let stuck = task_of("key7").context("4 is a number of tasks")?;
    for _ in 0..ROUNDS {
        world.put(KEYS)?;
        world.caught_up()?;
    }
    let second = world.deploy_with(json!({ "version": "2", "squanders": "key7" }), &Value::Null)?;
    world.run_by(second, 4)?;
    world.put(2 * KEYS)?;
    world.folded(JOB, world.total())?;

    world.roll_back("--rewind", 0, "1 of 4 tasks are stopped")?;
    let stops = |world: &World| {
        world.run_by(1, 3)?;
        wait_for("a task to stop", LIMIT, || {
            let task = world.api.tasks(JOB)?.swap_remove(stuck as usize);
            let cause = task["cause"].as_str().unwrap_or_default();
            let says = cause.contains("more than 134217728 bytes") && cause.contains("`pelton rollback --withdraw`");
            Ok((task["phase"] == "stopped" && says).then_some(()))
        })
    };
    stops(&world)?;
    // However often it is begun.
    world.process.kill()?;
    world.process = world.host.start(&[])?;
    wait_for("the host to answer", LIMIT, || Ok(world.api.tasks(JOB).ok().filter(|tasks| tasks.len() == 4)))?;
    stops(&world)?;
    world.roll_back("--withdraw", 0, "")?;
    world.run_by(1, 4)?;
    world.roll_back("--withdraw", 1, "the job has no rewind that could be withdrawn")?;

    // What it has is what the second version made of it; the first goes on with that, and has the others' records for itself.
    world.put(KEYS)?;
    world.caught_up()?;
    let state = world.api.state(JOB)?;
    let (hoard, state): (Vec<_>, Vec<_>) = state.into_iter().partition(|(_, key, _)| key.starts_with(b"b/"));
    let hoard: Vec<_> = hoard.iter().map(|(task, key, _)| (*task, String::from_utf8_lossy(key))).collect();
    ensure!(hoard == [(stuck, format!("b/{}", ROUNDS + 3).into())], "of the hoard there is {hoard:?}");
    let number = |value: Vec<u8>| value.as_slice().try_into().map(u64::from_be_bytes).context("a number has 8 bytes");
    let state = state.into_iter().map(|(_, key, value)| Ok((key, number(value)?)));
    let state = state.collect::<Result<BTreeMap<_, _>>>()?;
    check(&world, &state)?;
    for (key, numbers) in &world.put {
        for at in 1..=*numbers {
            let kept = task_of(key) == Some(stuck) && (ROUNDS + 1..ROUNDS + 3).contains(&at);
            let (by, expected) = (state.get(format!("v/{key}#{at}").as_bytes()), if kept { second } else { 1 });
            ensure!(by == Some(&expected), "{key}#{at} is folded by {by:?}, not {expected}");
        }
    }
    ensure!(world.api.dead_letters(JOB)?.is_empty(), "dead letters");
    world.end()
}
