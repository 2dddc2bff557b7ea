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
    /// How many of the changes set one.
    sets: usize,
}

impl CallTimers {
    /// A call begins, of a task that has so many.
    pub fn begin(&mut self, set: usize) {
        *self = Self { set, ..Self::default() };
    }

    /// The call is over.
    pub fn end(&mut self) -> Vec<TimerChange> {
        std::mem::take(&mut self.changes).into_iter().collect()
    }

    fn change(&mut self, name: String, due_ms: Option<u64>) -> Result<(), timers::Error> {
        if !(1..=TIMER_NAME_BYTES_MAX).contains(&name.len()) {
            return Err(timers::Error::NameSize(name.len() as u64));
        }
        let before = self.changes.get(&name);
        let sets = self.sets + usize::from(due_ms.is_some()) - usize::from(matches!(before, Some(Some(_))));
        // A timer set anew counts as one more until the call is over: what the task has is not looked up here.
        let has_room = sets <= self.sets || self.set + sets <= TIMERS_MAX;
        if !has_room || (before.is_none() && self.changes.len() >= TIMERS_MAX) {
            return Err(timers::Error::TooMany(TIMERS_MAX as u64));
        }
        self.sets = sets;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn change(timers: &mut CallTimers, name: &str, due_ms: Option<u64>) -> bool {
        timers.change(name.into(), due_ms).is_ok()
    }

    #[test]
    fn a_task_that_has_as_many_timers_as_it_may_sets_no_other_and_cancels_any() {
        let mut timers = CallTimers::default();
        timers.begin(TIMERS_MAX - 1);
        assert!(change(&mut timers, "a", Some(1)) && !change(&mut timers, "b", Some(1)));
        assert!(change(&mut timers, "a", Some(2)), "it is the same one");
        assert!(change(&mut timers, "b", None) && change(&mut timers, "c", None));
        assert!(change(&mut timers, "a", None) && change(&mut timers, "b", Some(1)));
        assert!(!change(&mut timers, "c", Some(1)));
        assert_eq!(timers.end().len(), 3);
        timers.begin(TIMERS_MAX);
        assert!(!change(&mut timers, "a", Some(1)) && change(&mut timers, "a", None));
    }
}
