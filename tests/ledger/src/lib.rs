//! A task that keeps account of its records, for tests that compare it with what was put. A record's data is its number
//! within its key, in decimal, rising; `poison` before it makes it one that cannot be processed.
//!
//! State: `n/KEY` how many records, `l/KEY` the last number, `d/KEY NUMBER` a number that came out of order, `f/KEY#NUMBER` how
//! often the timer that the record set was fired, `r/KEY` records that are no number. With `output` configured each record
//! goes on to it, and with `timers` each sets one. With `version`, a number, `v/KEY#NUMBER` says by which version a record was
//! folded. With `flawed` it traps at every third number, and with `broken` it cannot begin.

use pelton_task::{Call, Context, Failure, Map, Record, Task, Timer};

const COUNT: Map<str, u64> = Map::new("n/");
const LAST: Map<str, u64> = Map::new("l/");
const DISORDER: Map<str, u64> = Map::new("d/");
const FIRED: Map<str, u64> = Map::new("f/");
const RAW: Map<str, u64> = Map::new("r/");
const VERSION: Map<str, u64> = Map::new("v/");
/// How far ahead a timer is set, in milliseconds.
const TIMER_MS: u64 = 40;

/// A task that keeps account.
pub struct Ledger {
    output: Option<String>,
    timers: bool,
    version: Option<u64>,
    flawed: bool,
}

impl Task for Ledger {
    fn init(context: &Context) -> Result<Self, String> {
        if context.config("broken").is_some() {
            return Err("told to".into());
        }
        Ok(Self {
            output: context.config("output").map(str::to_owned),
            timers: context.config("timers").is_some(),
            version: context.config("version").and_then(|version| version.parse().ok()),
            flawed: context.config("flawed").is_some(),
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
        if let Some(version) = self.version {
            VERSION.put(call, &format!("{key}#{number}"), &version)?;
        }
        LAST.put(call, key, &number)?;
        COUNT.add(call, key, 1)?;
        if self.timers {
            call.set_timer(&format!("{key}#{number}"), call.now_ms() + TIMER_MS);
        }
        match &self.output {
            Some(output) => call.emit(output, key, record.data()),
            None => Ok(()),
        }
    }

    fn on_timer(&mut self, timer: &Timer, call: &mut Call) -> Result<(), Failure> {
        FIRED.add(call, &timer.name, 1)
    }
}

pelton_task::export!(Ledger);
