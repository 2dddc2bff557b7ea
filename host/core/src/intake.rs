//! The intake: how far one task has come in each shard, which shards it needs now, and the runs that wait for it. A run is
//! taken only where it joins what was taken before, so that no reader can make the task skip or repeat a record.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::cause::StopCause;
use crate::id::{ShardId, ShardKey};
use crate::job::JobMeta;
use crate::limits::Bounds;
use crate::position::{Position, PositionEntry};
use crate::record::Run;
use crate::shard::{Shard, ShardMap};
use crate::slice::HashRange;

/// A shard that the task needs read, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub shard: ShardKey,
    /// The position after which the task needs records.
    pub after: Position,
    /// The next unread record arrived no earlier than this, in milliseconds since 1970.
    pub unread_from_ms: u64,
}

impl Want {
    /// Why nothing can be read from here without a gap: what may be unread is older than the stream keeps records.
    pub fn gap(&self, now_ms: u64, retention_ms: u64) -> Option<StopCause> {
        let kept_from_ms = now_ms.saturating_sub(retention_ms);
        (self.unread_from_ms < kept_from_ms).then(|| StopCause::Gap {
            shard: self.shard.clone(),
            detail: format!(
                "records after position {} may have arrived from {} ms on, and the stream keeps those from {kept_from_ms} ms on",
                self.after, self.unread_from_ms
            ),
        })
    }
}

/// What became of a run offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It waits, perhaps without what had been taken before.
    Taken,
    /// All of it had been taken before.
    Known,
    /// Something before it is missing: the shard must be read again from this position.
    Hole(Position),
}

/// One task's progress through its shards.
#[derive(Debug)]
pub struct Intake {
    slice: HashRange,
    shards: BTreeMap<ShardKey, Progress>,
    queue: VecDeque<Run>,
}

#[derive(Debug)]
struct Progress {
    /// Taken into the queue up to here.
    taken: Position,
    /// Folded up to here.
    passed: PositionEntry,
    /// Whether `passed` is further than what was last sealed.
    unsealed: bool,
    /// Whether a reader was asked for.
    wanted: bool,
}

/// Runs given to one guest call.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In the order they are folded.
    pub runs: Vec<Run>,
}

impl Batch {
    /// How many records the call is given.
    pub fn records(&self) -> usize {
        self.runs.iter().map(Run::len).sum()
    }
}

impl Intake {
    /// The intake of a task that has come this far.
    pub fn new(slice: HashRange, positions: impl IntoIterator<Item = (ShardKey, PositionEntry)>) -> Self {
        let progress = |(shard, entry): (ShardKey, PositionEntry)| {
            (shard, Progress { taken: entry.position, passed: entry, unsealed: false, wanted: false })
        };
        Self { slice, shards: positions.into_iter().map(progress).collect(), queue: VecDeque::new() }
    }

    /// Goes on from positions that were passed while there was nothing to commit. They count as unsealed.
    pub fn advance(&mut self, idle: Vec<(ShardKey, PositionEntry)>) {
        assert!(self.queue.is_empty(), "idle positions are taken before any record");
        for (shard, entry) in idle {
            let known = self.shards.get(&shard).map(|progress| progress.passed);
            let further =
                |known: PositionEntry| (known.position, known.unread_from_ms) < (entry.position, entry.unread_from_ms);
            if known.is_none_or(further) {
                let progress = Progress { taken: entry.position, passed: entry, unsealed: true, wanted: false };
                self.shards.insert(shard, progress);
            }
        }
    }

    /// The shards that need a reader now and had none asked for: those whose parents are all passed.
    pub fn wants(&mut self, map: &ShardMap, meta: &JobMeta) -> Vec<Want> {
        let behind = self.ancestors_of_known(map);
        let mut wants = Vec::new();
        for (key, shard) in map.touching(self.slice) {
            if !self.shards.contains_key(key) {
                if behind.contains(key) || !self.parents_passed(key, shard, map, meta) {
                    continue;
                }
                self.shards.insert(key.clone(), self.opening(key, shard, meta));
            }
            let progress = self.shards.get_mut(key).expect("it was just put there");
            if progress.taken != Position::ShardEnd && !progress.wanted {
                progress.wanted = true;
                let unread_from_ms = progress.passed.unread_from_ms;
                wants.push(Want { shard: key.clone(), after: progress.taken, unread_from_ms });
            }
        }
        wants
    }

    /// Every shard that some shard with a position descends from: never opened again.
    fn ancestors_of_known(&self, map: &ShardMap) -> BTreeSet<ShardKey> {
        let mut ancestors = BTreeSet::new();
        let mut open: Vec<ShardKey> = self.shards.keys().cloned().collect();
        while let Some(key) = open.pop() {
            for parent in map.get(&key).iter().flat_map(|shard| &shard.parents) {
                let parent = ShardKey { stream: key.stream, shard: parent.clone() };
                if ancestors.insert(parent.clone()) {
                    open.push(parent);
                }
            }
        }
        ancestors
    }

    fn parents_passed(&self, key: &ShardKey, shard: &Shard, map: &ShardMap, meta: &JobMeta) -> bool {
        shard.parents.iter().all(|parent| {
            let parent = ShardKey { stream: key.stream, shard: parent.clone() };
            match (self.shards.get(&parent), map.get(&parent)) {
                (Some(progress), _) => progress.taken == Position::ShardEnd,
                (None, Some(parent)) => !parent.range.touches(&self.slice),
                // It expired before the job began, or all that this task needed of it came through the other parent.
                (None, None) => meta.lies_before_start(&parent) || self.covered_without(&parent, key, shard, map),
            }
        })
    }

    /// Whether a parent whose range is known, begun or not, holds all that the shard and the slice share.
    fn covered_without(&self, unlisted: &ShardKey, key: &ShardKey, shard: &Shard, map: &ShardMap) -> bool {
        let start = shard.range.start.max(self.slice.start);
        let end = shard.range.end.min(self.slice.end);
        let others = shard.parents.iter().filter(|parent| **parent != unlisted.shard);
        let range = |parent: &ShardId| {
            let parent = ShardKey { stream: key.stream, shard: parent.clone() };
            let begun = self.shards.get(&parent).map(|progress| progress.passed.range);
            begun.or_else(|| map.get(&parent).map(|shard| shard.range))
        };
        others.filter_map(range).any(|range| range.contains(start) && range.contains(end))
    }

    fn opening(&self, key: &ShardKey, shard: &Shard, meta: &JobMeta) -> Progress {
        let (position, mut unread_from_ms) = meta.opening(key);
        for parent in &shard.parents {
            let parent = ShardKey { stream: key.stream, shard: parent.clone() };
            if let Some(progress) = self.shards.get(&parent) {
                unread_from_ms = unread_from_ms.max(progress.passed.unread_from_ms);
            }
        }
        let passed = PositionEntry { position, unread_from_ms, range: shard.range };
        Progress { taken: position, passed, unsealed: false, wanted: false }
    }

    /// Shards that this task still has to read and no listing shows, each behind one that waits for it: parents never begun,
    /// and shards begun and not read to their end. Whether they are gone is for Kinesis to say, not for a listing.
    pub fn orphans(&self, map: &ShardMap, meta: &JobMeta) -> Vec<(ShardKey, ShardKey)> {
        let behind = self.ancestors_of_known(map);
        let unknown =
            map.touching(self.slice).filter(|(key, _)| !self.shards.contains_key(key) && !behind.contains(key));
        let waiting = unknown.flat_map(|(key, shard)| {
            let parents = shard.parents.iter().map(|parent| ShardKey { stream: key.stream, shard: parent.clone() });
            parents.map(move |parent| (key.clone(), parent, shard))
        });
        waiting
            .filter(|(key, parent, shard)| {
                map.get(parent).is_none()
                    && match self.shards.get(parent) {
                        Some(progress) => progress.taken != Position::ShardEnd,
                        None => !meta.lies_before_start(parent) && !self.covered_without(parent, key, shard, map),
                    }
            })
            .map(|(key, parent, _)| (key, parent))
            .collect()
    }

    /// Takes a run, if it joins.
    ///
    /// # Panics
    /// When the run is of a shard that was never wanted.
    pub fn offer(&mut self, mut run: Run) -> Admission {
        let progress = self.shards.get_mut(&run.shard).expect("a reader gives only what was wanted");
        if run.after > progress.taken {
            progress.wanted = true;
            return Admission::Hole(progress.taken);
        }
        if run.up_to <= progress.taken && run.set_aside.is_none() {
            let raises = run.unread_from_ms > progress.passed.unread_from_ms;
            if raises && run.up_to == progress.passed.position {
                return self.nothing_came(&run);
            }
            return Admission::Known;
        }
        let known = run.records().take_while(|record| progress.taken.covers(record.place)).count();
        run.span.start += known;
        run.after = progress.taken;
        progress.taken = run.up_to;
        self.queue.push_back(run);
        Admission::Taken
    }

    /// Nothing was passed, but that nothing came so far is worth keeping: it rules out a gap. It is kept only while nothing
    /// waits to be folded, since the end of a parent might be among it: no child is written before that.
    fn nothing_came(&mut self, run: &Run) -> Admission {
        if self.shards.values().all(|progress| progress.taken == progress.passed.position) {
            let progress = self.shards.get_mut(&run.shard).expect("it was looked up before");
            progress.passed.unread_from_ms = run.unread_from_ms;
            progress.unsealed = true;
        }
        Admission::Known
    }

    /// Takes runs off the queue for one call: up to the limits of a batch, at least one run; none when the queue is empty.
    pub fn next_batch(&mut self, bounds: &Bounds) -> Option<Batch> {
        let mut batch = Batch::default();
        let (mut records, mut bytes) = (0, 0);
        while let Some(run) = self.queue.front_mut() {
            let mut take = 0;
            for record in run.records() {
                if records + take >= bounds.batch_records_max
                    || (bytes > 0 && bytes + record.weight() > bounds.batch_bytes)
                {
                    break;
                }
                bytes += record.weight();
                take += 1;
            }
            records += take;
            if take == run.len() {
                let aside = run.set_aside.is_some();
                batch.runs.extend(self.queue.pop_front());
                if aside || records >= bounds.batch_records_max {
                    break;
                }
            } else {
                batch.runs.extend(split_front(run, take));
                break;
            }
        }
        (!batch.runs.is_empty()).then_some(batch)
    }

    /// The runs of a batch are folded.
    pub fn passed(&mut self, batch: &Batch) {
        for run in &batch.runs {
            let progress = self.shards.get_mut(&run.shard).expect("it was taken from here");
            assert_eq!(progress.passed.position, run.after, "runs of a shard are folded one after another");
            progress.passed.position = run.up_to;
            progress.passed.unread_from_ms = progress.passed.unread_from_ms.max(run.unread_from_ms);
            progress.unsealed = true;
        }
    }

    /// The positions that are further than what was last sealed; from now on they count as sealed.
    pub fn seal(&mut self) -> Vec<(ShardKey, PositionEntry)> {
        let unsealed = self.shards.iter_mut().filter(|(_, progress)| progress.unsealed);
        unsealed
            .map(|(shard, progress)| {
                progress.unsealed = false;
                (shard.clone(), progress.passed)
            })
            .collect()
    }

    /// The positions that are further than what was last sealed.
    pub fn unsealed(&self) -> impl Iterator<Item = (&ShardKey, &PositionEntry)> {
        self.shards.iter().filter(|(_, progress)| progress.unsealed).map(|(shard, progress)| (shard, &progress.passed))
    }

    /// How far the task has come in every shard it knows.
    pub fn positions(&self) -> impl Iterator<Item = (&ShardKey, &PositionEntry)> {
        self.shards.iter().map(|(shard, progress)| (shard, &progress.passed))
    }

    /// How far runs were taken in a shard.
    pub fn taken(&self, shard: &ShardKey) -> Option<Position> {
        self.shards.get(shard).map(|progress| progress.taken)
    }

    /// The runs that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &Run> {
        self.queue.iter()
    }
}

/// Cuts the first `take` records off a run, or nothing if that is none.
fn split_front(run: &mut Run, take: usize) -> Option<Run> {
    let last = run.records().nth(take.checked_sub(1)?)?.place;
    let mut front = run.clone();
    front.span.end = front.span.start + take;
    front.up_to = Position::After(last);
    front.set_aside = None;
    // More of the run is unread, so its bound on what follows does not hold in its midst.
    front.unread_from_ms = 0;
    run.span.start += take;
    run.after = Position::After(last);
    Some(front)
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
