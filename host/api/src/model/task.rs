//! A task, as its host sees it.

use std::collections::BTreeMap;

use pelton_core::counts::Counts;
use pelton_core::position::{Position, PositionEntry, WHOLE};
use pelton_core::slice::HashRange;
use pelton_core::task::PhaseName;
use pelton_engine::status::TaskStatus;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::page::Page;

/// A range of the hash space, both ends inclusive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RangeView {
    /// The first hash key, 32 hexadecimal digits.
    pub start: String,
    /// The last hash key, 32 hexadecimal digits.
    pub end: String,
}

impl From<HashRange> for RangeView {
    fn from(range: HashRange) -> Self {
        Self { start: format!("{:032x}", range.start.0), end: format!("{:032x}", range.end.0) }
    }
}

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PhaseView {
    /// Becoming the owner.
    Claiming,
    /// Bringing the local state up to the log.
    Restoring,
    /// Folding records.
    Running,
    /// On its way back to an earlier commit.
    Rewinding,
    /// Committing and publishing what is left.
    Draining,
    /// Stopped; the cause says why.
    Stopped,
}

impl From<PhaseName> for PhaseView {
    fn from(phase: PhaseName) -> Self {
        match phase {
            PhaseName::Claiming => Self::Claiming,
            PhaseName::Restoring => Self::Restoring,
            PhaseName::Running => Self::Running,
            PhaseName::Rewinding => Self::Rewinding,
            PhaseName::Draining => Self::Draining,
            PhaseName::Stopped => Self::Stopped,
        }
    }
}

/// How far a task has come in a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum PlaceView {
    /// Nothing yet; begins with the oldest record kept.
    TrimHorizon,
    /// Nothing yet; begins with what arrived at or after a time.
    Timestamp {
        /// Milliseconds since 1970.
        timestamp_ms: u64,
    },
    /// Every record up to and including this one.
    After {
        /// Kinesis' number of the record.
        sequence_number: String,
        /// Its place in a KPL aggregate; none where everything at the number is passed.
        sub_sequence_number: Option<u64>,
    },
    /// Every record of a closed shard.
    ShardEnd,
}

impl From<Position> for PlaceView {
    fn from(position: Position) -> Self {
        match position {
            Position::TrimHorizon => Self::TrimHorizon,
            Position::AtTimestamp(timestamp_ms) => Self::Timestamp { timestamp_ms },
            Position::After(place) => {
                let within = Some(place.sub_sequence).filter(|within| *within != WHOLE);
                Self::After { sequence_number: place.sequence.to_string(), sub_sequence_number: within }
            }
            Position::ShardEnd => Self::ShardEnd,
        }
    }
}

/// A task's position in one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PositionView {
    /// Name of the stream.
    pub stream: String,
    /// Id of the shard.
    pub shard: String,
    /// How far the task has come.
    pub position: PlaceView,
    /// Its next unread record arrived no earlier than this.
    pub unread_from_ms: u64,
}

/// What became of every record of a task since the job was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CountsView {
    /// Folded.
    pub folded: u64,
    /// Of those, how many begin as an aggregate and are none.
    pub malformed_aggregates: u64,
    /// Dropped because policy says so, by what was odd about them: `out-of-range`, `stray`, `with-stray`, `repeat`.
    pub dropped: BTreeMap<String, u64>,
    /// Dead letters written, with gaps and timers.
    pub dead_letters: u64,
    /// Records among them.
    pub dead_records: u64,
    /// Dead letters folded after all.
    pub redriven: u64,
    /// Timers fired.
    pub timers_fired: u64,
}

impl From<&Counts> for CountsView {
    fn from(counts: &Counts) -> Self {
        let dropped = counts.dropped.iter().map(|(oddity, records)| (oddity.name().to_owned(), *records));
        Self {
            folded: counts.folded,
            malformed_aggregates: counts.malformed,
            dropped: dropped.collect(),
            dead_letters: counts.dead_letters,
            dead_records: counts.dead_records,
            redriven: counts.redriven,
            timers_fired: counts.timers_fired,
        }
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// Which, from 0.
    pub task: u16,
    /// Its part of the hash space.
    pub slice: RangeView,
    /// Where it is in its life.
    pub phase: PhaseView,
    /// Why it stopped, or what it fails with now.
    pub cause: Option<String>,
    /// Its epoch on this host.
    pub epoch: u64,
    /// Its newest durable commit.
    pub commit: u64,
    /// The deployment that its logic is of.
    pub deployment: u64,
    /// How long it stood still when it last went from one deployment to another, in microseconds: from when the old logic was not
    /// called any more until the new one could be; null where it has not.
    pub swap_pause_us: Option<u64>,
    /// Records folded since this host took it.
    pub records_folded: u64,
    /// Guest calls that failed since then.
    pub failed_batches: u64,
    /// Failed attempts at the batch it is at now.
    pub attempts: u32,
    /// Outputs published since then.
    pub outputs_published: u64,
    /// Outputs committed and not yet acknowledged.
    pub outputs_pending: u64,
    /// What became of every record since the job was created.
    pub counts: CountsView,
    /// Dead letters that stand.
    pub dead_letters: u64,
    /// Their bytes, as they are stored.
    pub dead_letter_bytes: u64,
    /// Timers that are set.
    pub timers: u64,
    /// Records waiting in its mailbox.
    pub mailbox_records: u64,
    /// What they weigh.
    pub mailbox_bytes: u64,
    /// When the oldest record in its mailbox arrived.
    pub oldest_unfolded_ms: Option<u64>,
    /// Whether records wait for their fold, folded ones for their commit, or outputs for their acknowledgement.
    pub busy: bool,
    /// Age of the oldest record it has not committed; 0 when it is caught up, null where that is not known.
    pub lag_ms: Option<u64>,
    /// How far it has come in each shard.
    pub positions: Vec<PositionView>,
}

impl TaskView {
    /// The view of a task whose job reads these streams.
    pub fn new(status: TaskStatus, streams: &[String]) -> Self {
        let view = |shard: &pelton_core::id::ShardKey, entry: &PositionEntry| PositionView {
            stream: streams[usize::from(shard.stream.0)].clone(),
            shard: shard.shard.to_string(),
            position: entry.position.into(),
            unread_from_ms: entry.unread_from_ms,
        };
        Self {
            task: status.task.0,
            slice: status.slice.into(),
            phase: status.phase.into(),
            positions: status.positions.iter().map(|(shard, entry)| view(shard, entry)).collect(),
            cause: status.cause,
            epoch: status.epoch.0,
            commit: status.commit.0,
            deployment: status.deployment.0,
            swap_pause_us: status.swap_pause_us,
            records_folded: status.records_folded,
            failed_batches: status.failed_batches,
            attempts: status.attempts,
            outputs_published: status.outputs_published,
            outputs_pending: status.outputs_pending,
            counts: (&status.counts).into(),
            dead_letters: status.dead_letters,
            dead_letter_bytes: status.dead_letter_bytes,
            timers: status.timers,
            mailbox_records: status.mailbox_records,
            mailbox_bytes: status.mailbox_bytes,
            oldest_unfolded_ms: status.oldest_unfolded_ms,
            busy: status.busy,
            lag_ms: status.lag_ms,
        }
    }
}

/// A page of the tasks of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskList {
    /// In order.
    pub tasks: Vec<TaskView>,
    /// The `start` of the next page; null after the last one.
    #[serde(default)]
    pub next: Option<String>,
}

impl Page for TaskList {
    type Item = TaskView;

    fn parts(self) -> (Vec<TaskView>, Option<String>) {
        (self.tasks, self.next)
    }
}
