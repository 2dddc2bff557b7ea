//! The whole, on two cores with the embedded servers beside: a plain get loop, and hosts as processes on the same stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kinesis::types::ShardIteratorType;
use pelton_core::commit::{Commit, CommitKind};
use pelton_core::id::{CommitId, CommitNumber, DeploymentNumber, Epoch, Incarnation, TaskId};
use pelton_core::write_set::{WriteSet, user_key};
use pelton_e2e::api::Api;
use pelton_e2e::host::HostFiles;
use pelton_e2e::load::{Load, Pace};
use pelton_e2e::process::{Process, component, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::swapping::rebuilt;
use pelton_engine::ports::Changelog as _;

use crate::{KEYS, key, texts};

const LIMIT: Duration = Duration::from_secs(180);
/// How often hosts are asked, seldom enough to cost them nothing.
const POLL: Duration = Duration::from_millis(20);
const SHARDS: i32 = 4;
/// Records in the stream.
const RECORDS: usize = 1_200_000;
const TASKS: u16 = 256;
/// How long commits are appended.
const APPENDS: Duration = Duration::from_secs(4);
/// Megabytes of state that are restored, in values of 1,000 bytes.
const RESTORED_MB: u64 = 200;

/// How often the logic of all tasks is swapped.
const SWAPS: usize = 10;
/// The load all the while, some 13,000 records of ten words a second: half of what two cores bear with the servers and what puts it
/// beside. Where they are short of time, what is measured is who else has the core.
const SWAP_LOAD: Pace = Pace { keys: 2_000, pause: Duration::from_millis(100), ahead_max: 1_000_000 };
/// Rounds of it behind each swap, so that every task was called.
const SWAP_ROUNDS: u64 = 5;

/// Records that are folded with a shadow and without, and how often.
const SHADOW_RECORDS: usize = 400_000;
const SHADOW_PAIRS: usize = 9;

type Figures = BTreeMap<&'static str, f64>;

/// Measures the whole.
///
/// # Errors
/// When a server or a host does not do what it should.
pub fn figures(figures: &mut Figures) -> Result<()> {
    streams(figures)?;
    eprintln!("a shadow");
    figures.insert("shadow_slowdown", shadow()?);
    eprintln!("swaps");
    figures.insert("swap_pause_ms_p99", swaps()?);
    eprintln!("start and idle");
    idle(figures)?;
    eprintln!("appends");
    figures.insert("commits_per_s", appends()?);
    eprintln!("restore");
    figures.insert("restore_mb_per_s", restore()?);
    Ok(())
}

/// The loop, then hosts, on one stream.
fn streams(figures: &mut Figures) -> Result<()> {
    let stage = Stage::set(&[("in", SHARDS)])?;
    eprintln!("putting {RECORDS} records");
    let records: Vec<_> = texts().take(RECORDS).enumerate().map(|(at, text)| entry(&key(at), &text)).collect();
    stage.put("in", &records)?;
    drop(records);
    eprintln!("the loop");
    let ceiling = get_loop(&stage)?;
    figures.insert("loop_records_per_s", ceiling);
    eprintln!("a host with a component that does nothing");
    let noop = folded(&stage, "noop", "bench_guest")?;
    figures.insert("e2e_noop_records_per_s", noop);
    figures.insert("e2e_noop_vs_loop", noop / ceiling);
    eprintln!("a host that counts words");
    figures.insert("e2e_wordcount_records_per_s", folded(&stage, "words", "word_count")?);
    Ok(())
}

/// Records a second of a loop that gets and counts, a task a shard.
fn get_loop(stage: &Stage) -> Result<f64> {
    let shards = stage.run(stage.kinesis.list_shards().stream_name("in").send())?;
    let count = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let loops = shards.shards().iter().map(|shard| {
        let (client, shard, count) = (stage.kinesis.clone(), shard.shard_id().to_owned(), count.clone());
        async move {
            let start = client.get_shard_iterator().stream_name("in").shard_id(shard);
            let reply = start.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?;
            let mut iterator = reply.shard_iterator.context("an iterator")?;
            while count.load(Ordering::Relaxed) < RECORDS as u64 {
                let reply = client.get_records().shard_iterator(iterator).limit(10_000).send().await?;
                count.fetch_add(reply.records.len() as u64, Ordering::Relaxed);
                iterator = reply.next_shard_iterator.context("an open shard goes on")?;
            }
            anyhow::Ok(())
        }
    });
    stage.run(async {
        let loops: Vec<_> = loops.map(tokio::spawn).collect();
        for each in loops {
            each.await??;
        }
        anyhow::Ok(())
    })?;
    Ok(RECORDS as f64 / began.elapsed().as_secs_f64())
}

/// Records a second that a new host folds of the stream, from the first that were seen folded to the last.
fn folded(stage: &Stage, name: &str, task: &str) -> Result<f64> {
    let file = component(task)?;
    let host =
        stage.host(name, &format!("[jobs.{name}]\ninputs = [\"in\"]\ntasks = {TASKS}\ncomponent = {file:?}\n"))?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    let some = poll("records to be folded", || Ok(Some(folded_now(&api)).filter(|folded| *folded > 0)))?;
    let began = Instant::now();
    poll("all records to be folded", || Ok((folded_now(&api) >= RECORDS as u64).then_some(())))?;
    let rate = (RECORDS as u64 - some) as f64 / began.elapsed().as_secs_f64();
    api.wait_caught_up(name, LIMIT)?;
    Ok(rate)
}

/// Records folded, as the metrics have it; 0 while the host does not answer.
fn folded_now(api: &Api) -> u64 {
    let Ok(answer) = api.ask("GET", "/metrics", &[], &[]) else { return 0 };
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let lines = text.lines().filter(|line| line.starts_with("pelton_records_folded_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

fn poll<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        ensure!(began.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::sleep(POLL);
    }
}

/// How fast records are folded beside a shadow of the same logic, with all as it is by default, for each that is folded without:
/// jobs of both kinds count the words of one stream by turns. The middle of the ratios.
fn shadow() -> Result<f64> {
    let stage = Stage::set(&[("in", SHARDS)])?;
    // The shadows are there before any record is.
    let pairs =
        (0..SHADOW_PAIRS).map(|pair| anyhow::Ok((counting(&stage, pair, false)?, counting(&stage, pair, true)?)));
    let pairs = pairs.collect::<Result<Vec<_>>>()?;
    let records: Vec<_> = texts().take(SHADOW_RECORDS).enumerate().map(|(at, text)| entry(&key(at), &text)).collect();
    stage.put("in", &records)?;
    drop(records);
    let mut ratios = Vec::new();
    for (pair, (alone, beside)) in pairs.iter().enumerate() {
        // Whoever comes first, it is the other next time.
        let rates = match pair % 2 {
            0 => [counted(alone, pair, false)?, counted(beside, pair, true)?],
            _ => {
                let beside = counted(beside, pair, true)?;
                [counted(alone, pair, false)?, beside]
            }
        };
        ratios.push(rates[1] / rates[0]);
    }
    ratios.sort_by(f64::total_cmp);
    eprintln!("beside a shadow for each without: {ratios:.3?}");
    Ok(ratios[SHADOW_PAIRS / 2])
}

fn counting_name(pair: usize, shadow: bool) -> String {
    format!("{}-{pair}", if shadow { "beside" } else { "alone" })
}

/// A job that has begun, with a shadow or without, and its host stopped.
fn counting(stage: &Stage, pair: usize, shadow: bool) -> Result<HostFiles> {
    let (name, words) = (counting_name(pair, shadow), component("word_count")?);
    let jobs = format!("[jobs.{name}]\ninputs = [\"in\"]\ntasks = {TASKS}\ncomponent = {words:?}\n");
    let host = stage.host(&name, &jobs)?;
    let mut process = host.start(&[])?;
    let api = host.api()?;
    api.wait_caught_up(&name, LIMIT)?;
    if shadow {
        let (_, job) = api.get(&format!("/v1/jobs/{name}"))?;
        let body = serde_json::json!({ "component": job["component"], "shadow": {} }).to_string();
        let answer = api.ask("POST", &format!("/v1/jobs/{name}/deployments"), &[], body.as_bytes())?;
        ensure!(answer.status == 201, "{}", String::from_utf8_lossy(&answer.body));
    }
    process.terminate()?;
    process.wait(LIMIT)?;
    Ok(host)
}

/// Records a second that such a job folds of the stream.
fn counted(host: &HostFiles, pair: usize, shadow: bool) -> Result<f64> {
    let name = counting_name(pair, shadow);
    let _process = host.start(&[])?;
    let api = host.api()?;
    let some = poll("records to be folded", || Ok(Some(folded_now(&api)).filter(|folded| *folded > 0)))?;
    let began = Instant::now();
    poll("all records to be folded", || Ok((folded_now(&api) >= SHADOW_RECORDS as u64).then_some(())))?;
    let rate = (SHADOW_RECORDS as u64 - some) as f64 / began.elapsed().as_secs_f64();
    if shadow {
        let (_, found) = api.get(&format!("/v1/jobs/{name}/shadow"))?;
        eprintln!("compared: {}; different: {}", found["compared"], found["differences"]);
        ensure!(found["compared"]["records"].as_u64() > Some(0), "the shadow was never called: {found}");
        let differences = found["differences"].as_object().context("differences")?;
        ensure!(differences.values().all(|number| *number == 0), "the same logic differs: {found}");
    }
    Ok(rate)
}

/// How long tasks stand still where the component of all is swapped again and again while they count words; the 99th of 100.
fn swaps() -> Result<f64> {
    let stage = Stage::set(&[("in", SHARDS)])?;
    let words = component("word_count")?;
    let host =
        stage.host("swaps", &format!("[jobs.swaps]\ninputs = [\"in\"]\ntasks = {TASKS}\ncomponent = {words:?}\n"))?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    api.wait_caught_up("swaps", LIMIT)?;
    let bytes = std::fs::read(&words)?;
    let mut words_of = texts();
    let text = move |_| words_of.next().unwrap_or_default().into_bytes();
    let load = Load::begin_with(&stage.servers.kinesis(), "in", SWAP_LOAD, text)?;
    let (mut pauses, mut meanwhile) = (Vec::new(), 0);
    for swap in 0..SWAPS {
        load.pass(SWAP_ROUNDS)?;
        let (status, pushed) = api.put("/v1/components", rebuilt(&bytes, swap as u8))?;
        ensure!(status == 201, "{pushed}");
        let before = folded_now(&api);
        let body = serde_json::json!({ "component": pushed["digest"] });
        let answer = api.ask("POST", "/v1/jobs/swaps/deployments", &[], body.to_string().as_bytes())?;
        ensure!(answer.status == 201, "{}", String::from_utf8_lossy(&answer.body));
        let number = swap + 2;
        poll("every task to change", || {
            let tasks = api.tasks("swaps")?;
            Ok(tasks.iter().all(|task| task["deployment"] == number).then_some(()))
        })?;
        let swapped = folded_now(&api);
        meanwhile += swapped.saturating_sub(before);
        // Each task was called since.
        let wanted = swapped + SWAP_ROUNDS * SWAP_LOAD.keys;
        poll("records to be folded", || Ok((folded_now(&api) >= wanted).then_some(())))?;
        pauses.extend(api.tasks("swaps")?.iter().filter_map(|task| task["swap_pause_us"].as_u64()));
    }
    let put = load.end()?.rounds * SWAP_LOAD.keys;
    eprintln!("{meanwhile} of {put} records were folded between a deployment and its last task");
    ensure!(meanwhile > 0, "there was no load while tasks were swapped");
    ensure!(pauses.len() > SWAPS * usize::from(TASKS) * 9 / 10, "{} pauses were told", pauses.len());
    pauses.sort_unstable();
    Ok(pauses[pauses.len() * 99 / 100] as f64 / 1_000.0)
}

/// From the start of a process to its first fold, and what 256 tasks take that have an instance each and nothing to do.
fn idle(figures: &mut Figures) -> Result<()> {
    let stage = Stage::set(&[("in", SHARDS)])?;
    let words = component("word_count")?;
    let host =
        stage.host("idle", &format!("[jobs.idle]\ninputs = [\"in\"]\ntasks = {TASKS}\ncomponent = {words:?}\n"))?;
    let records: Vec<_> = texts().take(KEYS).enumerate().map(|(at, text)| entry(&key(at), &text)).collect();
    let mut process = host.start(&[])?;
    stage.put("in", &records)?;
    host.api()?.wait_caught_up("idle", LIMIT)?;
    process.kill()?;
    stage.put("in", &records)?;
    std::fs::remove_file(&host.log)?;
    let process = host.start(&[])?;
    let ms = wait_for("the first record to be folded", LIMIT, || Ok(first_fold_ms(&process.said()?)))?;
    figures.insert("start_to_first_record_ms", ms);
    host.api()?.wait_caught_up("idle", LIMIT)?;
    std::thread::sleep(Duration::from_secs(3));
    figures.insert("idle_rss_mb", resident_mb(&process)?);
    Ok(())
}

/// What the host says of its first fold.
fn first_fold_ms(said: &str) -> Option<f64> {
    let (_, rest) = said.split_once("first record folded ")?;
    rest.split(' ').next()?.parse().ok()
}

fn resident_mb(process: &Process) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the system tells what is resident")?;
    let kib: f64 = line.split_whitespace().next().context("a number")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// Commits of 1 KB a second that 256 tasks append to the table, each one after another.
fn appends() -> Result<f64> {
    let stage = Stage::set(&[])?;
    let settings = pelton_aws::AwsSettings {
        region: Some("us-east-1".into()),
        kinesis_endpoint: Some(stage.servers.kinesis()),
        dynamodb_endpoint: Some(stage.servers.dynamodb()),
    };
    stage.run(async {
        let connections = pelton_aws::connect(&settings).await;
        let table = pelton_aws::DynamoTable::open(connections.dynamodb.clone(), "appends").await?;
        let changelog = Arc::new(pelton_aws::DynamoChangelog::new(table, Incarnation([1; 16])));
        let began = Instant::now();
        let tasks = (0..TASKS).map(|task| {
            let changelog = changelog.clone();
            tokio::spawn(async move {
                let mut appended = 0;
                while began.elapsed() < APPENDS {
                    let commit = pelton_core::codec::encode(&commit(task, appended + 1));
                    changelog.put(TaskId(task), Epoch(1), &commit).await?;
                    appended += 1;
                }
                anyhow::Ok(appended)
            })
        });
        let mut appended = 0;
        for task in tasks.collect::<Vec<_>>() {
            appended += task.await??;
        }
        Ok(appended as f64 / began.elapsed().as_secs_f64())
    })
}

/// A commit of 1 KB that does not compress.
fn commit(task: u16, number: u64) -> Commit {
    let mut state = (u64::from(task) << 32 | number).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let value: Vec<u8> = std::iter::repeat_with(&mut next).take(120).flatten().collect();
    let writes: WriteSet = [(user_key(b"key"), Some(value.into()))].into_iter().collect();
    Commit {
        number: CommitNumber(number),
        id: CommitId([7; 16]),
        previous_id: CommitId([7; 16]),
        epoch: Epoch(1),
        deployment: DeploymentNumber(1),
        kind: CommitKind::Step,
        born: CommitNumber(number),
        invocations: Vec::new(),
        writes: Arc::new(writes),
    }
}

/// Megabytes a second of a task whose local state is lost, from the start of its host until it runs.
fn restore() -> Result<f64> {
    let stage = Stage::set(&[("in", 1)])?;
    let guest = component("bench_guest")?;
    let host = stage.host("big", &format!("[jobs.big]\ninputs = [\"in\"]\ntasks = 1\ncomponent = {guest:?}\n"))?;
    let mut process = host.start(&[])?;
    // A record writes a megabyte.
    let records: Vec<_> = (0..RESTORED_MB).map(|at| entry("key", &format!("fill {}", at * 1_000))).collect();
    stage.put("in", &records)?;
    host.api()?.wait_caught_up("big", LIMIT)?;
    process.terminate()?;
    process.wait(LIMIT)?;
    std::fs::remove_dir_all(&host.data)?;
    std::fs::remove_file(&host.log)?;
    let began = Instant::now();
    let _process = host.start(&[])?;
    let api = host.api()?;
    poll("the task to run", || {
        let tasks = api.tasks("big").unwrap_or_default();
        Ok(tasks.iter().any(|task| task["phase"] == "running").then_some(()))
    })?;
    Ok(RESTORED_MB as f64 / began.elapsed().as_secs_f64())
}
