//! Events, as `/v1/events` sends them: the JSON in the data of each.

use std::collections::BTreeMap;

use pelton_engine::events::{Happening, HostEvent, NamedShard};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::deployment::RolloutView;
use super::task::{PhaseView, PlaceView};

/// Something that happened on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Name of the job.
    pub job: String,
    /// What it was.
    #[serde(flatten)]
    pub what: HappeningView,
}

/// What can happen. `event` is the name of the event, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum HappeningView {
    /// A task went on to another phase of its life.
    TaskPhase {
        /// Which task.
        task: u16,
        /// The phase it is in now.
        phase: PhaseView,
        /// Its epoch on this host.
        epoch: u64,
        /// Its newest durable commit.
        commit: u64,
        /// Why it stopped, if it did.
        cause: Option<String>,
    },
    /// A commit wrote dead letters.
    DeadLetters {
        /// Which task.
        task: u16,
        /// The number of the first of them; those that follow have the next ones.
        first: u64,
        /// How many of each cause.
        causes: BTreeMap<String, u64>,
    },
    /// A part of a shard is gone before it was read.
    Gap {
        /// Which task.
        task: u16,
        /// The number of its dead letter.
        letter: u64,
        /// Name of the stream.
        stream: String,
        /// Id of the shard.
        shard: String,
        /// The last position reached.
        from: PlaceView,
        /// From where on records can be read.
        to: PlaceView,
    },
    /// The tasks are to run something else.
    Rollout(RolloutView),
    /// A canary failed in a task as often as it may.
    CanaryFailed {
        /// In which task, if in one.
        task: Option<u16>,
        /// The canary.
        deployment: u64,
        /// What it failed with last, or what is worse.
        cause: String,
    },
    /// A task runs another deployment.
    Swapped {
        /// Which task.
        task: u16,
        /// What it runs.
        deployment: u64,
    },
    /// A snapshot of a task's state is stored.
    SnapshotTaken {
        /// Which task.
        task: u16,
        /// Of which commit.
        commit: u64,
        /// Keys in it.
        entries: u64,
        /// Bytes of state in it.
        state_bytes: u64,
    },
    /// The local state of a task was loaded from a snapshot.
    SnapshotLoaded {
        /// Which task.
        task: u16,
        /// Of which commit.
        commit: u64,
        /// Keys in it.
        entries: u64,
        /// Bytes of state in it.
        state_bytes: u64,
    },
    /// A shard is read from now on.
    ShardOpened {
        /// Name of the stream.
        stream: String,
        /// Id of the shard.
        shard: String,
    },
    /// A closed shard was read to its end.
    ShardEnded {
        /// Name of the stream.
        stream: String,
        /// Id of the shard.
        shard: String,
    },
}

/// Sent as the event `missed` where events are no longer kept that the reader has not got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissedView {
    /// How many; null where that is not known, because they were those of an earlier process.
    pub missed: Option<u64>,
}

impl From<HostEvent> for EventView {
    fn from(event: HostEvent) -> Self {
        Self { at_ms: event.at_ms, job: event.job.to_string(), what: event.what.into() }
    }
}

impl From<Happening> for HappeningView {
    fn from(what: Happening) -> Self {
        match what {
            Happening::Phase { task, phase, epoch, commit, cause } => {
                Self::TaskPhase { task: task.0, phase: phase.into(), epoch: epoch.0, commit: commit.0, cause }
            }
            Happening::DeadLetters { task, first, causes } => {
                let causes = causes.into_iter().map(|(cause, letters)| (cause.to_owned(), letters));
                Self::DeadLetters { task: task.0, first, causes: causes.collect() }
            }
            Happening::Gap { task, letter, shard: NamedShard { stream, shard }, from, to } => {
                let (shard, from, to) = (shard.to_string(), from.into(), to.into());
                Self::Gap { task: task.0, letter, stream, shard, from, to }
            }
            Happening::Rollout { rollout } => Self::Rollout((&rollout).into()),
            Happening::CanaryFailed { task, deployment, cause } => {
                Self::CanaryFailed { task: task.map(|task| task.0), deployment: deployment.0, cause }
            }
            Happening::Swapped { task, deployment } => Self::Swapped { task: task.0, deployment: deployment.0 },
            Happening::SnapshotTaken { task, at, entries, state_bytes } => {
                Self::SnapshotTaken { task: task.0, commit: at.0, entries, state_bytes }
            }
            Happening::SnapshotLoaded { task, at, entries, state_bytes } => {
                Self::SnapshotLoaded { task: task.0, commit: at.0, entries, state_bytes }
            }
            Happening::ShardOpened(NamedShard { stream, shard }) => {
                Self::ShardOpened { stream, shard: shard.to_string() }
            }
            Happening::ShardEnded(NamedShard { stream, shard }) => {
                Self::ShardEnded { stream, shard: shard.to_string() }
            }
        }
    }
}

impl HappeningView {
    /// The name of the event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TaskPhase { .. } => "task-phase",
            Self::DeadLetters { .. } => "dead-letters",
            Self::Gap { .. } => "gap",
            Self::Rollout(_) => "rollout",
            Self::CanaryFailed { .. } => "canary-failed",
            Self::Swapped { .. } => "swapped",
            Self::SnapshotTaken { .. } => "snapshot-taken",
            Self::SnapshotLoaded { .. } => "snapshot-loaded",
            Self::ShardOpened { .. } => "shard-opened",
            Self::ShardEnded { .. } => "shard-ended",
        }
    }
}
