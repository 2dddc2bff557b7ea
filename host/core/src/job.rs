//! A job as it was created: what can never change while its state lives. Kept in the job's meta item; a host whose
//! configuration says otherwise refuses to start it.

use std::collections::BTreeMap;

use crate::id::{Incarnation, ShardId, ShardKey, StreamIndex, TaskId};
use crate::mutant::{Mutant, wrong};
use crate::policy::{OutOfRange, Policies};
use crate::position::Position;
use crate::slice::{HashRange, TaskCount};

/// Where a new job begins to read, resolved to a point in time when the job was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record kept.
    TrimHorizon,
    /// With records that arrived at or after this time, in milliseconds since 1970 by Kinesis' clock.
    At(u64),
}

/// An input stream as it was when the job was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// When the stream was created, milliseconds since 1970: tells a stream from another made later under its name.
    pub created_ms: u64,
    /// The greatest shard id listed when the job was created.
    pub newest_shard: ShardId,
    /// The shards listed then that may hold records of the job, with their ranges: listings lose a shard when its records
    /// expire, and a task that was not to read it must not take that for a gap. Others up to the greatest lie before the
    /// job's start.
    pub listed: BTreeMap<ShardId, HashRange>,
}

/// What a job is from its creation on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobMeta {
    /// Its name.
    pub name: String,
    /// Tells it from another job of its name, before or after.
    pub incarnation: Incarnation,
    /// How many tasks it has.
    pub tasks: TaskCount,
    /// Its input streams; a [`StreamIndex`] is an index into them.
    pub inputs: Vec<Input>,
    /// Where it began to read.
    pub start: Start,
    /// When it was created, milliseconds since 1970.
    pub created_ms: u64,
    /// What becomes of records that are not simply their task's.
    pub policies: Policies,
}

impl JobMeta {
    /// An input stream.
    ///
    /// # Panics
    /// When the job has no such input.
    pub fn input(&self, stream: StreamIndex) -> &Input {
        &self.inputs[usize::from(stream.0)]
    }

    /// Where a task that knows nothing of a shard begins with it, and from when on its first record may have arrived.
    pub fn opening(&self, shard: &ShardKey) -> (Position, u64) {
        let input = self.input(shard.stream);
        match self.start {
            // Nothing arrived before there was a stream.
            Start::At(ms) if shard.shard <= input.newest_shard || wrong(Mutant::ChildOpenedAtStart) => {
                (Position::AtTimestamp(ms), ms.max(input.created_ms))
            }
            Start::At(_) | Start::TrimHorizon => (Position::TrimHorizon, self.created_ms),
        }
    }

    /// Its input streams.
    pub fn streams(&self) -> impl Iterator<Item = StreamIndex> + use<> {
        (0..self.inputs.len()).map(|at| StreamIndex(at as u16))
    }

    /// From when on a record of a stream may have arrived that the job is to read, in milliseconds since 1970, but for a backlog.
    pub fn start_ms(&self, stream: StreamIndex) -> u64 {
        match self.start {
            Start::At(ms) => ms.max(self.input(stream).created_ms),
            Start::TrimHorizon => self.created_ms,
        }
    }

    /// What is unread of a stream of which nothing is begun may be older than the job, of which this is as much as is known: since the
    /// stream was made, in milliseconds since 1970. None where it is not.
    pub fn backlog_from_ms(&self, stream: StreamIndex) -> Option<u64> {
        (self.start == Start::TrimHorizon).then_some(self.input(stream).created_ms)
    }

    /// The same of what is unread of a shard, and of what comes of it.
    pub fn backlog_of_shard_from_ms(&self, shard: &ShardKey, unread_from_ms: u64) -> Option<u64> {
        let begins_before = shard.shard <= self.input(shard.stream).newest_shard;
        self.backlog_from_ms(shard.stream).filter(|_| begins_before && unread_from_ms <= self.created_ms)
    }

    /// Whether a shard that no listing shows any more ended before the job began, so that nothing of it is missed.
    pub fn lies_before_start(&self, shard: &ShardKey) -> bool {
        let input = self.input(shard.stream);
        shard.shard <= input.newest_shard && !input.listed.contains_key(&shard.shard)
    }

    /// The hash keys of the shards that a task reads.
    pub fn reads(&self, task: TaskId) -> HashRange {
        match self.policies.out_of_range {
            OutOfRange::ReadAll => HashRange::ALL,
            OutOfRange::DeadLetter | OutOfRange::Drop | OutOfRange::Process => self.tasks.slice(task),
        }
    }

    /// The range of a shard that was listed when the job was created.
    pub fn listed_range(&self, shard: &ShardKey) -> Option<HashRange> {
        self.input(shard.stream).listed.get(&shard.shard).copied()
    }
}

#[cfg(test)]
impl JobMeta {
    /// A job of one task that reads a stream whose shards were these when it was created, up to the newest.
    pub(crate) fn of_one_task(newest_shard: ShardId, listed: impl IntoIterator<Item = (ShardId, HashRange)>) -> Self {
        let listed = listed.into_iter().collect();
        Self {
            name: "job".into(),
            incarnation: Incarnation::default(),
            tasks: TaskCount::new(1).expect("one task"),
            inputs: vec![Input { name: "in".into(), arn: String::new(), created_ms: 0, newest_shard, listed }],
            start: Start::TrimHorizon,
            created_ms: 0,
            policies: Policies::default(),
        }
    }
}
