//! What a call does to its task's timers: kept apart until it succeeds.

use std::collections::BTreeMap;

use pelton_core::timers::{TIMER_NAME_BYTES_MAX, TIMERS_MAX, TimerChange};

use super::bindings::timed::pelton::task::timers;
use super::instance::HostState;

/// The timers of one call.
#[derive(Debug, Default)]
pub(super) struct CallTimers {
    /// How many the task had before.
    set: usize,
    changes: BTreeMap<String, Option<u64>>,
}

impl CallTimers {
    /// A call begins, of a task that has so many.
    pub fn begin(&mut self, set: usize) {
        self.set = set;
        self.changes.clear();
    }

    /// The call is over.
    pub fn end(&mut self) -> Vec<TimerChange> {
        std::mem::take(&mut self.changes).into_iter().collect()
    }

    fn change(&mut self, name: String, due_ms: Option<u64>) -> Result<(), timers::Error> {
        if !(1..=TIMER_NAME_BYTES_MAX).contains(&name.len()) {
            return Err(timers::Error::NameSize(name.len() as u64));
        }
        // A timer set anew counts as one more until the call is over: what the task has is not looked up here.
        if self.set + self.changes.len() >= TIMERS_MAX && !self.changes.contains_key(&name) {
            return Err(timers::Error::TooMany(TIMERS_MAX as u64));
        }
        self.changes.insert(name, due_ms);
        Ok(())
    }
}

impl timers::Host for HostState {
    fn set(&mut self, name: String, due: u64) -> Result<(), timers::Error> {
        if self.read_only {
            return Err(timers::Error::TooMany(0));
        }
        self.timers.change(name, Some(due))
    }

    fn cancel(&mut self, name: String) -> Result<(), timers::Error> {
        if self.read_only {
            return Err(timers::Error::TooMany(0));
        }
        self.timers.change(name, None)
    }
}
