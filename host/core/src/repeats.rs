//! The repeat filter: what a task has seen of the outputs of the job upstream, so that an output sent twice is folded once.
//!
//! An upstream task sends nothing of commit n + 1 before all of commit n is acknowledged, so within one shard whatever comes
//! of a smaller commit than the last seen is a repeat, and within the same commit an index is. Shards deliver apart from one
//! another, so a mark holds for a range of the hash space: that of the shard which delivered, as far as it is the task's.
//! A task reads a shard to its end before its children, so they go on from the marks that stand in their range.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::id::{CommitNumber, Incarnation, StreamIndex, TaskId};
use crate::mutant::{Mutant, wrong};
use crate::output::OutputId;
use crate::slice::{HashKey, HashRange};

/// Who sent it, and by which way: the streams of two outputs are read apart from one another, however they were filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Upstream {
    /// The input stream that delivers it.
    pub stream: StreamIndex,
    /// Of the job.
    pub incarnation: Incarnation,
    /// The task.
    pub task: TaskId,
}

/// What was seen last of an upstream task in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last hash key it holds for.
    pub end: HashKey,
    /// The last commit seen.
    pub commit: CommitNumber,
    /// The indexes seen of it.
    pub indexes: Indexes,
}

/// A set of output indexes, as rising ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<RangeInclusive<u32>>);

impl Indexes {
    /// From ranges as [`Indexes::ranges`] gives them; none when they are not rising or touch.
    pub fn new(ranges: Vec<RangeInclusive<u32>>) -> Option<Self> {
        let rising = ranges.iter().all(|range| range.start() <= range.end());
        let apart =
            ranges.windows(2).all(|pair| pair[0].end().checked_add(1).is_some_and(|next| next < *pair[1].start()));
        (rising && apart).then_some(Self(ranges))
    }

    /// The ranges, rising.
    pub fn ranges(&self) -> &[RangeInclusive<u32>] {
        &self.0
    }

    /// Adds an index. Returns whether it was missing.
    fn insert(&mut self, index: u32) -> bool {
        let at = self.0.partition_point(|range| *range.end() < index);
        if self.0.get(at).is_some_and(|range| range.contains(&index)) {
            return false;
        }
        let joins_before = at > 0 && self.0[at - 1].end().checked_add(1) == Some(index);
        let joins_after = self.0.get(at).is_some_and(|range| index.checked_add(1) == Some(*range.start()));
        match (joins_before, joins_after) {
            (true, true) => {
                let after = self.0.remove(at);
                self.0[at - 1] = *self.0[at - 1].start()..=*after.end();
            }
            (true, false) => self.0[at - 1] = *self.0[at - 1].start()..=index,
            (false, true) => self.0[at] = index..=*self.0[at].end(),
            (false, false) => self.0.insert(at, index..=index),
        }
        true
    }
}

/// What a task has seen of every upstream task.
#[derive(Clone, Debug, Default)]
pub struct Repeats {
    marks: BTreeMap<Upstream, BTreeMap<HashKey, Mark>>,
    changed: BTreeSet<(Upstream, HashKey)>,
}

impl Repeats {
    /// Takes in a mark that stands in the state.
    pub fn restore(&mut self, upstream: Upstream, start: HashKey, mark: Mark) {
        self.marks.entry(upstream).or_default().insert(start, mark);
    }

    /// Takes an output that a shard of an input stream delivered. Returns whether it came for the first time.
    ///
    /// `hash` is that of its partition key, `delivered` the shard's range as far as it is the task's.
    pub fn take(&mut self, stream: StreamIndex, id: &OutputId, hash: HashKey, delivered: HashRange) -> bool {
        let stream = if wrong(Mutant::RepeatsAcrossStreams) { StreamIndex(0) } else { stream };
        let upstream = Upstream { stream, incarnation: id.incarnation, task: id.task };
        // A key that is not the shard's was put there by hand: it has a mark of its own.
        let delivered = if delivered.contains(hash) { delivered } else { HashRange { start: hash, end: hash } };
        self.cut(upstream, delivered.start);
        if let Some(next) = delivered.end.0.checked_add(1) {
            self.cut(upstream, HashKey(next));
        }
        let marks = self.marks.entry(upstream).or_default();
        let inside = || delivered.start..=delivered.end;
        let known = marks.range_mut(..=hash).next_back().filter(|(_, mark)| hash <= mark.end);
        if let Some((start, mark)) = known {
            if id.commit < mark.commit {
                return false;
            }
            if id.commit == mark.commit {
                let first = mark.indexes.insert(id.index);
                if first {
                    self.changed.insert((upstream, *start));
                }
                return first;
            }
        }
        let newest = marks.range(inside()).all(|(_, mark)| mark.commit < id.commit);
        let range = match (newest, marks.range(..=hash).next_back().filter(|(_, mark)| hash <= mark.end)) {
            // Whatever is older is a repeat now in all of the shard: before this commit was sent, all before it had come.
            (true, _) => delivered,
            (false, Some((start, mark))) => HashRange { start: *start, end: mark.end },
            (false, None) => free_around(marks, hash, delivered),
        };
        let replaced: Vec<HashKey> = marks.range(range.start..=range.end).map(|(start, _)| *start).collect();
        for start in replaced {
            marks.remove(&start);
            self.changed.insert((upstream, start));
        }
        let mut indexes = Indexes::default();
        indexes.insert(id.index);
        marks.insert(range.start, Mark { end: range.end, commit: id.commit, indexes });
        self.changed.insert((upstream, range.start));
        true
    }

    /// Makes a mark begin here, if one lies across: both sides go on from it.
    fn cut(&mut self, upstream: Upstream, at: HashKey) {
        let Some(marks) = self.marks.get_mut(&upstream) else { return };
        let Some((start, mark)) = marks.range_mut(..at).next_back().filter(|(_, mark)| at <= mark.end) else { return };
        let start = *start;
        let upper = mark.clone();
        mark.end = HashKey(at.0 - 1);
        marks.insert(at, upper);
        self.changed.extend([(upstream, start), (upstream, at)]);
    }

    /// The marks that are new since this was last asked, and those that are gone.
    pub fn take_changes(&mut self) -> Vec<(Upstream, HashKey, Option<&Mark>)> {
        let changed = std::mem::take(&mut self.changed);
        let mark = |(upstream, start): (Upstream, HashKey)| {
            (upstream, start, self.marks.get(&upstream).and_then(|marks| marks.get(&start)))
        };
        changed.into_iter().map(mark).collect()
    }
}

/// The stretch around a hash key, within a range, that no mark holds.
fn free_around(marks: &BTreeMap<HashKey, Mark>, hash: HashKey, within: HashRange) -> HashRange {
    let before = marks.range(..hash).next_back().map(|(_, mark)| HashKey(mark.end.0 + 1));
    let after = marks.range(hash..).next().map(|(start, _)| HashKey(start.0 - 1));
    HashRange {
        start: before.map_or(within.start, |before| before.max(within.start)),
        end: after.map_or(within.end, |after| after.min(within.end)),
    }
}

#[cfg(test)]
#[path = "repeats_tests.rs"]
mod tests;
