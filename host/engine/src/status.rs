//! What the engine tells of itself: copies, made when asked for.

use pelton_core::counts::Counts;
use pelton_core::id::{CommitNumber, DeploymentNumber, Epoch, ShardId, ShardKey, TaskId};
use pelton_core::position::PositionEntry;
use pelton_core::slice::HashRange;
use pelton_core::task::{PhaseName, Task};

use crate::spec::Consumer;
use crate::telling::Tally;

/// One task, as this host sees it.
#[derive(Clone, Debug)]
pub struct TaskStatus {
    /// Which.
    pub task: TaskId,
    /// Its part of the hash space.
    pub slice: HashRange,
    /// Where it is in its life.
    pub phase: PhaseName,
    /// Why it stopped or is failing, in words for people.
    pub cause: Option<String>,
    /// Its epoch on this host.
    pub epoch: Epoch,
    /// Its newest durable commit.
    pub commit: CommitNumber,
    /// The deployment that its calls are made with.
    pub deployment: DeploymentNumber,
    /// How long the task stood still when it last went from one deployment to another, in microseconds: from when the old logic was
    /// not called any more until the new one could be.
    pub swap_pause_us: Option<u64>,
    /// Records folded since this host took the task.
    pub records_folded: u64,
    /// Guest calls that failed since then.
    pub failed_batches: u64,
    /// Failed attempts at the batch it is at now.
    pub attempts: u32,
    /// Outputs published since then.
    pub outputs_published: u64,
    /// Outputs committed and not yet acknowledged.
    pub outputs_pending: u64,
    /// What became of every record since the job was created, up to what is folded and perhaps not yet committed.
    pub counts: Counts,
    /// What it did since this host took it.
    pub tally: Tally,
    /// Dead letters that stand.
    pub dead_letters: u64,
    /// Their bytes, as they are stored.
    pub dead_letter_bytes: u64,
    /// Timers that are set.
    pub timers: u64,
    /// Records waiting in the mailbox.
    pub mailbox_records: u64,
    /// What they weigh, in bytes.
    pub mailbox_bytes: u64,
    /// When the oldest record in the mailbox arrived, milliseconds since 1970.
    pub oldest_unfolded_ms: Option<u64>,
    /// Whether records wait for their fold, folded ones for their commit, or outputs for their acknowledgement.
    pub busy: bool,
    /// How long ago the oldest record it has not committed arrived, in milliseconds; 0 when it is caught up with every
    /// shard and everything is committed; none where that is not known.
    pub lag_ms: Option<u64>,
    /// How far it has come in each shard, folded but perhaps not yet committed.
    pub positions: Vec<(ShardKey, PositionEntry)>,
}

impl TaskStatus {
    pub(crate) fn new(task: TaskId, slice: HashRange) -> Self {
        Self {
            task,
            slice,
            phase: PhaseName::Claiming,
            cause: None,
            epoch: Epoch(0),
            commit: CommitNumber(0),
            deployment: DeploymentNumber(0),
            swap_pause_us: None,
            records_folded: 0,
            failed_batches: 0,
            attempts: 0,
            outputs_published: 0,
            outputs_pending: 0,
            counts: Counts::default(),
            tally: Tally::default(),
            dead_letters: 0,
            dead_letter_bytes: 0,
            timers: 0,
            mailbox_records: 0,
            mailbox_bytes: 0,
            oldest_unfolded_ms: None,
            busy: false,
            lag_ms: None,
            positions: Vec::new(),
        }
    }

    /// Takes over what the machine says; what only a running task has stays as it was when it stopped.
    pub(crate) fn update(&mut self, machine: &Task) {
        self.phase = machine.phase();
        self.busy = false;
        let Some(running) = machine.running() else { return };
        self.epoch = running.epoch();
        self.commit = running.mark().number;
        self.deployment = running.deployment();
        self.records_folded = running.records_folded();
        self.failed_batches = running.failed_batches();
        self.attempts = running.failing().map_or(0, |(attempts, _)| attempts);
        self.outputs_published = running.outbox().published();
        self.outputs_pending = running.outbox().pending();
        self.counts.clone_from(running.counts());
        self.dead_letters = running.letters().len();
        self.dead_letter_bytes = running.letters().bytes();
        self.timers = running.timers().len() as u64;
        self.busy = running.is_busy() || !running.outbox().is_empty();
        let waiting = running.intake().waiting().find_map(|run| run.records().next());
        self.oldest_unfolded_ms = waiting.map(|record| record.arrived_ms);
        self.positions.clear();
        self.positions.extend(running.intake().positions().map(|(shard, entry)| (shard.clone(), *entry)));
    }
}

/// One shard, as this host reads it.
#[derive(Clone, Debug)]
pub struct ShardStatus {
    /// Name of the stream.
    pub stream: String,
    /// Its id.
    pub shard: ShardId,
    /// Its part of the hash space.
    pub range: HashRange,
    /// Shards it came from.
    pub parents: Vec<ShardId>,
    /// Whether it takes no more records.
    pub closed: bool,
    /// The task that owns its first hash key.
    pub home: TaskId,
    /// Tasks of this host that it feeds now.
    pub feeds: Vec<TaskId>,
    /// Tasks among them that fell behind and are caught up apart.
    pub catching_up: Vec<TaskId>,
    /// How it is read now.
    pub consumer: Consumer,
    /// Why it is not read by fan-out, though the job asks for it.
    pub refused: Option<String>,
    /// How far the reader is behind the newest record, in milliseconds, as the service tells it.
    pub behind_ms: Option<u64>,
    /// Replies taken since this host began to read it.
    pub fetches: u64,
    /// Requests for an iterator or records that failed.
    pub failures: u64,
    /// Records in the replies.
    pub records_read: u64,
    /// What reading it last failed with, until it succeeds again.
    pub error: Option<String>,
}

/// Why the state of a task could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StateReadError {
    /// This host does not run the task now, or not yet.
    #[error("task {0} is not running on this host; see its status")]
    NotRunning(TaskId),
    /// The local store failed.
    #[error("task {task}: reading its state failed: {cause}")]
    Store {
        /// Whose state.
        task: TaskId,
        /// What the store said.
        cause: String,
    },
}
