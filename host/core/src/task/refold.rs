//! What a task that was rewound folds again: what of its records and timers was folded before, and what becomes of their outputs.

use std::collections::{BTreeMap, BTreeSet};

use crate::dead_letter::{Content, Timer};
use crate::id::{CommitNumber, ShardKey};
use crate::limits::REFOLD_BYTES_MAX;
use crate::mutant::{Mutant, wrong};
use crate::output::Output;
use crate::position::{Position, RecordPlace};
use crate::record::{Record, Run};
use crate::task::attempts::Item;
use crate::task::effect::{Given, Work};
use crate::timers::{TimerChange, Timers};

/// What becomes of outputs of records that are folded again, and of timers that were due before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefoldedOutputs {
    /// They are not emitted: those of the first time stand.
    Withhold,
    /// They are emitted again, under new ids that name the rewind.
    Again,
}

/// What a task that was rewound has passed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refold {
    /// The rewind.
    pub rewind: CommitNumber,
    /// What becomes of outputs.
    pub outputs: RefoldedOutputs,
    /// Timers due up to this time were due before, in milliseconds since 1970.
    pub clock_ms: u64,
    /// How far each shard had been passed.
    pub positions: BTreeMap<ShardKey, Position>,
    /// What of it was not folded all the same, so that its outputs were never emitted: what was a dead letter, and timers that were
    /// due and had not fired.
    pub unfolded: BTreeSet<Item>,
}

/// What a position, a record or a timer takes in a commit beside the name of its shard or its own, in bytes, at most.
const ITEM_BYTES: usize = 96;

/// Something was folded, and a rewind took that back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldedBefore {
    /// The rewind.
    pub rewind: CommitNumber,
    /// What becomes of outputs when it is folded again.
    pub outputs: RefoldedOutputs,
    /// Timers that it sets for up to this time were due before too, in milliseconds since 1970.
    pub clock_ms: u64,
}

impl FoldedBefore {
    /// What is emitted of the outputs of a call that folds it again, and how.
    pub fn emitted(self, outputs: Vec<Output>) -> Vec<Output> {
        match self.outputs {
            RefoldedOutputs::Withhold if wrong(Mutant::NothingWithheld) => outputs,
            RefoldedOutputs::Withhold => Vec::new(),
            RefoldedOutputs::Again => {
                outputs.into_iter().map(|output| Output { rewind: Some(self.rewind), ..output }).collect()
            }
        }
    }
}

impl Refold {
    /// What a task has passed when it is rewound; what it had passed before an earlier rewind, and not again since, is part of it.
    pub fn new(
        rewind: CommitNumber,
        outputs: RefoldedOutputs,
        (passed, clock_ms): (impl Iterator<Item = (ShardKey, Position)>, u64),
        mut unfolded: BTreeSet<Item>,
        before: Option<&Self>,
    ) -> Self {
        let mut positions: BTreeMap<_, _> = before.map(|before| before.positions.clone()).unwrap_or_default();
        for (shard, position) in passed.filter(|(_, position)| !position.is_start()) {
            let furthest = positions.entry(shard).or_insert(position);
            *furthest = (*furthest).max(position);
        }
        let clock_ms = before.map_or(0, |before| before.clock_ms).max(clock_ms);
        if let Some(before) = before {
            // A timer that had fired may be due once more.
            unfolded.retain(|item| !matches!(item, Item::Timer(timer) if before.was_due(timer)));
            // What was not folded the first time, and was not come to again.
            unfolded.extend(before.unfolded.iter().cloned());
        }
        Self { rewind, outputs, clock_ms, positions, unfolded }
    }

    /// What it takes in a commit, in bytes, at most.
    pub fn weight(&self) -> usize {
        let positions = self.positions.keys().map(|shard| shard.shard.0.len() + ITEM_BYTES);
        let unfolded = self.unfolded.iter().map(|item| match item {
            Item::Record(shard, _) => shard.shard.0.len() + ITEM_BYTES,
            Item::Timer(timer) => timer.name.len() + ITEM_BYTES,
        });
        positions.chain(unfolded).sum()
    }

    /// Whether there is room for what is to be remembered of these timers.
    pub fn has_room_for(&self, timers: &[TimerChange]) -> bool {
        let due = timers.iter().filter(|(_, due_ms)| due_ms.is_some_and(|due_ms| due_ms <= self.clock_ms));
        let more: usize = due.map(|(name, _)| name.len() + ITEM_BYTES).sum();
        more == 0 || self.weight() + more <= REFOLD_BYTES_MAX
    }

    fn has_passed(&self, shard: &ShardKey, place: RecordPlace) -> bool {
        self.positions.get(shard).is_some_and(|position| position.covers(place))
            && (self.unfolded.is_empty() || !self.unfolded.contains(&Item::Record(shard.clone(), place)))
    }

    fn was_due(&self, timer: &Timer) -> bool {
        timer.due_ms <= self.clock_ms
            && (self.unfolded.is_empty() || !self.unfolded.contains(&Item::Timer(timer.clone())))
    }

    fn folded_before(&self, was: bool) -> Option<FoldedBefore> {
        was.then_some(self.undid())
    }

    /// What is to be known of something that the rewind took back.
    pub fn undid(&self) -> FoldedBefore {
        FoldedBefore { rewind: self.rewind, outputs: self.outputs, clock_ms: self.clock_ms }
    }

    /// What was folded before is folded again long after all else is: the timers that it sets are known once more, and not those that
    /// are due already.
    pub fn of(before: FoldedBefore, due: impl Iterator<Item = Timer>) -> Self {
        let FoldedBefore { rewind, outputs, clock_ms } = before;
        Self { rewind, outputs, clock_ms, positions: BTreeMap::new(), unfolded: due.map(Item::Timer).collect() }
    }

    /// The same beside what is still folded again: it was folded before a rewind that came later than this one knows of. Returns whether
    /// it was.
    pub fn reaches(&mut self, before: FoldedBefore, due: impl Iterator<Item = Timer>) -> bool {
        let reached_ms = self.clock_ms;
        let is_later = before.clock_ms > reached_ms;
        if is_later {
            let FoldedBefore { rewind, outputs, clock_ms } = before;
            self.unfolded.extend(due.filter(|timer| timer.due_ms > reached_ms).map(Item::Timer));
            (self.rewind, self.outputs, self.clock_ms) = (rewind, outputs, clock_ms);
        }
        is_later
    }

    /// Timers are set by what was folded before a rewind, or was not: those that are due after that had not fired then. Returns whether
    /// there was one to be remembered.
    pub fn sets(&mut self, before: Option<FoldedBefore>, timers: &[TimerChange]) -> bool {
        let known = self.unfolded.len();
        for (name, due_ms) in timers {
            let is_new = |due_ms: &u64| before.is_none_or(|before| *due_ms > before.clock_ms);
            if let Some(due_ms) = due_ms.filter(|due_ms| *due_ms <= self.clock_ms).filter(is_new) {
                self.unfolded.insert(Item::Timer(Timer { due_ms, name: name.clone() }));
            }
        }
        known != self.unfolded.len()
    }

    /// Whether a record was passed before. One call is given records that were, or others.
    pub fn is_behind(&self, run: &Run, record: &Record) -> bool {
        !wrong(Mutant::RefoldUnsplit) && self.has_passed(&run.shard, record.place)
    }

    /// Of the timers that are due, in their order, the first that are alike: folded before, or not.
    pub fn split(&self, due: &mut Vec<Timer>) {
        let side = due.first().is_some_and(|timer| self.was_due(timer));
        let alike = due.iter().take_while(|timer| self.was_due(timer) == side).count();
        if !wrong(Mutant::RefoldUnsplit) {
            due.truncate(alike);
        }
    }

    /// Whether what a call is given was folded before.
    pub fn call(&self, given: Given<'_>) -> Option<FoldedBefore> {
        self.folded_before(match given {
            Given::Runs(runs) => {
                let first = runs.iter().find_map(|run| Some((&run.shard, run.records().next()?)));
                first.is_some_and(|(shard, record)| self.has_passed(shard, record.place))
            }
            Given::Timers(timers) => timers.first().is_some_and(|timer| self.was_due(timer)),
        })
    }

    /// Whether what becomes a dead letter was folded before.
    pub fn letter(&self, content: &Content) -> Option<FoldedBefore> {
        self.folded_before(match content {
            Content::Record(shard, record) => self.has_passed(shard, record.place),
            Content::Timer(timer) => self.was_due(timer),
            Content::Gap { .. } => false,
        })
    }

    /// A call folded what was not folded before, if there was such in it: from now on it is like the rest. Returns whether there was.
    pub fn folds(&mut self, work: &Work) -> bool {
        let before = self.unfolded.len();
        if before == 0 {
            return false;
        }
        match work.given() {
            Given::Runs(runs) => {
                let records = runs.iter().flat_map(|run| run.records().map(|record| (&run.shard, record.place)));
                for (shard, place) in records {
                    self.unfolded.remove(&Item::Record(shard.clone(), place));
                }
            }
            Given::Timers(timers) => {
                for timer in timers {
                    self.unfolded.remove(&Item::Timer(timer.clone()));
                }
            }
        }
        before != self.unfolded.len()
    }

    /// Whether all is folded again that was folded before.
    pub fn is_over(&self, passed: impl Fn(&ShardKey) -> Option<Position>, timers: &Timers, clock_ms: u64) -> bool {
        clock_ms >= self.clock_ms
            && timers.next_ms().is_none_or(|due_ms| due_ms > self.clock_ms)
            && self.positions.iter().all(|(shard, before)| passed(shard).is_some_and(|position| position >= *before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::dead_letter::{DeadLetter, LetterCause};
    use crate::id::{ShardId, StreamIndex};
    use crate::sequence::SequenceNumber;

    fn shard() -> ShardKey {
        ShardKey { stream: StreamIndex(0), shard: ShardId::from("a") }
    }

    fn timer(due_ms: u64) -> Timer {
        Timer { due_ms, name: format!("t{due_ms}") }
    }

    fn refold(rewind: u64, unfolded: &[Timer], before: Option<&Refold>) -> Refold {
        let unfolded = unfolded.iter().cloned().map(Item::Timer).collect();
        let up_to = Position::after_all_of(SequenceNumber([0, 0, 9]));
        let passed = [(shard(), up_to)].into_iter();
        Refold::new(CommitNumber(rewind), RefoldedOutputs::Withhold, (passed, 100), unfolded, before)
    }

    fn fired_by(refold: &Refold, timer: Timer) -> Option<u64> {
        refold.letter(&Content::Timer(timer)).map(|before| before.rewind.0)
    }

    #[test]
    fn a_timer_that_fired_before_one_rewind_is_known_after_the_next() {
        let first = refold(3, &[timer(20)], None);
        assert_eq!([10, 20, 101].map(|due_ms| fired_by(&first, timer(due_ms))), [Some(3), None, None]);
        // The first is due once more, the second not again yet, and the rewind comes before either fires.
        let second = refold(6, &[timer(10), timer(30)], Some(&first));
        let fired = [10, 20, 30, 40].map(|due_ms| fired_by(&second, timer(due_ms)));
        assert_eq!(fired, [Some(6), None, Some(6), Some(6)]);
        let third = refold(9, &[timer(150)], None);
        assert_eq!(fired_by(&third, timer(150)), None);
    }

    #[test]
    fn what_is_folded_for_the_first_time_is_folded_before_from_then_on() {
        let fires = |due_ms| Work::Timers(vec![timer(due_ms)]);
        let mut refold = refold(3, &[timer(20), timer(30)], None);
        // Also where a dead letter is redriven.
        let letter = DeadLetter {
            cause: LetterCause::Failed,
            message: "why".into(),
            attempts: 1,
            at_ms: 50,
            content: Content::Timer(timer(30)),
            folded_before: None,
        };
        assert!(refold.folds(&Work::Redrive(7, letter.clone().into(), fires(30).into())));
        assert!(refold.letter(&letter.content).is_some());
        assert!(!refold.folds(&fires(10)) && refold.call(fires(20).given()).is_none());
        assert!(refold.folds(&fires(20)) && !refold.folds(&fires(20)));
        assert_eq!(refold.call(fires(20).given()).map(|before| before.rewind), Some(CommitNumber(3)));
    }

    #[test]
    fn of_what_was_folded_before_an_earlier_rewind_only_the_timers_from_before_that_had_fired() {
        let set = |due_ms: &[u64]| due_ms.iter().map(|due_ms| (timer(*due_ms).name, Some(*due_ms))).collect::<Vec<_>>();
        let up_to = |clock_ms| FoldedBefore { rewind: CommitNumber(1), outputs: RefoldedOutputs::Withhold, clock_ms };
        // The second rewind is being folded again.
        let mut refold = refold(3, &[], None);
        assert!(!refold.sets(Some(up_to(100)), &set(&[50])) && refold.sets(Some(up_to(40)), &set(&[30, 50, 200])));
        assert_eq!([30, 50, 200].map(|due_ms| fired_by(&refold, timer(due_ms))), [Some(3), None, None]);
        // What was folded before the first is folded again beside what was before the second.
        let mut refold = Refold::of(up_to(100), [timer(10)].into_iter());
        let later = FoldedBefore { rewind: CommitNumber(7), ..up_to(200) };
        assert!(
            refold.reaches(later, [timer(150)].into_iter()) && !refold.reaches(up_to(100), [timer(160)].into_iter())
        );
        assert_eq!(
            [10, 20, 150, 160, 201].map(|due_ms| fired_by(&refold, timer(due_ms))),
            [None, Some(7), None, Some(7), None]
        );
    }

    #[test]
    fn so_many_timers_are_remembered_and_no_more() {
        let name = "n".repeat(1024);
        let timers = |due_ms, count: usize| -> Vec<TimerChange> {
            (0..count).map(|at| (format!("{at}{name}"), Some(due_ms))).collect()
        };
        let most = REFOLD_BYTES_MAX / (name.len() + ITEM_BYTES + 5);
        let mut refold = refold(3, &[], None);
        assert!(refold.has_room_for(&timers(100, most / 2)) && !refold.has_room_for(&timers(100, most * 2)));
        assert!(refold.has_room_for(&timers(101, most * 2)), "they are due later");
        refold.sets(None, &timers(100, most - 1));
        assert!(refold.weight() <= REFOLD_BYTES_MAX && !refold.has_room_for(&timers(99, most / 2)));
        assert!(codec::encode_refold(&refold).len() <= refold.weight());
        assert!(refold.has_room_for(&[("gone".into(), None)]));
    }
}
