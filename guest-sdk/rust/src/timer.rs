//! Timers: names, each due at a time, kept by the host with the state.

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::host;

/// A timer that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The name it was set by.
    pub name: String,
    /// When it was due, milliseconds since 1970-01-01 UTC. It is fired no earlier.
    pub due_ms: u64,
}

/// What a call does to timers, by name: sets one to a time, or cancels it. The host has it at the call's end.
#[derive(Debug, Default)]
pub(crate) struct TimerChanges {
    changes: BTreeMap<String, Option<u64>>,
}

impl TimerChanges {
    pub(crate) fn change(&mut self, name: &str, due_ms: Option<u64>) {
        self.changes.insert(name.to_owned(), due_ms);
    }

    pub(crate) fn hand_over(&self) -> Result<(), Failure> {
        self.changes.iter().try_for_each(|(name, due_ms)| match due_ms {
            Some(due_ms) => Ok(host::set_timer(name, *due_ms)?),
            None => Ok(host::cancel_timer(name)?),
        })
    }

    pub(crate) fn clear(&mut self) {
        self.changes.clear();
    }
}
