//! What a task takes and what it asks for.

use std::sync::Arc;

use super::{Assignment, RewindTo};
use crate::append::PutReply;
use crate::cause::StopCause;
use crate::claim::Tail;
use crate::codec::SystemEntry;
use crate::commit::Outgoing;
use crate::dead_letter::{DeadLetter, Timer};
use crate::id::{CommitId, CommitNumber, Epoch, ShardKey};
use crate::intake::{Batch, Want};
use crate::output::{Output, Package};
use crate::position::PositionEntry;
use crate::record::{Gap, Run};
use crate::restore::LogEntry;
use crate::snapshot::{Manifest, StateMark};
use crate::timers::TimerChange;
use crate::write_set::WriteSet;

/// Something that happened. Each answer belongs to the effect named.
#[derive(Debug)]
pub enum Event {
    /// Become the owner and run.
    Start,
    /// Finish what is begun, commit, publish, and stop.
    Stop,
    /// Nothing but time passed.
    Tick,
    /// Something failed for good.
    Broken(StopCause),
    /// The task is to run this, whose instance can be had at once.
    Assign(Assignment),
    /// From the next commit on, the logic is to be called in a new instance.
    Renew,

    /// To [`Effect::Claim`].
    Claimed(Epoch),
    /// To [`Effect::ReadTail`].
    TailRead(Tail),
    /// To [`Effect::Put`].
    Put(PutReply),
    /// To [`Effect::ReadItem`]: the id that stands there.
    ItemRead(Option<CommitId>),
    /// To [`Effect::ReadManifests`].
    ManifestsRead(Vec<Manifest>),

    /// To [`Effect::OpenLocal`].
    LocalOpened(StateMark),
    /// To [`Effect::ResetLocal`].
    LocalReset,
    /// To [`Effect::LoadSnapshot`]: done, or what is wrong with it.
    SnapshotLoaded(Result<(), String>),
    /// To [`Effect::ReadLog`]: items in order, none at the log's end.
    LogRead(Vec<LogEntry>),
    /// To [`Effect::LoadSystem`].
    SystemLoaded(Vec<SystemEntry>),
    /// Idle positions of this task that some host had kept, each with the step they follow.
    IdleFound(Vec<(CommitId, Vec<(ShardKey, PositionEntry)>)>),

    /// A reader brought a run.
    Run(Run),
    /// Unread records of a shard are gone.
    Lost(ShardKey, Gap),
    /// Somebody asks for a dead letter to be given to the logic: its number, and what stands there.
    Redrive(u64, Box<DeadLetter>),
    /// Somebody asks for a dead letter to be forgotten: its number, and what they saw there.
    Forget(u64, Box<DeadLetter>),
    /// To [`Effect::Call`].
    Called(CallOutcome),
    /// To [`Effect::Publish`]: for each package, whether it was acknowledged.
    Published(Vec<bool>),
    /// To [`Effect::Snapshot`]: its manifest, durable now, or none where it failed.
    SnapshotTaken(Option<Manifest>),
    /// To [`Effect::Trim`].
    Trimmed,
    /// To [`Effect::Rewind`]: what [`difference`](super::difference) says.
    Rewound(WriteSet),
}

/// Something to be done. Those that say "at once" are done before the next event is taken, in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make this host the owner in the task's row.
    Claim,
    /// Read the newest item of the log.
    ReadTail,
    /// After the pause of this attempt, stage the parts and put the commit on condition that its number is free.
    Put {
        /// What.
        commit: Arc<Outgoing>,
        /// In which epoch.
        epoch: Epoch,
        /// From 0.
        attempt: u32,
    },
    /// Read the id that stands at a number.
    ReadItem(CommitNumber),
    /// Read the manifests.
    ReadManifests,

    /// Open the local copy of the state.
    OpenLocal,
    /// Empty it.
    ResetLocal,
    /// Load a snapshot into it.
    LoadSnapshot(Manifest),
    /// Read a page of the log.
    ReadLog(CommitNumber),
    /// Apply a commit to the local copy, at once.
    Apply(Applied),
    /// Read the system state, and check that the local copy stands at this mark.
    LoadSystem(StateMark),
    /// The task runs now: tell it of the shards, and of idle positions before any run.
    Ready,

    /// Call the logic.
    Call(Call),
    /// Have a shard read again from here: something between was missed.
    Reread(Want),
    /// See again which shards the task needs read: it passed a gap.
    LookForShards,
    /// Publish a round, after the pause of this attempt.
    Publish {
        /// At most one of a partition key.
        packages: Vec<Package>,
        /// From 0.
        attempt: u32,
    },
    /// Take a snapshot of the local copy as it stands now, store its parts, then its manifest.
    Snapshot(NewSnapshot),
    /// Read what a commit's state was from the snapshots and the log, and say how the local copy differs from it.
    Rewind(RewindTo),
    /// Delete what is below the floor.
    Trim(CommitNumber),
    /// The instance is not to be used again.
    DropInstance,
    /// From the next call on the task runs this, in a new instance, at once.
    Swap(Assignment),
    /// A canary failed as often as it may, with this at last: the task goes back.
    TrialFailed(Assignment, String),
    /// The task stopped.
    Stopped(StopCause),
}

/// A snapshot to be taken.
#[derive(Clone, Copy, Debug)]
pub struct NewSnapshot {
    /// Where the local copy stands.
    pub mark: StateMark,
    /// The snapshot's id.
    pub id: CommitId,
    /// When it is taken, milliseconds since 1970.
    pub taken_ms: u64,
    /// What of the log is no longer history once it is durable.
    pub floor: CommitNumber,
}

/// A commit as the local copy takes it.
#[derive(Clone, Debug)]
pub struct Applied {
    /// What changes.
    pub writes: Arc<WriteSet>,
    /// Where the local copy stands then.
    pub mark: StateMark,
}

/// One call of the task's logic.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it is for.
    pub work: Arc<Work>,
    /// The time it is told, milliseconds since 1970.
    pub time_ms: u64,
    /// Seeds the call's random numbers.
    pub seed: u64,
    /// Whether a new instance is born for it.
    pub born: bool,
    /// Timers that are set, of which a task may have only so many.
    pub timers: usize,
    /// The open write set.
    pub open: Arc<WriteSet>,
    /// The one being appended.
    pub sealed: Option<Arc<WriteSet>>,
}

/// What a call is for.
#[derive(Clone, Debug)]
pub enum Work {
    /// To fold records.
    Records(Batch),
    /// To fire timers, in this order.
    Timers(Vec<Timer>),
    /// To fold a dead letter after all: its number, what it holds, and the same as the logic is given it.
    Redrive(u64, Box<DeadLetter>, Box<Work>),
}

/// What the logic is given.
#[derive(Clone, Copy, Debug)]
pub enum Given<'w> {
    /// Records.
    Runs(&'w [Run]),
    /// Timers that are due.
    Timers(&'w [Timer]),
}

impl Work {
    /// What the logic is given.
    pub fn given(&self) -> Given<'_> {
        match self {
            Self::Records(batch) => Given::Runs(&batch.runs),
            Self::Timers(timers) => Given::Timers(timers),
            Self::Redrive(_, _, given) => given.given(),
        }
    }
}

/// What a call came to.
#[derive(Clone, Debug)]
pub enum CallOutcome {
    /// It folded what it was given.
    Folded {
        /// What it wrote.
        writes: WriteSet,
        /// What it emitted.
        outputs: Vec<Output>,
        /// What it did to timers, in any order, each name once.
        timers: Vec<TimerChange>,
    },
    /// It failed, and nothing it did is kept.
    Failed(Failure),
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// The record or timer it blames, by its index among those it was given.
    pub index: Option<usize>,
    /// For the people who run the job.
    pub message: String,
}

/// What to do about a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Try again.
    Retry,
    /// It cannot be processed, now or later.
    Poison,
    /// The task cannot go on.
    Fatal,
    /// The host had no room to make the call: nobody's failure, and made again until it has.
    NoRoom,
}
