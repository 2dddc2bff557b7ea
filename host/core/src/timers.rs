//! The timers of a task: names, each due at a time. They are system state; what is due fires in order of time and name,
//! once, because the commit that holds what a timer did is the one that removes it.

use std::collections::{BTreeMap, BTreeSet};

use crate::dead_letter::Timer;

/// Longest name of a timer, in bytes.
pub const TIMER_NAME_BYTES_MAX: usize = 1024;
/// Timers that one task may have. All are in memory while it runs; for more deadlines keep an index in the state, and set
/// a timer for the first.
pub const TIMERS_MAX: usize = 100_000;
/// Timers fired by one call.
pub const TIMERS_FIRED_MAX: usize = 1_000;

/// What a call does to a timer: sets it to a time in milliseconds since 1970, or cancels it.
pub type TimerChange = (String, Option<u64>);

/// Every timer of a task.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    by_name: BTreeMap<String, u64>,
    by_time: BTreeSet<Timer>,
}

impl Timers {
    /// Sets or cancels a timer; what it was before is forgotten.
    pub fn change(&mut self, name: String, due_ms: Option<u64>) {
        let before = match due_ms {
            Some(due_ms) => self.by_name.insert(name.clone(), due_ms),
            None => self.by_name.remove(&name),
        };
        if let Some(due_ms) = before {
            self.by_time.remove(&Timer { due_ms, name: name.clone() });
        }
        if let Some(due_ms) = due_ms {
            self.by_time.insert(Timer { due_ms, name });
        }
    }

    /// The timers due at a time, the earliest first, as many as one call fires.
    pub fn due(&self, now_ms: u64) -> Vec<Timer> {
        self.by_time.iter().take_while(|timer| timer.due_ms <= now_ms).take(TIMERS_FIRED_MAX).cloned().collect()
    }

    /// Every timer that is due at a time.
    pub fn all_due(&self, now_ms: u64) -> impl Iterator<Item = &Timer> {
        self.by_time.iter().take_while(move |timer| timer.due_ms <= now_ms)
    }

    /// When the next timer is due, milliseconds since 1970.
    pub fn next_ms(&self) -> Option<u64> {
        self.by_time.first().map(|timer| timer.due_ms)
    }

    /// When a timer is due, if it is set.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.by_name.get(name).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_and_a_name_is_due_once() {
        let mut timers = Timers::default();
        for (name, due_ms) in
            [("b", Some(5)), ("a", Some(5)), ("c", Some(1)), ("d", Some(9)), ("c", Some(7)), ("x", None)]
        {
            timers.change(name.into(), due_ms);
        }
        let names = |now_ms| timers.due(now_ms).iter().map(|timer| timer.name.as_str()).collect::<Vec<_>>().join("");
        let timer = |now_ms: u64| (now_ms, names(now_ms));
        assert_eq!([timer(4), timer(5), timer(8), timer(9)].map(|(_, names)| names), ["", "ab", "abc", "abcd"]);
        assert_eq!((timers.next_ms(), timers.len(), timers.get("c")), (Some(5), 4, Some(7)));
    }
}
