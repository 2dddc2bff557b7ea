//! What those who run a host see: events, metrics, and the commands that ask its API, page by page.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pelton_e2e::api::Api;
use pelton_e2e::events::Watch;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, component, pelton_says, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::streams;

const LIMIT: Duration = Duration::from_secs(40);

/// A host whose job `odd` has so many tasks, over one stream of two shards.
fn odd_job(tasks: usize) -> Result<(Stage, HostFiles, Process)> {
    let stage = Stage::set(&[("in", 2)])?;
    let file = component("misbehaving")?;
    let job = format!("[jobs.odd]\ninputs = [\"in\"]\ntasks = {tasks}\ncomponent = {file:?}\n");
    let host = stage.host("host", &job)?;
    let process = host.start(&[])?;
    host.api()?.wait_caught_up("odd", LIMIT)?;
    Ok((stage, host, process))
}

/// Waits until so many records are folded or set aside, and committed.
fn accounted(api: &Api, records: u64) -> Result<()> {
    wait_for("the records to be accounted for", LIMIT, || {
        let fates = api.fates("odd")?;
        let count = |fate: &str| fates.get(fate).copied().unwrap_or_default();
        Ok((count("folded") + count("dead") == records).then_some(()))
    })?;
    api.wait_caught_up("odd", LIMIT)
}

#[test]
fn a_task_that_stops_is_told_with_its_cause() -> Result<()> {
    let (stage, host, mut process) = odd_job(4)?;
    let api = host.api()?;
    let watch = Watch::begin(&api, None)?;
    stage.put("in", &[entry("bad", "poison"), entry("bad", "poison")])?;
    let written = watch.wait("the dead letters", LIMIT, |event| event.name == "dead-letters")?;
    ensure!(written.data["causes"]["poison"].as_u64().is_some_and(|letters| letters > 0), "{written:?}");
    let (task, first) = (&written.data["task"], &written.data["first"]);
    let letter = format!("/v1/jobs/odd/dead-letters/{task}/{first}");
    ensure!(api.get(&letter)?.0 == 200, "what is told can be read at once: {letter}");
    stage.put("in", &[entry("bad", "fatal")])?;
    let stopped = |event: &pelton_e2e::events::Arrived| event.data["phase"] == "stopped";
    let told = watch.wait("the task to stop", LIMIT, stopped)?;
    let cause = told.data["cause"].as_str().unwrap_or_default();
    ensure!(told.name == "task-phase" && told.data["task"] == *task && cause.contains("told to"), "{told:?}");
    // A reader that was away goes on where it was.
    let resumed = Watch::begin(&api, Some(&written.id))?;
    ensure!(resumed.wait("the task to stop, again", LIMIT, stopped)?.id == told.id);
    process.kill()?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    wait_for("the host to answer", LIMIT, || Ok(api.get("/healthz").ok()))?;
    let later = Watch::begin(&api, Some(&told.id))?;
    let missed = later.wait("another process to be told of", LIMIT, |event| event.name == "missed")?;
    ensure!(missed.data["missed"].is_null() && missed.id.is_empty(), "{missed:?}");
    later.wait("a task to run", LIMIT, |event| event.data["phase"] == "running")?;
    Ok(())
}

/// The metrics of a host in the format of Prometheus: series with their labels, and the kind of each metric.
fn metrics(api: &Api) -> Result<(BTreeMap<String, f64>, BTreeMap<String, String>)> {
    let answer = api.ask("GET", "/metrics", &[], b"")?;
    ensure!(answer.media_type == "text/plain; version=0.0.4; charset=utf-8", "{}", answer.media_type);
    let (mut series, mut kinds, mut helped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for line in String::from_utf8(answer.body)?.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            ensure!(help.ends_with('.') && helped.insert(name.to_owned()), "{line}");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            ensure!(helped.contains(name) && kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            let metric = name.split('{').next().unwrap_or_default();
            ensure!(kinds.contains_key(metric), "{line} has no type");
            ensure!(series.insert(name.to_owned(), value.parse()?).is_none(), "{name} comes twice");
        }
    }
    Ok((series, kinds))
}

#[test]
fn metrics_have_names_units_and_the_right_sums() -> Result<()> {
    let (stage, host, mut process) = odd_job(4)?;
    let good: Vec<_> = (0..40).map(|key| entry(&format!("key{key}"), "count")).collect();
    stage.put("in", &good)?;
    stage.put("in", &[entry("bad", "poison"), entry("bad", "poison"), entry("bad", "cured")])?;
    let api = host.api()?;
    accounted(&api, 43)?;
    let (series, kinds) = metrics(&api)?;
    // Base units only, and a counter says so.
    let units_not_base = ["_ms", "_millis", "_milliseconds", "_minutes", "_kb", "_mb", "_percent", "_seconds_total"];
    for (name, kind) in &kinds {
        let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        ensure!(name.starts_with("pelton_") && plain, "{name}");
        ensure!(["counter", "gauge"].contains(&kind.as_str()), "{name} is a {kind}");
        ensure!((kind == "counter") == name.ends_with("_total"), "{name} is a {kind}");
        ensure!(!units_not_base.iter().any(|unit| name.ends_with(unit)), "{name}");
    }
    for (name, expected) in [
        ("records_folded_total{job=\"odd\"}", 40.0),
        ("dead_letters_written_total{job=\"odd\",reason=\"poison\"}", 2.0),
        ("dead_letters_written_total{job=\"odd\",reason=\"failed\"}", 1.0),
        ("dead_letters_written_total{job=\"odd\",reason=\"gap\"}", 0.0),
        ("records_dropped_total{job=\"odd\",reason=\"stray\"}", 0.0),
        ("malformed_aggregates_total{job=\"odd\"}", 0.0),
        ("dead_letters{job=\"odd\"}", 3.0),
        ("tasks{job=\"odd\",phase=\"running\"}", 4.0),
        ("mailbox_bytes{job=\"odd\"}", 0.0),
        ("lag_seconds{job=\"odd\"}", 0.0),
        ("tasks_in_trouble{job=\"odd\"}", 0.0),
    ] {
        let found = series.get(&format!("pelton_{name}"));
        ensure!(found == Some(&expected), "{name} is {found:?}, not {expected}");
    }
    let commits = series.get("pelton_commits_total{job=\"odd\"}").copied().unwrap_or_default();
    ensure!(commits >= 4.0, "{commits} commits");
    let sum =
        |name: &str| series.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, value)| value).sum::<f64>();
    ensure!(sum("pelton_shard_records_read_total{") == 43.0 && sum("pelton_shard_fetches_total{") > 0.0);

    // Counters begin anew with the process; what stands is still there.
    process.kill()?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    api.wait_caught_up("odd", LIMIT)?;
    let (series, _) = metrics(&api)?;
    let of = |name: &str| series.get(&format!("pelton_{name}")).copied();
    ensure!(of("dead_letters_written_total{job=\"odd\",reason=\"poison\"}") == Some(0.0));
    ensure!(of("dead_letters{job=\"odd\"}") == Some(3.0) && of("records_folded_total{job=\"odd\"}") == Some(0.0));
    Ok(())
}

#[test]
fn commands_follow_the_pages() -> Result<()> {
    let stage = Stage::set(&[("in", 2), ("few", 1)])?;
    let file = component("misbehaving")?;
    let jobs = format!(
        "[jobs.odd]\ninputs = [\"in\"]\ncomponent = {file:?}\n\n[jobs.one]\ninputs = [\"few\"]\ntasks = 1\ncomponent = {file:?}\n"
    );
    let host = stage.host("host", &jobs)?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    // More tasks, dead letters and keys than one page of a command holds.
    let letters: Vec<_> = (0..230).map(|key| entry(&format!("key{key}"), "poison")).collect();
    stage.put("in", &letters)?;
    stage.put("few", &(0..2_100).map(|key| entry(&format!("key{key:04}"), "count")).collect::<Vec<_>>())?;
    accounted(&api, 230)?;
    wait_for("the keys", LIMIT, || Ok((api.fates("one")?.get("folded") == Some(&2_100)).then_some(())))?;
    api.wait_caught_up("one", LIMIT)?;
    let status = api.command_json(&["status"])?;
    let tasks = |at: usize| status["jobs"][at]["task_list"].as_array().map_or(0, Vec::len);
    ensure!((tasks(0), tasks(1)) == (256, 1), "status shows {} and {} tasks", tasks(0), tasks(1));
    let listed = api.command_json(&["dead-letters", "list", "odd", "--limit", "1000"])?;
    let listed = listed.as_array().context("a list")?;
    let ids: BTreeSet<String> =
        listed.iter().map(|letter| format!("{}/{}", letter["task"], letter["number"])).collect();
    ensure!(listed.len() == 230 && ids.len() == 230, "{} dead letters, {} of them different", listed.len(), ids.len());
    let some = api.command_json(&["dead-letters", "list", "odd", "--limit", "210"])?;
    ensure!(some.as_array().is_some_and(|some| *some == listed[..210]), "a limit cuts the list");
    let scanned = api.command_json(&["state", "scan", "one", "--task", "0", "--limit", "2050", "--value", "u64be"])?;
    let scanned = scanned.as_array().context("a list")?;
    ensure!(scanned.len() == 2_050 && scanned[2_049]["key"] == "key2049" && scanned[2_049]["value"] == 1);
    let (exported, _) = api.command(&["state", "export", "one"], 0)?;
    ensure!(exported.lines().count() == 2_100, "{} entries", exported.lines().count());
    let (plan, _) = api.command(&["plan", "one"], 0)?;
    ensure!(plan.contains("shardId-000000000000"), "{plan}");
    Ok(())
}

#[test]
fn a_dead_letter_is_shown_folded_once_and_gone() -> Result<()> {
    let (stage, host, _process) = odd_job(4)?;
    stage.put("in", &[entry("ada", "cured"), entry("ada", "poison"), entry("ada", "count")])?;
    let api = host.api()?;
    accounted(&api, 3)?;
    let listed = api.command_json(&["dead-letters", "list", "odd"])?;
    let id = |at: usize| format!("{}/{}", listed[at]["task"], listed[at]["number"]);
    let (cured, poison) = (id(0), id(1));
    let shown = api.command_json(&["dead-letters", "show", "odd", &cured])?;
    ensure!(shown["content"]["data_text"] == "cured" && shown == listed[0], "{shown}");
    // There is no cure yet: it fails again, stays, and says so.
    let (_, said) = api.command(&["dead-letters", "redrive", "odd", &cured], 1)?;
    ensure!(said.contains(&cured) && said.contains("there is no cure yet"), "{said}");
    let text = std::fs::read_to_string(&host.config)?;
    std::fs::write(&host.config, format!("{text}\n[jobs.odd.config]\ncure = true\n"))?;
    let (exit, made, said) = pelton_says(&["deploy", "odd", "-c", &host.config.to_string_lossy()])?;
    ensure!(exit == 0 && made.trim() == "deployment 2", "{exit}: {made} {said}");
    let (_, said) = api.command(&["deployments", "odd"], 0).map(|(table, said)| (said, table))?;
    ensure!(said.lines().count() == 3 && said.contains("all tasks"), "{said}");
    let redriven = api.command_json(&["dead-letters", "redrive", "odd", &cured])?;
    ensure!(redriven["folded"] == 1, "{redriven}");
    let (_, said) = api.command(&["dead-letters", "redrive", "odd", &cured], 1)?;
    let (task, number) = cured.split_once('/').context("an id has two parts")?;
    ensure!(said.contains(&format!("task {task} has no dead letter {number}, or no longer")), "{said}");
    api.command(&["dead-letters", "redrive", "odd", "nonsense"], 2)?;
    let dropped = api.command_json(&["dead-letters", "drop", "odd", &poison])?;
    ensure!(dropped["dropped"] == 1, "{dropped}");
    ensure!(api.command_json(&["dead-letters", "list", "odd"])? == serde_json::json!([]));
    ensure!(api.counts("odd")?.get(&b"ada"[..]) == Some(&2), "one of the two that count is the one given again");
    Ok(())
}

#[test]
fn a_shard_that_splits_is_told_of() -> Result<()> {
    let (stage, host, _process) = odd_job(4)?;
    let api = host.api()?;
    let watch = Watch::begin(&api, None)?;
    let parent = stage.run(streams::open_shards(&stage.kinesis, "in"))?[0].shard_id().to_owned();
    stage.run(streams::split(&stage.kinesis, "in", 0))?;
    let ended = watch.wait("the parent to end", LIMIT, |event| event.name == "shard-ended")?;
    ensure!(ended.data["stream"] == "in" && ended.data["shard"] == parent.as_str(), "{ended:?}");
    let opened = watch.wait("a child to be opened", LIMIT, |event| event.name == "shard-opened")?;
    ensure!(opened.data["job"] == "odd" && opened.data["shard"] != parent.as_str(), "{opened:?}");
    Ok(())
}
