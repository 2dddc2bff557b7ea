//! The event log: what happened on a host, for those who watch it. Nothing is decided from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pelton_core::id::{CommitNumber, DeploymentNumber, Epoch, ShardId, ShardKey, TaskId};
use pelton_core::position::Position;
use pelton_core::rollout::Rollout;
use pelton_core::task::PhaseName;

use crate::recent::Recent;

/// Events kept for readers; the oldest make room for the newest.
pub const EVENTS_KEPT_MAX: usize = 4_096;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEvent {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Name of the job.
    pub job: Arc<str>,
    /// What it was.
    pub what: Happening,
}

/// A shard by the name of its stream, for those who do not know the job's inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedShard {
    /// Name of the stream.
    pub stream: String,
    /// Its id there.
    pub shard: ShardId,
}

impl NamedShard {
    /// A shard of a job that reads these streams.
    pub fn new(key: &ShardKey, streams: &[String]) -> Self {
        Self { stream: streams[usize::from(key.stream.0)].clone(), shard: key.shard.clone() }
    }
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A task went on to another phase of its life.
    Phase {
        /// Which task.
        task: TaskId,
        /// The phase it is in now.
        phase: PhaseName,
        /// Its epoch on this host.
        epoch: Epoch,
        /// Its newest durable commit.
        commit: CommitNumber,
        /// Why it stopped, if it did.
        cause: Option<String>,
    },
    /// A commit wrote dead letters.
    DeadLetters {
        /// Which task.
        task: TaskId,
        /// The number of the first of them; those that follow have the next ones.
        first: u64,
        /// How many of each cause.
        causes: BTreeMap<&'static str, u64>,
    },
    /// A part of a shard is gone before it was read. Its dead letter has this number.
    Gap {
        /// Which task.
        task: TaskId,
        /// The dead letter.
        letter: u64,
        /// Which shard.
        shard: NamedShard,
        /// The last position reached.
        from: Position,
        /// The first from which records can be read.
        to: Position,
    },
    /// The tasks are to run something else.
    Rollout {
        /// What.
        rollout: Rollout,
    },
    /// A canary failed as often as it may in a task, or did worse in all of its tasks than is borne.
    CanaryFailed {
        /// In which, if in one.
        task: Option<TaskId>,
        /// The canary.
        deployment: DeploymentNumber,
        /// What it failed with last, or what is worse.
        cause: String,
    },
    /// A task runs another deployment.
    Swapped {
        /// Which task.
        task: TaskId,
        /// What it runs.
        deployment: DeploymentNumber,
    },
    /// A snapshot is stored.
    SnapshotTaken {
        /// Which task.
        task: TaskId,
        /// Of which commit.
        at: CommitNumber,
        /// Keys in it.
        entries: u64,
        /// Bytes of state in it.
        state_bytes: u64,
    },
    /// A local state was loaded from a snapshot.
    SnapshotLoaded {
        /// Which task.
        task: TaskId,
        /// Of which commit.
        at: CommitNumber,
        /// Keys in it.
        entries: u64,
        /// Bytes of state in it.
        state_bytes: u64,
    },
    /// A shard is read from now on.
    ShardOpened(NamedShard),
    /// A closed shard was read to its end.
    ShardEnded(NamedShard),
}

/// The newest events of a host: the first of a process has number 1.
pub type EventLog = Recent<HostEvent>;

impl EventLog {
    /// Adds an event.
    pub fn tell(&self, at_ms: u64, job: &Arc<str>, what: Happening) {
        self.add(1, HostEvent { at_ms, job: job.clone(), what });
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new(EVENTS_KEPT_MAX)
    }
}
