//! The intake: how far one task has come in each shard, which shards it needs now, and the runs that wait for it. A run is
//! taken only where it joins what was taken before, so that no reader can make the task skip or repeat a record.

mod lineage;
mod queue;
mod unread;

use std::collections::{BTreeMap, VecDeque};

use crate::id::{ShardKey, StreamIndex};
use crate::limits::{CLOCK_MARGIN_MS, GAP_HEAD_START_DIVISOR, GAP_HEAD_START_MS_MIN};
use crate::mutant::{Mutant, wrong};
use crate::output::OutputId;
use crate::policy::{Fate, Oddity};
use crate::position::{Position, PositionEntry, RecordPlace};
use crate::record::{Aside, Fetch, Run};
use crate::repeats::{Mark, Repeats, Upstream};
use crate::slice::{HashKey, HashRange};

pub use queue::Batch;
pub use unread::Unread;

/// A shard that the task needs read, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub shard: ShardKey,
    /// The position after which the task needs records.
    pub after: Position,
    /// The next unread record arrived no earlier than this, in milliseconds since 1970.
    pub unread_from_ms: u64,
    /// A dead letter says that unread records that arrived before this may be gone, in milliseconds since 1970; 0 for none.
    pub excused_ms: u64,
}

impl Want {
    /// Up to when unread records may be gone, in milliseconds since 1970; none when the stream still keeps all of them, or a
    /// dead letter has said so.
    pub fn gap(&self, now_ms: u64, retention_ms: u64) -> Option<u64> {
        gap(self.unread_from_ms.max(self.excused_ms), now_ms, retention_ms)
    }
}

/// Up to when records may be gone of which none arrived before a time, in milliseconds since 1970; none when all are kept.
pub fn gap(unread_from_ms: u64, now_ms: u64, retention_ms: u64) -> Option<u64> {
    let margin_ms = if wrong(Mutant::GapWithoutMargin) { 0 } else { CLOCK_MARGIN_MS };
    let kept_ms = if wrong(Mutant::GapTooSoon) { retention_ms / 2 } else { retention_ms };
    let kept_from_ms = (now_ms + margin_ms).saturating_sub(kept_ms);
    let head_start_ms = if wrong(Mutant::GapTooFar) { retention_ms } else { head_start_ms(retention_ms) };
    (unread_from_ms < kept_from_ms).then_some(kept_from_ms + head_start_ms)
}

/// What reading has to have ahead of the horizon, which moves on while what is left is being read: some of that may be gone too before
/// it is. In milliseconds.
pub fn head_start_ms(retention_ms: u64) -> u64 {
    (retention_ms / GAP_HEAD_START_DIVISOR).max(GAP_HEAD_START_MS_MIN)
}

/// What became of a run offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It waits, perhaps without what had been taken before.
    Taken,
    /// All of it had been taken before.
    Known,
    /// Something before it is missing: the shard must be read again from here.
    Hole(Want),
}

/// What an intake goes by.
#[derive(Clone, Debug)]
pub struct IntakeRules {
    /// The task's.
    pub slice: HashRange,
    /// The shards that touch this are read: the slice, or all of the space where policy has every task read every shard.
    pub reads: HashRange,
    /// Of each input stream, whether it carries the outputs of another job, of which repeats are dropped.
    pub from_job: Vec<bool>,
}

/// One task's progress through its shards.
#[derive(Debug)]
pub struct Intake {
    rules: IntakeRules,
    shards: BTreeMap<ShardKey, Progress>,
    queue: VecDeque<Run>,
    /// Of each shard with a record that may be at fault, which records the logic is given alone.
    suspects: BTreeMap<ShardKey, Suspects>,
    /// What was taken of jobs upstream.
    repeats_taken: Repeats,
    /// What was folded of jobs upstream.
    repeats_passed: Repeats,
}

#[derive(Debug)]
struct Progress {
    /// Taken into the queue up to here.
    taken: Position,
    /// What is not taken yet arrived no earlier than this.
    untaken_from_ms: u64,
    /// Folded up to here.
    passed: PositionEntry,
    /// Whether `passed` is further than what was last sealed.
    unsealed: bool,
    /// Whether anything of it was sealed.
    logged: bool,
    /// Whether a reader was asked for.
    wanted: bool,
    /// Dead letters say that unread records that arrived before this may be gone.
    excused_ms: u64,
}

impl Progress {
    fn at(entry: PositionEntry) -> Self {
        Self {
            taken: entry.position,
            untaken_from_ms: entry.unread_from_ms,
            passed: entry,
            unsealed: false,
            logged: false,
            wanted: false,
            excused_ms: 0,
        }
    }

    fn want(&self, shard: &ShardKey) -> Want {
        let untaken_from_ms = match wrong(Mutant::WantForgetsTaken) {
            true => self.passed.unread_from_ms,
            false => self.untaken_from_ms,
        };
        let (unread_from_ms, excused_ms) = (untaken_from_ms, self.excused_ms);
        Want { shard: shard.clone(), after: self.taken, unread_from_ms, excused_ms }
    }
}

#[derive(Clone, Copy, Debug)]
struct Suspects {
    /// The first.
    from: RecordPlace,
    /// All up to here.
    up_to: Position,
}

impl Intake {
    /// The intake of a task that has come this far, and has seen this of jobs upstream.
    pub fn new(
        rules: IntakeRules,
        positions: impl IntoIterator<Item = (ShardKey, PositionEntry)>,
        seen: impl IntoIterator<Item = (Upstream, HashKey, Mark)>,
    ) -> Self {
        let progress =
            |(shard, entry): (ShardKey, PositionEntry)| (shard, Progress { logged: true, ..Progress::at(entry) });
        let mut repeats = Repeats::default();
        seen.into_iter().for_each(|(upstream, start, mark)| repeats.restore(upstream, start, mark));
        Self {
            rules,
            shards: positions.into_iter().map(progress).collect(),
            queue: VecDeque::new(),
            suspects: BTreeMap::new(),
            repeats_taken: repeats.clone(),
            repeats_passed: repeats,
        }
    }

    /// Goes on from positions that were passed while there was nothing to commit. They count as unsealed.
    pub fn advance(&mut self, idle: Vec<(ShardKey, PositionEntry)>) {
        assert!(self.queue.is_empty(), "idle positions are taken before any record");
        for (shard, entry) in idle {
            let known = self.shards.get(&shard).map(|progress| progress.passed);
            let further =
                |known: PositionEntry| (known.position, known.unread_from_ms) < (entry.position, entry.unread_from_ms);
            if known.is_none_or(further) {
                self.shards.insert(shard, Progress { unsealed: true, ..Progress::at(entry) });
            }
        }
    }

    /// Takes a run, if it joins.
    pub fn offer(&mut self, mut run: Run) -> Admission {
        // A reader gives only what was wanted. That may have been before a rewind, which forgot the shard, or the letter without which
        // the reader would not have gone on.
        let wanted = self.shards.get_mut(&run.shard).filter(|progress| progress.wanted);
        let Some(progress) = wanted else { return Admission::Known };
        if run.after > progress.taken && !wrong(Mutant::HoleTaken) {
            progress.wanted = true;
            return Admission::Hole(progress.want(&run.shard));
        }
        if run.up_to <= progress.taken {
            if run.up_to == progress.taken {
                progress.untaken_from_ms = progress.untaken_from_ms.max(run.unread_from_ms);
            }
            let raises = run.unread_from_ms > progress.passed.unread_from_ms;
            if raises && run.up_to == progress.passed.position {
                return self.nothing_came(&run);
            }
            return Admission::Known;
        }
        match wrong(Mutant::OverlapTaken) {
            true => run.after = progress.taken,
            false => run.skip_to(progress.taken),
        }
        progress.taken = run.up_to;
        progress.untaken_from_ms = progress.untaken_from_ms.max(run.unread_from_ms);
        if self.rules.from_job[usize::from(run.shard.stream.0)] {
            let delivered = self.rules.slice.common(&progress.passed.range);
            drop_repeats(&mut run, delivered, &mut self.repeats_taken);
        }
        self.queue.push_back(run);
        Admission::Taken
    }

    /// Nothing was passed, but that nothing came so far is worth keeping: it rules out a gap. It is kept only while nothing
    /// waits to be folded, since the end of a parent might be among it, and no child is written before that; or a gap, whose letter
    /// nobody would ask for again.
    fn nothing_came(&mut self, run: &Run) -> Admission {
        let is_folded = |progress: &Progress| progress.taken == progress.passed.position;
        let gap_waits = self.queue.iter().any(|waiting| waiting.gap.is_some());
        if self.shards.values().all(is_folded) && !gap_waits {
            let progress = self.shards.get_mut(&run.shard).expect("it was looked up before");
            progress.passed.unread_from_ms = run.unread_from_ms;
            progress.unsealed = true;
        }
        Admission::Known
    }

    /// The positions that are further than what was last sealed; from now on they count as sealed.
    pub fn seal(&mut self) -> Vec<(ShardKey, PositionEntry)> {
        let unsealed = self.shards.iter_mut().filter(|(_, progress)| progress.unsealed);
        unsealed
            .map(|(shard, progress)| {
                (progress.unsealed, progress.logged) = (false, true);
                if wrong(Mutant::PositionBeforeWrites) {
                    return (shard.clone(), PositionEntry { position: progress.taken, ..progress.passed });
                }
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

/// Sets aside what the job upstream had sent before.
fn drop_repeats(run: &mut Run, delivered: Option<HashRange>, seen: &mut Repeats) {
    let stream = run.shard.stream;
    let mut first_time = |record: &crate::record::Record| {
        record.output.as_deref().is_none_or(|id| take_output(seen, stream, (id, record.hash()), delivered))
    };
    let fresh: Vec<bool> = run.records().map(&mut first_time).collect();
    if !fresh.contains(&false) {
        return;
    }
    let mut fetch = Fetch::default();
    for (at, (record, fresh)) in run.records().zip(fresh).enumerate() {
        let index = fetch.records.len() as u32;
        fetch.records.push(record.clone());
        match fresh {
            true => fetch.order.push(index),
            false => fetch.asides.push(Aside { index, fate: Fate::Drop(Oddity::Repeat) }),
        }
        if run.is_malformed(at) && !wrong(Mutant::MalformedForgotten) {
            fetch.malformed.push(index);
        }
    }
    for (record, fate) in run.set_aside() {
        fetch.asides.push(Aside { index: fetch.records.len() as u32, fate });
        fetch.records.push(record.clone());
    }
    let Fetch { records, asides, .. } = &mut fetch;
    asides.sort_by_key(|aside| records[aside.index as usize].place);
    (run.span, run.asides) = (0..fetch.order.len(), 0..fetch.asides.len());
    run.fetch = Some(fetch.into());
}

fn take_output(
    seen: &mut Repeats,
    stream: StreamIndex,
    (id, hash): (&OutputId, HashKey),
    delivered: Option<HashRange>,
) -> bool {
    let delivered = if wrong(Mutant::OneWatermark) { Some(HashRange::ALL) } else { delivered };
    seen.take(stream, id, hash, delivered.unwrap_or(HashRange { start: hash, end: hash }))
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
