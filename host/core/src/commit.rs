//! A commit: one durable step of a task. It holds the state written, the positions reached and the outputs emitted by
//! the same invocations, so that they can never disagree.

use std::sync::{Arc, OnceLock};

use crate::codec;
use crate::dead_letter::Timer;
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
    /// A fence, a step of the logic, or a rewind.
    pub kind: CommitKind,
    /// The commit before which the instance that ran the invocations was born.
    pub born: CommitNumber,
    /// The guest calls whose effects the commit holds, in order.
    pub invocations: Vec<Invocation>,
    /// What changes in the state, system state included.
    pub writes: Arc<WriteSet>,
}

/// What a commit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitKind {
    /// A new owner shutting out the one before. Changes no state.
    Fence,
    /// Invocations and their effects, or positions alone.
    Step,
    /// The state and the positions of an earlier commit brought back; 0 for the beginning.
    Rewind(CommitNumber),
}

impl CommitKind {
    /// Whether it changes no state, so that what is known of the state before it still holds.
    pub fn is_fence(self) -> bool {
        self == Self::Fence
    }
}

/// One guest call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The time the guest was told, milliseconds since 1970. Never falls along a changelog.
    pub time_ms: u64,
    /// How many calls had failed since the one before that did not.
    pub failed_attempts: u32,
    /// Whether it was the first call of a new instance.
    pub born: bool,
    /// What it was for.
    pub kind: InvocationKind,
    /// The parts of shards it was given, or that were passed without a call.
    pub runs: Vec<InvokedRun>,
}

/// What a guest call was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvocationKind {
    /// To fold records.
    Records,
    /// It failed for the last time: the one record in its runs, or the timer, became a dead letter, and nothing else of it is
    /// kept.
    SetAside(Option<Timer>),
    /// To fire timers, in this order.
    Timers(Vec<Timer>),
    /// To fold a dead letter after all.
    Redrive(u64),
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
    /// How many there were that the logic was given.
    pub records: u32,
}

/// A commit on its way to the log. It is encoded by whoever sends it first, so that its task goes on meanwhile, and once: what was
/// sent never changes.
#[derive(Debug)]
pub struct Outgoing {
    commit: Commit,
    stored: OnceLock<Arc<StoredCommit>>,
}

impl Outgoing {
    /// A commit that is to be sent.
    pub fn new(commit: Commit) -> Self {
        Self { commit, stored: OnceLock::new() }
    }

    /// The commit.
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    /// As it is stored.
    pub fn stored(&self) -> &Arc<StoredCommit> {
        self.stored.get_or_init(|| Arc::new(codec::encode(&self.commit)))
    }
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
