//! What a task tells of itself beside its status: events for those who watch, and what it did since this host took it. Both are
//! told of commits that are durable and applied, so that what is told can be read at once.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use pelton_core::codec::{SystemEntry, counts_key, dead_letter_key, decode_system};
use pelton_core::counts::Counts;
use pelton_core::dead_letter::{Content, DeadLetter};
use pelton_core::task::PhaseName;
use pelton_core::write_set::{StateKey, WriteSet};

use crate::cell::{TaskCell, Work, lock};
use crate::events::{Happening, NamedShard};
use crate::status::TaskStatus;

/// What a task did since this host took it. Counts only rise.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// What became of its records since then, but for what its counts say since it began anew last.
    counted: Counts,
    /// What had become of its records before that.
    counts_before: Counts,
    /// What its status said before it was another cell's.
    pub(crate) earlier: Earlier,
    /// Commits that it appended and applied.
    pub commits: u64,
    /// Dead letters in them, by cause.
    pub dead_letters: BTreeMap<&'static str, u64>,
    /// Snapshots that it stored.
    pub snapshots: u64,
    /// Requests to a service that failed and are, or were, tried again.
    pub service_failures: u64,
    /// Whether a service fails it now.
    pub in_trouble: bool,
    /// The number of its next dead letter, as of its newest commit.
    next_letter: u64,
}

/// What the status of a task counts from when it began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Earlier {
    pub records_folded: u64,
    pub failed_batches: u64,
    pub outputs_published: u64,
}

impl Tally {
    /// What became of its records since this host took it, where its counts are these now.
    pub fn counts(&self, now: &Counts) -> Counts {
        let mut counts = self.counted.clone();
        counts.add_between(&self.counts_before, now);
        counts
    }

    /// Its counts were these, and from now on are those: a rewind has them fall.
    fn turn_over(&mut self, were: &Counts, are: &Counts) {
        self.counted = self.counts(were);
        self.counts_before.clone_from(are);
    }

    /// That of the same task in another cell, where its status was this.
    pub(crate) fn handed_on(mut self, status: &TaskStatus) -> Self {
        self.turn_over(&status.counts, &status.counts);
        self.earlier.records_folded += status.records_folded;
        self.earlier.failed_batches += status.failed_batches;
        self.earlier.outputs_published += status.outputs_published;
        self
    }
}

impl TaskCell {
    /// Tells those who watch.
    pub(crate) fn tell_of(&self, what: Happening) {
        self.job.events.tell(self.now_ms(), &self.job.name, what);
    }

    pub(crate) fn tell_phase(&self, status: &TaskStatus) {
        let cause = status.cause.clone().filter(|_| status.phase == PhaseName::Stopped);
        let (task, phase, epoch, commit) = (self.id, status.phase, status.epoch, status.commit);
        self.tell_of(Happening::Phase { task, phase, epoch, commit, cause });
    }

    /// The task runs: from here on its tally counts.
    pub(crate) fn begin_tally(&self, work: &Work) {
        if let Some(running) = work.machine.running() {
            let mut status = lock(&self.status);
            let mut tally = lock(&self.tally);
            tally.turn_over(&status.counts, running.counts());
            status.counts.clone_from(running.counts());
            tally.next_letter = running.counts().dead_letters;
        }
    }

    /// A commit of the task was applied, not one of its past.
    pub(crate) fn tally_commit(&self, writes: &WriteSet) {
        let (first, letters) = {
            let mut tally = lock(&self.tally);
            tally.commits += 1;
            // Those below were written before, and are only changed.
            let first = tally.next_letter;
            if let Some(Some(counts)) = writes.get(&counts_key())
                && let SystemEntry::Counts(counts) = decoded(&counts_key(), counts)
            {
                tally.next_letter = counts.dead_letters;
            }
            let letters = new_letters(writes, first);
            for (_, letter) in &letters {
                *tally.dead_letters.entry(letter.cause.name()).or_default() += 1;
            }
            (first, letters)
        };
        if letters.is_empty() {
            return;
        }
        let mut causes = BTreeMap::new();
        for (_, letter) in &letters {
            *causes.entry(letter.cause.name()).or_default() += 1;
        }
        self.tell_of(Happening::DeadLetters { task: self.id, first, causes });
        for (number, letter) in letters {
            if let Content::Gap { shard, from, to } = letter.content {
                let shard = NamedShard::new(&shard, &self.job.streams);
                self.tell_of(Happening::Gap { task: self.id, letter: number, shard, from, to });
            }
        }
    }

    /// The tally for those who ask.
    pub(crate) fn tally(&self) -> Tally {
        Tally { in_trouble: lock(&self.trouble).is_some(), ..lock(&self.tally).clone() }
    }
}

/// The dead letters among the writes of a commit, from a number on.
fn new_letters(writes: &WriteSet, first: u64) -> Vec<(u64, DeadLetter)> {
    let (start, end) = (dead_letter_key(first), dead_letter_key(u64::MAX));
    let written = writes.range(Bound::Included(&start), Bound::Included(&end));
    let letter = |(key, value): (&StateKey, &Option<Bytes>)| match decoded(key, value.as_ref()?) {
        SystemEntry::DeadLetter(number, _, letter) => Some((number, *letter)),
        entry => unreachable!("between the keys of dead letters there is {entry:?}"),
    };
    written.filter_map(letter).collect()
}

fn decoded(key: &[u8], value: &Bytes) -> SystemEntry {
    decode_system(key, value.clone()).expect("a commit's own system entries can be read")
}

#[cfg(test)]
mod tests {
    use pelton_core::codec::encode_dead_letter;
    use pelton_core::dead_letter::{LetterCause, Timer};
    use pelton_core::write_set::user_key;

    use super::*;

    #[test]
    fn what_is_counted_never_falls() {
        let counts = |timers_fired| Counts { timers_fired, ..Counts::default() };
        let mut tally = Tally::default();
        tally.turn_over(&counts(0), &counts(100));
        assert_eq!(tally.counts(&counts(130)).timers_fired, 30, "since this host took it");
        tally.turn_over(&counts(130), &counts(20));
        assert_eq!(tally.counts(&counts(25)).timers_fired, 35, "behind a rewind");
        let status = TaskStatus { counts: counts(25), records_folded: 7, ..status() };
        let tally = tally.handed_on(&status);
        assert_eq!((tally.counts(&counts(25)).timers_fired, tally.earlier.records_folded), (35, 7));
    }

    fn status() -> TaskStatus {
        TaskStatus::new(
            pelton_core::id::TaskId(0),
            pelton_core::slice::TaskCount::new(1).unwrap().slice(pelton_core::id::TaskId(0)),
        )
    }

    #[test]
    fn only_letters_written_for_the_first_time_are_new() {
        let letter = |cause, attempts| {
            let content = Content::Timer(Timer { due_ms: 1, name: "t".into() });
            DeadLetter { cause, message: "why".into(), attempts, at_ms: 1, content, folded_before: None }
        };
        let write = |number, letter: Option<&DeadLetter>| (dead_letter_key(number), letter.map(encode_dead_letter));
        let (again, poison, gap) =
            (letter(LetterCause::Failed, 3), letter(LetterCause::Poison, 1), letter(LetterCause::Gap, 0));
        // Letter 4 failed once more, 5 was written and given again in one commit.
        let writes = [write(4, Some(&again)), write(5, None), write(6, Some(&poison)), write(7, Some(&gap))];
        let writes: WriteSet = writes.into_iter().chain([(user_key(b"a"), Some("b".into()))]).collect();
        assert_eq!(new_letters(&writes, 5), [(6, poison), (7, gap)]);
        assert_eq!(new_letters(&writes, 8), []);
    }
}
