//! A commit: one durable step of a task. It holds the state written, the positions reached and the outputs emitted by
//! the same invocations, so that they can never disagree.

use crate::id::{CommitId, CommitNumber, DeploymentNumber, Epoch, ShardKey};
use crate::position::Position;
use crate::write_set::WriteSet;

/// One durable step of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its place in the changelog. One author ever puts a commit at a number.
    pub number: CommitNumber,
    /// Random; tells whose commit stands at the number.
    pub id: CommitId,
    /// Id of the commit at the number before; all zero at number 1.
    pub previous_id: CommitId,
    /// The owner's epoch when it was written.
    pub epoch: Epoch,
    /// The deployment whose logic produced it; 0 for a fence, which no logic produced.
    pub deployment: DeploymentNumber,
    /// A fence or a step of the logic.
    pub kind: CommitKind,
    /// The commit before which the instance that ran the invocations was born.
    pub born: CommitNumber,
    /// The guest calls whose effects the commit holds, in order.
    pub invocations: Vec<Invocation>,
    /// What changes in the state, system state included.
    pub writes: WriteSet,
}

/// What a commit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitKind {
    /// A new owner shutting out the one before. Changes no state.
    Fence,
    /// Invocations and their effects, or positions alone.
    Step,
}

/// One guest call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The time the guest was told, milliseconds since 1970. Never falls along a changelog.
    pub time_ms: u64,
    /// How many calls with these records had failed before.
    pub failed_attempts: u32,
    /// What it was given.
    pub runs: Vec<InvokedRun>,
}

/// The part of a shard that one guest call was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvokedRun {
    /// Which shard.
    pub shard: ShardKey,
    /// The records begin right after this position.
    pub after: Position,
    /// And end with this one.
    pub up_to: Position,
    /// How many there were.
    pub records: u32,
}

/// A commit as it is stored: an item for the log, and parts where it is too large for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCommit {
    /// The commit's number.
    pub number: CommitNumber,
    /// The commit's id.
    pub id: CommitId,
    /// The commit's kind, which trimming needs to know without decoding.
    pub kind: CommitKind,
    /// What the log item holds; see `codec`.
    pub head: bytes::Bytes,
    /// What is staged beside the log before the item is put, in order; empty where the head holds everything.
    pub parts: Vec<bytes::Bytes>,
}

impl StoredCommit {
    /// What it takes in the table, in bytes, without keys and ids.
    pub fn bytes(&self) -> u64 {
        (self.head.len() + self.parts.iter().map(bytes::Bytes::len).sum::<usize>()) as u64
    }
}
