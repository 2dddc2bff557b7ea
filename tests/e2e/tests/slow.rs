//! The slow lane, on a whole host: two tasks that loop for ever while every other task keeps up.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pelton_core::slice::{HashKey, TaskCount};
use pelton_e2e::api::Api;
use pelton_e2e::process::{component, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::streams::Entry;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const LAG_MAX: Duration = Duration::from_secs(2);
/// How long the two loop under watch at a time: once, or where somebody lags twice more, both of which are then to hold: what loops holds
/// others up each time, if it does, and a busy disk does not. All of it is less than their batch-timeout.
const WATCHED: Duration = Duration::from_secs(15);
const WORDS_TASKS: u16 = 256;
const MIXED_TASKS: u16 = 8;
const KEYS: usize = 5_000;
/// Records of words put at a time, and how often at most. It is less often where that would be more than half of what the host was seen
/// to take here and now, servers and all: what is promised is under half of its load.
const BURST: usize = 1_000;
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// How many bursts are put at once to see what it takes.
const TRIED_BURSTS: u32 = 60;

/// What was put for the tasks of a job: when, and how many records of each there were then.
struct Put {
    tasks: TaskCount,
    counts: Mutex<Vec<(Instant, Vec<u64>)>>,
}

impl Put {
    fn new(tasks: u16) -> Self {
        let tasks = TaskCount::new(tasks.into()).expect("a job has tasks");
        let nothing = (Instant::now(), vec![0; tasks.get() as usize]);
        Self { tasks, counts: Mutex::new(vec![nothing]) }
    }

    fn task_of(&self, key: &str) -> usize {
        usize::from(self.tasks.task_of(HashKey::of(key)).0)
    }

    fn put(&self, stage: &Stage, stream: &str, records: &[Entry]) -> Result<()> {
        stage.put(stream, records)?;
        let mut counts = self.counts.lock().expect("no holder panics");
        let mut sums = counts.last().map(|(_, sums)| sums.clone()).unwrap_or_default();
        records.iter().for_each(|(key, _)| sums[self.task_of(key)] += 1);
        counts.push((Instant::now(), sums));
        Ok(())
    }

    fn total(&self) -> u64 {
        self.counts.lock().expect("no holder panics").last().map_or(0, |(_, sums)| sums.iter().sum())
    }

    /// How long before a time the first record was put that its task had not folded then; those of some tasks do not count.
    fn lag(&self, now: Instant, tasks: &[Value], but: &[usize]) -> Duration {
        let counts = self.counts.lock().expect("no holder panics");
        let lag = |(index, task): (usize, &Value)| {
            let folded = task["records_folded"].as_u64().unwrap_or_default();
            let first = counts.iter().find(|(_, sums)| sums[index] > folded);
            first.map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at))
        };
        let others = tasks.iter().enumerate().filter(|(index, _)| !but.contains(index));
        others.map(lag).max().unwrap_or_default()
    }
}

/// Records of 22 words each, of a vocabulary of 20,000.
fn words() -> Vec<Entry> {
    let mut state = 1u32;
    let mut next = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    (0..20_000)
        .map(|index| {
            let text: Vec<String> = (0..22).map(|_| format!("word{}", next(20_000))).collect();
            entry(&format!("key{}", index % KEYS), &text.join(" "))
        })
        .collect()
}

/// The lag that a host itself tells of tasks, in milliseconds.
fn told_lag_ms(tasks: &[Value], but: &[usize]) -> u64 {
    let others = tasks.iter().enumerate().filter(|(index, _)| !but.contains(index));
    others.filter_map(|(_, task)| task["lag_ms"].as_u64()).max().unwrap_or_default()
}

#[test]
fn two_that_loop_for_ever_hold_up_nobody() -> Result<()> {
    let stage = Stage::set(&[("words", 4), ("mixed", 2)])?;
    let jobs = format!(
        "[jobs.words]\ninputs = [\"words\"]\ntasks = {WORDS_TASKS}\ncomponent = {:?}\n\
         [jobs.mixed]\ninputs = [\"mixed\"]\ntasks = {MIXED_TASKS}\ncomponent = {:?}\n\
         [jobs.mixed.limits]\nbatch-timeout = \"120s\"\n",
        component("word_count")?,
        component("misbehaving")?
    );
    let host = stage.host("host", &jobs)?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    let (words_put, mixed_put) = (Put::new(WORDS_TASKS), Put::new(MIXED_TASKS));
    wait_for("both jobs to run", LIMIT, || {
        let all = ["words", "mixed"].map(|job| api.tasks(job).unwrap_or_default()).concat();
        let running =
            |task: &&Value| task["phase"] == "running" && !task["positions"].as_array().is_some_and(Vec::is_empty);
        let count = usize::from(WORDS_TASKS + MIXED_TASKS);
        Ok((all.iter().filter(running).count() == count).then_some(()))
    })?;

    let pause = PAUSE_MIN.max(2 * taken_in(&stage, &api, &words_put)? / TRIED_BURSTS);
    // Keys of two tasks, which loop, and of the others beside them.
    let loops = ["key0", "key1", "key2", "key3", "key4", "key5"].map(|key| (key, mixed_put.task_of(key)));
    let (one, other) =
        (loops[0], *loops.iter().find(|(_, task)| *task != loops[0].1).expect("six keys have two tasks"));
    let stuck = [one.1, other.1];
    mixed_put.put(&stage, "mixed", &[entry(one.0, "loop"), entry(other.0, "loop")])?;
    let mixed: Vec<Entry> = (0..100).map(|key| entry(&format!("key{key}"), "count")).collect();

    let over = AtomicBool::new(false);
    let meant = (BURST as f64 / pause.as_secs_f64()) as u64;
    let seen = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce(&stage, &over, (&words_put, pause), (&mixed_put, &mixed)));
        let watched = || watch(&api, &words_put, &mixed_put, &stuck);
        let mut seen = watched();
        if seen.as_ref().is_ok_and(|seen| !seen.holds(meant)) {
            // Both that follow are to hold, and what held up the first is over by then.
            std::thread::sleep(LAG_MAX);
            seen = watched().and_then(|second| Ok(if second.holds(meant) { watched()? } else { second }));
        }
        over.store(true, Ordering::Relaxed);
        producer.join().expect("the producer does not panic")?;
        seen
    })?;
    let tasks = api.tasks("mixed")?;
    for task in stuck {
        ensure!(tasks[task]["records_folded"] == 0, "task {task} does not loop: {}", tasks[task]);
    }
    ensure!(seen.holds(meant), "{meant} records a second were meant to be put, and {seen:?}");
    Ok(())
}

/// How long the host takes for some bursts of words, from the first put to the last fold.
fn taken_in(stage: &Stage, api: &Api, words_put: &Put) -> Result<Duration> {
    let (records, began) = (words(), Instant::now());
    for burst in records.chunks(BURST).cycle().take(TRIED_BURSTS as usize) {
        words_put.put(stage, "words", burst)?;
    }
    let put = words_put.total();
    wait_for("what was put to be folded", LIMIT, || {
        let folded: u64 = api.tasks("words")?.iter().filter_map(|task| task["records_folded"].as_u64()).sum();
        Ok((folded == put).then_some(()))
    })?;
    Ok(began.elapsed())
}

fn produce(
    stage: &Stage,
    over: &AtomicBool,
    (words_put, pause): (&Put, Duration),
    (mixed_put, mixed): (&Put, &[Entry]),
) -> Result<()> {
    let records = words();
    let mut due = Instant::now();
    for (round, burst) in records.chunks(BURST).cycle().enumerate() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        words_put.put(stage, "words", burst)?;
        if round % 4 == 0 {
            mixed_put.put(stage, "mixed", mixed)?;
        }
        due += pause;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// What is seen of those that do not loop.
#[derive(Debug)]
struct Seen {
    /// Records of words put in a second.
    rate: u64,
    /// The longest of any task.
    lag: Duration,
    /// The same, as the host tells it.
    told_ms: u64,
}

impl Seen {
    /// Whether the load was what it was meant to be, and nobody lagged.
    fn holds(&self, meant: u64) -> bool {
        self.rate > meant * 3 / 4 && self.lag < LAG_MAX && u128::from(self.told_ms) < LAG_MAX.as_millis()
    }
}

fn watch(api: &Api, words_put: &Put, mixed_put: &Put, stuck: &[usize]) -> Result<Seen> {
    let (began, before) = (Instant::now(), words_put.total());
    let (mut lag, mut told_ms) = (Duration::ZERO, 0);
    while began.elapsed() < WATCHED {
        std::thread::sleep(Duration::from_millis(200));
        let now = Instant::now();
        let (words, mixed) = (api.tasks("words")?, api.tasks("mixed")?);
        lag = lag.max(words_put.lag(now, &words, &[])).max(mixed_put.lag(now, &mixed, stuck));
        told_ms = told_ms.max(told_lag_ms(&words, &[])).max(told_lag_ms(&mixed, stuck));
    }
    let seen = Seen { rate: (words_put.total() - before) / WATCHED.as_secs(), lag, told_ms };
    println!("{seen:?}");
    Ok(seen)
}
