//! One task in several languages: each does with the same records what the others do, and a running job goes from one to
//! the next and back, on the same state and under load.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use pelton_core::slice::HashKey;
use pelton_core::write_set::WriteSet;
use pelton_e2e::api::Api;
use pelton_e2e::fold;
use pelton_e2e::instance::{Instance, SOME, records, run_of};
use pelton_e2e::process::{component, pelton_says, wait_for};
use pelton_e2e::stage::Stage;
use pelton_e2e::streams::{self, Entry};
use pelton_engine::GuestLimits;
use pelton_engine::guest::{CallEffects, FailureKind, GuestFault, View};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const JOB: &str = "words";
const TASKS: u64 = 16;
/// Sixteen tasks tell their records apart by so many bits less of a hash key.
const SLICE_BITS: u32 = 124;
/// Records of a round, each with a key of its own.
const KEYS: usize = 64;
/// Rounds folded by each language, at least.
const ROUNDS: u64 = 20;
/// Text that a language could take for other words than the next one does.
const PARTS: [&[u8]; 12] = [
    b"The wheel",
    b"the JET, the jet2",
    "Öl über öl".as_bytes(),
    "ＷＩＤＥ İstanbul ſ K".as_bytes(),
    "naïve\u{301} 🎡\u{200d}x\u{a0}y".as_bytes(),
    b"a\xff\xfe b\x80",
    b"cut \xf0\x9f\x8e",
    b"over\xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80",
    b"\xe0\xa0 \xf1\x80\x80! \xe2\x82-",
    b" .,\n\t\0",
    b"",
    b"x_y-2026/11 'tis",
];

/// The components in other languages than Rust, or none where `make guests` left them out.
fn others() -> Result<Option<[&'static str; 2]>> {
    let others = ["word_count_python", "word_count_javascript"];
    match others.iter().try_for_each(|name| component(name).map(drop)) {
        Ok(()) => Ok(Some(others)),
        Err(error) if std::env::var_os("PELTON_REQUIRE_LANGUAGES").is_some() => Err(error),
        Err(error) => {
            // Past the test harness, which keeps what a passing test says to itself.
            writeln!(std::io::stderr(), "left out: {error:#}")?;
            Ok(None)
        }
    }
}

/// Records put without end.
struct Load {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Entry>>>,
}

impl Load {
    fn begin(kinesis: &str) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (client, runtime, told) = (streams::client(kinesis), tokio::runtime::Runtime::new()?, is_over.clone());
        let thread = std::thread::spawn(move || {
            let mut put = Vec::new();
            while !told.load(Ordering::Acquire) {
                let record = |at: usize| {
                    let number = put.len() + at;
                    let text = [PARTS[number % PARTS.len()], PARTS[number / 5 % PARTS.len()]].join(&b' ');
                    (format!("key{at}"), [text, format!(" n{}", number / 1_000).into_bytes()].concat())
                };
                let records: Vec<Entry> = (0..KEYS).map(record).collect();
                runtime.block_on(streams::put(&client, "in", &records))?;
                put.extend(records);
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(put)
        });
        Ok(Self { is_over, thread })
    }

    fn end(self) -> Result<Vec<Entry>> {
        self.is_over.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the load panicked"))?
    }
}

/// Waits until each task runs a deployment and has folded by it what some rounds bring, and returns how the tasks stand.
fn folded_by(api: &Api, deployment: u64) -> Result<Vec<Value>> {
    let folded = |task: &Value| task["counts"]["folded"].as_u64().unwrap_or_default();
    let mut begun: BTreeMap<usize, u64> = BTreeMap::new();
    wait_for("every task to fold by what it is to run", LIMIT, || {
        let tasks = api.tasks(JOB)?;
        if let Some(task) = tasks.iter().find(|task| task["deployment"] != deployment || task["phase"] != "running") {
            ensure!(task["phase"] != "stopped", "{task}");
            return Ok(None);
        }
        let has_folded = |(at, task)| folded(task) >= *begun.entry(at).or_insert(folded(task)) + ROUNDS;
        let done = tasks.iter().enumerate().map(has_folded).fold(true, |all, one| all & one);
        Ok(done.then_some(tasks))
    })
}

#[test]
fn a_running_job_goes_from_one_language_to_the_next_and_back() -> Result<()> {
    let Some([python, javascript]) = others()? else { return Ok(()) };
    let stage = Stage::set(&[("in", 3)])?;
    let job = format!(
        "[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = {TASKS}\ncomponent = {:?}\ncommit-interval = \"50ms\"\n\
         [jobs.{JOB}.limits]\nbatch-timeout = \"60s\"\n",
        component("word_count")?
    );
    let host = stage.host("host", &job)?;
    let (mut process, api) = (host.start(&[])?, host.api()?);
    wait_for("the job to run", LIMIT, || Ok(api.get(&format!("/v1/jobs/{JOB}")).ok()))?;
    let load = Load::begin(&stage.servers.kinesis())?;
    folded_by(&api, 1)?;

    for (name, deployment) in [(python, 2), (javascript, 3), ("word_count", 4)] {
        let began = Instant::now();
        let (config, file) = (host.config.to_string_lossy(), component(name)?);
        let args = ["deploy", JOB, "-c", &config, &file.to_string_lossy()];
        let (exit, made, said) = pelton_says(&args)?;
        ensure!(exit == 0 && made.trim() == format!("deployment {deployment}"), "{exit}: {made} {said}");
        let deployed = began.elapsed();
        let tasks = folded_by(&api, deployment).with_context(|| process.said().unwrap_or_default())?;
        let mut pauses: Vec<u64> = tasks.iter().filter_map(|task| task["swap_pause_us"].as_u64()).collect();
        pauses.sort_unstable();
        let failed = tasks.iter().find(|task| task["failed_batches"] != 0);
        ensure!(failed.is_none(), "calls failed: {failed:?}");
        ensure!(pauses.len() == TASKS as usize, "every task swapped: {pauses:?}");
        println!(
            "{name}: deployed in {} ms, pauses of {} to {} us, half under {}",
            deployed.as_millis(),
            pauses[0],
            pauses[pauses.len() - 1],
            pauses[pauses.len() / 2]
        );
    }

    let put = load.end()?;
    wait_for("everything to be folded", LIMIT, || {
        Ok((api.fates(JOB)?.get("folded") == Some(&(put.len() as u64))).then_some(()))
    })?;
    ensure!(api.fates(JOB)?.len() == 1 && api.dead_letters(JOB)?.is_empty(), "{:?}", api.fates(JOB)?);
    // The last of it is yet to be committed; where it never comes to the fold, that says what differs.
    if wait_for("the state to be the fold", LIMIT, || Ok(check(&api, &put).ok())).is_err() {
        check(&api, &put)?;
    }
    println!("{} records", put.len());
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}

/// Expects the state of each task to be the fold of the records that are its own.
fn check(api: &Api, put: &[Entry]) -> Result<()> {
    let mut texts: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (key, data) in put {
        let task = (HashKey::of(key).0 >> SLICE_BITS) as u64;
        texts.entry(task).or_default().push(String::from_utf8_lossy(data).into_owned());
    }
    ensure!(texts.len() == TASKS as usize, "only {} tasks have records", texts.len());
    let mut found: BTreeMap<u64, BTreeMap<Vec<u8>, u64>> = BTreeMap::new();
    for (task, key, value) in api.state(JOB)? {
        let count = u64::from_be_bytes(value.as_slice().try_into().context("a count has not 8 bytes")?);
        found.entry(task).or_default().insert(key, count);
    }
    for (task, texts) in texts {
        let expected = fold::word_counts(texts.iter().map(String::as_str));
        let found = found.remove(&task).unwrap_or_default();
        let differences = fold::differences(&found, &expected);
        ensure!(found == expected, "task {task}: {}", differences.join("\n"));
    }
    ensure!(found.is_empty(), "tasks without records have state: {:?}", found.keys());
    Ok(())
}

/// Keys and data of one call.
type Batch = Vec<(&'static str, Vec<u8>)>;

/// What a component does with batches that each see what the one before wrote; then with an output that there is not.
fn deeds(name: &str, batches: &[Batch]) -> Result<Vec<CallEffects>> {
    let mut instance = Instance::of(name, GuestLimits::default())?;
    let streams: Arc<[String]> = ["in".to_owned()].into();
    let call = |instance: &Instance, batch: &Batch, open: WriteSet| -> Result<CallEffects, GuestFault> {
        let run = run_of(records(batch.iter().map(|(key, data)| (*key, data.as_slice()))));
        let view = View { open: Arc::new(open), ..instance.view() };
        instance.start()?.process(&[run], &streams, SOME, 0, view).map(|(_, effects)| effects)
    };
    let mut deeds: Vec<CallEffects> = Vec::new();
    instance.identity.config = Arc::new([("output".to_owned(), "out".to_owned())].into());
    for batch in batches {
        let open = deeds.last().map(|deeds| deeds.writes.clone()).unwrap_or_default();
        deeds.push(call(&instance, batch, open).with_context(|| name.to_owned())?);
    }
    instance.identity.config = Arc::new([("output".to_owned(), "nowhere".to_owned())].into());
    match call(&instance, &batches[0], WriteSet::default()) {
        Err(GuestFault::Failed { kind: FailureKind::Fatal, message, .. }) if message.contains("nowhere") => Ok(deeds),
        other => bail!("{name} has nowhere to emit to: {other:?}"),
    }
}

#[test]
fn each_language_does_the_same() -> Result<()> {
    let Some(others) = others()? else { return Ok(()) };
    let odd = PARTS.iter().map(|part| ("key", part.to_vec()));
    let long = [vec![b'x'; 3_000], format!("x{}", "ü".repeat(600)).into_bytes()].map(|data| ("long", data));
    let many: Vec<String> = (0..150_000).map(|number| number.to_string()).collect();
    let many = [("many", many.join(" ").into_bytes()), ("key", b"7 THE 7".to_vec())];
    let batches: [Batch; 2] = [odd.chain(long).collect(), many.into()];
    let expected = deeds("word_count", &batches)?;
    ensure!(expected[1].outputs.len() == 3, "many words are told in two messages");
    for name in others {
        for (found, expected) in deeds(name, &batches)?.iter().zip(&expected) {
            for (found, expected) in found.outputs.iter().zip(&expected.outputs) {
                let at =
                    found.data.iter().zip(&expected.data).take_while(|(found, expected)| found == expected).count();
                let rest = String::from_utf8_lossy(&found.data[at..found.data.len().min(at + 100)]);
                ensure!(found == expected, "{name}: {:?} differs from byte {at} on: {rest:?}", found.partition_key);
            }
            ensure!(found.outputs.len() == expected.outputs.len(), "{name}: {} outputs", found.outputs.len());
            ensure!(found.writes == expected.writes, "{name} writes something else");
        }
    }
    Ok(())
}
