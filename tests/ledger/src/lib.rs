//! A task that keeps account of its records, for tests that compare it with what was put. A record's data is its number
//! within its key, in decimal, rising; `poison` before it makes it one that cannot be processed.
//!
//! State: `n/KEY` how many records, `l/KEY` the last number, `d/KEY NUMBER` a number that came out of order, `f/KEY#NUMBER` how
//! often the timer that the record set was fired, `r/KEY` records that are no number. With `output` configured each record
//! goes on to it, and with `timers` each sets one. With `version`, a number, `v/KEY#NUMBER` says by which version a record was
//! folded. With `flawed` it traps at every third number, with `stuck` it loops there, with `slow`, a
//! number, it loops so often at each, and with `patient` it sleeps a millisecond. With `broken` it cannot begin, with `broken-in`, a
//! number, not in that task. With `hoards`, a partition key, each of its records leaves 8 MiB under `b/NUMBER`, and with `squanders` each
//! removes what those before it left. `timer-ms` says when a timer is due. With `chance`
//! `c/KEY` holds what it makes of clocks, random numbers, a hash map and its memory; with `doubled` each record counts twice, and goes
//! on as another.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use pelton_task::{Call, Context, Failure, Map, Record, Task, Timer};

const COUNT: Map<str, u64> = Map::new("n/");
const LAST: Map<str, u64> = Map::new("l/");
const DISORDER: Map<str, u64> = Map::new("d/");
const FIRED: Map<str, u64> = Map::new("f/");
const RAW: Map<str, u64> = Map::new("r/");
const CHANCE: Map<str, u64> = Map::new("c/");
const VERSION: Map<str, u64> = Map::new("v/");
const HOARD: Map<str, [u8]> = Map::new("b/");
/// What a record leaves in the hoard.
const HOARDED_BYTES: usize = 8 * 1024 * 1024;
/// How far ahead a timer is set, in milliseconds, unless it is said.
const TIMER_MS: u64 = 40;

/// A task that keeps account.
pub struct Ledger {
    output: Option<String>,
    timer_ms: Option<u64>,
    version: Option<u64>,
    flawed: bool,
    stuck: bool,
    slow: u64,
    patient: bool,
    doubled: bool,
    hoards: Option<String>,
    squanders: Option<String>,
    chance: Option<Chance>,
}

/// What is not to be had twice, unless the host sees to it.
struct Chance {
    since: Instant,
    calls: u64,
    words: HashMap<String, u64>,
}

impl Chance {
    fn next(&mut self, key: &str) -> Result<u64, Failure> {
        self.calls += 1;
        self.words.insert(format!("{key}{}", self.calls % 32), self.calls);
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let random = getrandom::u64().map_err(|error| Failure::fatal(error.to_string()))?;
        let parts = [random, time.as_nanos() as u64, self.since.elapsed().as_nanos() as u64, self.calls];
        let order = self.words.values().copied();
        Ok(parts
            .into_iter()
            .chain(order)
            .fold(0, |mixed: u64, part| (mixed ^ part).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }
}

impl Task for Ledger {
    fn init(context: &Context) -> Result<Self, String> {
        let is_broken = context.config("broken-in") == Some(&context.task().to_string());
        if is_broken || context.config("broken").is_some() {
            return Err("told to".into());
        }
        let number = |key| context.config(key).and_then(|number| number.parse().ok());
        Ok(Self {
            output: context.config("output").map(str::to_owned),
            timer_ms: context.config("timers").map(|_| number("timer-ms").unwrap_or(TIMER_MS)),
            version: number("version"),
            flawed: context.config("flawed").is_some(),
            stuck: context.config("stuck").is_some(),
            slow: number("slow").unwrap_or_default(),
            patient: context.config("patient").is_some(),
            doubled: context.config("doubled").is_some(),
            hoards: context.config("hoards").map(str::to_owned),
            squanders: context.config("squanders").map(str::to_owned),
            chance: context.config("chance").map(|_| Chance { since: Instant::now(), calls: 0, words: HashMap::new() }),
        })
    }

    fn process(&mut self, record: &Record<'_>, call: &mut Call) -> Result<(), Failure> {
        let key = record.partition_key();
        let text = std::str::from_utf8(record.data()).unwrap_or_default();
        if text.starts_with("poison") {
            return Err(Failure::poison("told to"));
        }
        let Ok(number) = text.parse::<u64>() else { return RAW.add(call, key, 1) };
        if LAST.get(call, key)?.is_some_and(|last| number <= last) {
            DISORDER.add(call, &format!("{key} {number}"), 1)?;
        }
        assert!(!(self.flawed && number % 3 == 0), "told to");
        if self.stuck && number % 3 == 0 {
            loop {
                std::hint::black_box(());
            }
        }
        for step in 0..self.slow {
            std::hint::black_box(step);
        }
        if self.patient {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(chance) = &mut self.chance {
            CHANCE.put(call, key, &chance.next(key)?)?;
        }
        if let Some(version) = self.version {
            VERSION.put(call, &format!("{key}#{number}"), &version)?;
        }
        if self.hoards.as_deref() == Some(key) {
            HOARD.put(call, &number.to_string(), &vec![0; HOARDED_BYTES])?;
        }
        if self.squanders.as_deref() == Some(key) {
            (1..number).try_for_each(|before| HOARD.delete(call, &before.to_string()))?;
        }
        LAST.put(call, key, &number)?;
        COUNT.add(call, key, if self.doubled { 2 } else { 1 })?;
        if let Some(timer_ms) = self.timer_ms {
            call.set_timer(&format!("{key}#{number}"), call.now_ms() + timer_ms);
        }
        match &self.output {
            Some(output) if self.doubled => call.emit(output, key, b"another"),
            Some(output) => call.emit(output, key, record.data()),
            None => Ok(()),
        }
    }

    fn on_timer(&mut self, timer: &Timer, call: &mut Call) -> Result<(), Failure> {
        FIRED.add(call, &timer.name, 1)
    }
}

pelton_task::export!(Ledger);
