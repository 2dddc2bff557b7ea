//! What waits to be folded, cut into batches: in the order it was taken, records at fault alone, gaps in their place.

use super::{Intake, Progress, Suspects};
use crate::id::ShardKey;
use crate::limits::Bounds;
use crate::position::{Position, PositionEntry, RecordPlace};
use crate::record::{Gap, Record, Run};
use crate::repeats::Repeats;
use crate::slice::{HashKey, HashRange};
use crate::task::Refold;

/// The range of a shard of which none is known: the last hash key, which touches next to nothing.
pub(super) const UNKNOWN_RANGE: HashRange = HashRange { start: HashKey(u128::MAX), end: HashKey(u128::MAX) };

/// Runs passed as one: the logic is called once with their records, if there are any.
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

    /// A record by its index within the call, and its shard.
    pub fn record(&self, index: usize) -> Option<(&ShardKey, &Record)> {
        let mut before = 0;
        for run in &self.runs {
            if index < before + run.len() {
                return run.records().nth(index - before).map(|record| (&run.shard, record));
            }
            before += run.len();
        }
        None
    }

    /// The gap the batch stands for. Such a batch has nothing else.
    pub fn gap(&self) -> Option<(&Run, Gap)> {
        self.runs.iter().find_map(|run| Some((run, run.gap?)))
    }
}

impl Suspects {
    fn holds(&self, record: &Record) -> bool {
        self.from <= record.place && self.up_to.covers(record.place)
    }
}

impl Intake {
    /// Takes runs off the queue for one call: up to the limits of a batch, at least one run; none when the queue is empty. Records
    /// that were passed before a rewind are in no batch with others.
    pub fn next_batch(&mut self, bounds: &Bounds, refold: Option<&Refold>) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut behind = None;
        let (mut records, mut bytes) = (0, 0);
        while let Some(run) = self.queue.front_mut() {
            if run.gap.is_some() {
                if batch.runs.is_empty() {
                    batch.runs.extend(self.queue.pop_front());
                }
                break;
            }
            let suspects = self.suspects.get(&run.shard);
            let mut take = 0;
            let mut alone = false;
            for record in run.records() {
                let full = records + take >= bounds.batch_records_max
                    || (bytes > 0 && bytes + record.weight() > bounds.batch_bytes);
                let suspect = suspects.is_some_and(|suspects| suspects.holds(record));
                let side = refold.map(|refold| refold.is_behind(run, record));
                let apart = records + take > 0 && side != behind;
                if full || apart || (suspect && records + take > 0) {
                    alone = true;
                    break;
                }
                behind = side;
                bytes += record.weight();
                take += 1;
                if suspect {
                    alone = true;
                    break;
                }
            }
            records += take;
            if take == run.len() {
                bytes += run.set_aside().map(|(record, _)| record.weight()).sum::<usize>();
                batch.runs.extend(self.queue.pop_front());
                if alone || records >= bounds.batch_records_max || bytes >= bounds.batch_bytes {
                    break;
                }
            } else {
                batch.runs.extend(run.split_front(take));
                break;
            }
        }
        (!batch.runs.is_empty()).then_some(batch)
    }

    /// Takes a batch back, to be given again before anything else.
    pub fn put_back(&mut self, batch: &Batch) {
        batch.runs.iter().rev().for_each(|run| self.queue.push_front(run.clone()));
    }

    /// Takes a batch that was put back, to pass it without a call.
    ///
    /// # Panics
    /// When something else was put before it.
    pub fn take_again(&mut self, batch: &Batch) {
        for run in &batch.runs {
            let front = self.queue.pop_front().expect("the batch was put back");
            assert_eq!((&front.shard, front.after, front.up_to), (&run.shard, run.after, run.up_to), "it is in front");
        }
    }

    /// Every record of a batch that was put back is given alone.
    pub fn suspect_all(&mut self, batch: &Batch) {
        for run in &batch.runs {
            let Some(first) = run.records().next() else { continue };
            let suspects = self.suspects.entry(run.shard.clone());
            let suspects = suspects.or_insert(Suspects { from: first.place, up_to: run.up_to });
            suspects.from = suspects.from.min(first.place);
            suspects.up_to = suspects.up_to.max(run.up_to);
        }
    }

    /// A record is given alone.
    pub fn suspect(&mut self, shard: &ShardKey, place: RecordPlace) {
        self.suspects.insert(shard.clone(), Suspects { from: place, up_to: Position::After(place) });
    }

    /// Records of a shard are gone. Noted in its place behind what waits; returns false where a dead letter says so already,
    /// and only a reader is missing.
    pub fn lose(&mut self, shard: &ShardKey, gap: Gap, unknown: PositionEntry) -> bool {
        let new = || Progress { wanted: true, ..Progress::at(unknown) };
        let progress = self.shards.entry(shard.clone()).or_insert_with(new);
        if progress.taken == Position::ShardEnd || self.queue.iter().any(|run| run.shard == *shard && run.gap.is_some())
        {
            // It is passed, or about to be, and whoever reads the shard is looked for then.
            return true;
        }
        let up_to = match gap {
            Gap::Until(ms) if ms <= progress.excused_ms => {
                progress.wanted = false;
                return false;
            }
            Gap::Until(_) => progress.taken,
            Gap::ToEnd => Position::ShardEnd,
        };
        let run = Run {
            after: progress.taken,
            up_to,
            unread_from_ms: 0,
            shard: shard.clone(),
            fetch: None,
            span: 0..0,
            asides: 0..0,
            gap: Some(gap),
        };
        progress.taken = up_to;
        self.queue.push_back(run);
        true
    }

    /// The runs of a batch are folded.
    pub fn passed(&mut self, batch: &Batch) {
        for run in &batch.runs {
            let progress = self.shards.get_mut(&run.shard).expect("it was taken from here");
            assert_eq!(progress.passed.position, run.after, "runs of a shard are folded one after another");
            progress.passed.position = run.up_to;
            progress.passed.unread_from_ms = progress.passed.unread_from_ms.max(run.unread_from_ms);
            progress.unsealed = true;
            if let Some(gap) = run.gap {
                // Whoever read it stopped there.
                progress.wanted = false;
                progress.excused_ms = if let Gap::Until(ms) = gap { ms } else { u64::MAX };
            }
            if self.suspects.get(&run.shard).is_some_and(|suspects| suspects.up_to <= run.up_to) {
                self.suspects.remove(&run.shard);
            }
            if self.rules.from_job[usize::from(run.shard.stream.0)] {
                let delivered = self.rules.slice.common(&progress.passed.range);
                remember_outputs(run, delivered, &mut self.repeats_passed);
            }
        }
    }

    /// What was folded of jobs upstream since this was last asked.
    pub fn repeats(&mut self) -> &mut Repeats {
        &mut self.repeats_passed
    }

    /// What is kept of a shard that is gone and was never listed.
    pub fn unknown_shard(position: Position) -> PositionEntry {
        PositionEntry { position, unread_from_ms: 0, range: UNKNOWN_RANGE }
    }
}

fn remember_outputs(run: &Run, delivered: Option<HashRange>, seen: &mut Repeats) {
    for record in run.records() {
        let Some(id) = record.output.as_deref() else { continue };
        let first = super::take_output(seen, run.shard.stream, (id, record.hash()), delivered);
        assert!(first, "repeats were set aside when the run was taken: {id:?}");
    }
}
