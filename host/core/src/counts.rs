//! What became of every record of a task, counted in the commit in which it was decided: records put are those folded, those
//! set aside and those dropped, whatever crashed in between.

use std::collections::BTreeMap;

use crate::policy::Oddity;

/// Since the job was created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records folded from shards.
    pub folded: u64,
    /// Of those, how many begin as an aggregate and are none.
    pub malformed: u64,
    /// Records that policy had dropped, by what was odd about them.
    pub dropped: BTreeMap<Oddity, u64>,
    /// Dead letters ever written; the number of the next one.
    pub dead_letters: u64,
    /// Of those, how many hold a record.
    pub dead_records: u64,
    /// Dead letters folded after all.
    pub redriven: u64,
    /// Timers fired.
    pub timers_fired: u64,
}

impl Counts {
    /// A record was dropped.
    pub fn drop_one(&mut self, oddity: Oddity) {
        *self.dropped.entry(oddity).or_default() += 1;
    }

    /// Records dropped, for any reason.
    pub fn dropped_records(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Adds what came to these between two of its states.
    pub fn add_between(&mut self, before: &Self, now: &Self) {
        for (sum, of) in [
            (&mut self.folded, (|counts| counts.folded) as fn(&Self) -> u64),
            (&mut self.malformed, |counts| counts.malformed),
            (&mut self.dead_letters, |counts| counts.dead_letters),
            (&mut self.dead_records, |counts| counts.dead_records),
            (&mut self.redriven, |counts| counts.redriven),
            (&mut self.timers_fired, |counts| counts.timers_fired),
        ] {
            *sum += of(now).saturating_sub(of(before));
        }
        for (oddity, dropped) in &now.dropped {
            let before = before.dropped.get(oddity).copied().unwrap_or_default();
            *self.dropped.entry(*oddity).or_default() += dropped.saturating_sub(before);
        }
    }
}
