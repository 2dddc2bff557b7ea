//! What the outside implements: where records come from and outputs go, where the changelog and components are kept, and
//! what time it is. Errors are classed by what the caller does next.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use pelton_core::commit::StoredCommit;
use pelton_core::id::{
    CommitId, CommitNumber, DeploymentNumber, Digest, Epoch, HostId, Incarnation, ShardKey, StreamIndex, TaskId,
};
use pelton_core::output::Package;
use pelton_core::position::{Position, PositionEntry};
use pelton_core::record::Record;
use pelton_core::rollout::Rollout;
use pelton_core::shard::Shard;
use pelton_core::snapshot::Manifest;

use crate::spec::{Deployment, DeploymentContent};

/// Why a port could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PortError {
    /// Passing: throttled, timed out, connection lost. The request may have been applied.
    #[error("{0}")]
    Retry(String),
    /// It will fail again: no permission, no such table, an item that cannot be read. Says what and where.
    #[error("{0}")]
    Stop(String),
}

/// Where a shard is read from next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardIterator(pub String);

/// One reply of a shard.
#[derive(Debug)]
pub struct Fetched {
    /// In the shard's order.
    pub records: Vec<Record>,
    /// Where to go on; none at the end of a closed shard.
    pub next: Option<ShardIterator>,
    /// How far behind the newest record the reply ends, in milliseconds; none where the service does not say.
    pub behind_ms: Option<u64>,
}

/// Why a shard could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    /// The iterator is too old: take another.
    #[error("the shard iterator expired")]
    Expired,
    /// Asked too often or for too much: wait.
    #[error("throttled by Kinesis")]
    Throttled,
    /// The shard cannot be subscribed to now: poll it. Says why.
    #[error("fan-out is refused: {0}")]
    Refused(String),
    /// The shard is gone with its records.
    #[error("Kinesis does not know {0}")]
    Gone(ShardKey),
    /// As a [`PortError`].
    #[error(transparent)]
    Port(#[from] PortError),
}

/// What a shard pushes, from a position on; it has no end. After an error that passes it goes on where it was, and until then
/// `next` of a reply says where that is. It pauses by itself, and waits as long as nobody takes what came.
pub struct Subscription(pub BoxStream<'static, Result<Fetched, SourceError>>);

/// The input streams of a job.
#[async_trait]
pub trait Source: Send + Sync {
    /// The shards of a stream that are listed now.
    async fn list_shards(&self, stream: StreamIndex) -> Result<Vec<Shard>, SourceError>;

    /// How long a stream keeps records now, in milliseconds.
    async fn retention_ms(&self, stream: StreamIndex) -> Result<u64, SourceError>;

    /// An iterator at the first record that is not behind a position.
    ///
    /// # Panics
    /// For a position at the shard's end, which has no next record.
    async fn iterator(&self, shard: &ShardKey, position: Position) -> Result<ShardIterator, SourceError>;

    /// Up to `limit` records (1 to 10,000) from an iterator on.
    async fn records(&self, shard: &ShardKey, from: &ShardIterator, limit: u32) -> Result<Fetched, SourceError>;

    /// Has a shard push what is not behind a position, from when it is first waited for. One at a time for each shard. Errors
    /// but the passing ones are [`SourceError::Refused`]: whether a shard is gone, or cannot be read, an iterator tells.
    ///
    /// # Panics
    /// For a position at the shard's end, which has no next record.
    fn subscribe(&self, shard: &ShardKey, position: Position) -> Subscription;
}

/// The output streams of a job.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Sends packages in one round, at most one of a partition key. Answers for each, in their order, whether it was
    /// acknowledged, or why not.
    async fn publish(&self, packages: &[Package]) -> Vec<Result<(), PortError>>;
}

/// What a conditional put came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The commit stands at its number.
    Applied,
    /// Something stands there already, perhaps this very commit from a request whose reply was lost.
    Exists,
}

/// An item of the log, its body not yet looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogItem {
    /// Its number.
    pub number: CommitNumber,
    /// The id of the commit in it.
    pub id: CommitId,
    /// Whether it is a fence.
    pub is_fence: bool,
    /// The epoch it was written in.
    pub epoch: Epoch,
    /// The stored head; see `pelton_core::codec`.
    pub head: Bytes,
}

/// Positions of tasks of one host that had nothing to commit: believed while nothing but fences follows the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdlePositions {
    /// Whose.
    pub task: TaskId,
    /// The task's newest step when it had passed these; all zero before its first.
    pub step_id: CommitId,
    /// How far it had come.
    pub entries: Vec<(ShardKey, PositionEntry)>,
}

/// The changelog of a job's tasks, and the snapshots that shorten it. Every read is strongly consistent.
#[async_trait]
pub trait Changelog: Send + Sync {
    /// Makes a host the owner of a task, in a new epoch, greater than any before.
    async fn claim(&self, task: TaskId, host: HostId) -> Result<Epoch, PortError>;

    /// The newest item of a task's log.
    async fn tail(&self, task: TaskId) -> Result<Option<LogItem>, PortError>;

    /// Puts a commit at its number if nothing stands there. Its parts must have been staged.
    async fn put(&self, task: TaskId, epoch: Epoch, commit: &StoredCommit) -> Result<PutOutcome, PortError>;

    /// The item at a number.
    async fn read(&self, task: TaskId, number: CommitNumber) -> Result<Option<LogItem>, PortError>;

    /// The items from a number on, in order, as many as one page holds. An empty page is the end.
    async fn read_from(&self, task: TaskId, number: CommitNumber) -> Result<Vec<LogItem>, PortError>;

    /// Puts a part of the commit or snapshot `id` beside the log; `number` is the commit's, or the snapshot's `at`.
    async fn put_part(
        &self,
        task: TaskId,
        number: CommitNumber,
        id: CommitId,
        index: u32,
        part: Bytes,
    ) -> Result<(), PortError>;

    /// A part, if it is there.
    async fn read_part(
        &self,
        task: TaskId,
        number: CommitNumber,
        id: CommitId,
        index: u32,
    ) -> Result<Option<Bytes>, PortError>;

    /// The manifests of a task's snapshots, oldest first.
    async fn manifests(&self, task: TaskId) -> Result<Vec<Manifest>, PortError>;

    /// Makes a snapshot known, all of whose parts are there.
    async fn put_manifest(&self, task: TaskId, manifest: &Manifest) -> Result<(), PortError>;

    /// Deletes what is below the floor: log items but fences, parts, and manifests with a lower floor.
    async fn trim(&self, task: TaskId, floor: CommitNumber) -> Result<(), PortError>;

    /// Replaces a host's idle positions.
    async fn put_idle(&self, host: HostId, positions: &[IdlePositions]) -> Result<(), PortError>;

    /// The idle positions of every host.
    async fn idle(&self) -> Result<Vec<IdlePositions>, PortError>;

    /// Deletes the idle positions of every host but this one.
    async fn forget_idle_of_others(&self, host: HostId) -> Result<(), PortError>;
}

/// A job's use of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentUse {
    /// Whose.
    pub job: Incarnation,
    /// When it ends or ended, milliseconds since 1970; none while the job needs the component.
    pub until_ms: Option<u64>,
    /// Rises each time the job says that it needs the component.
    pub pins: u64,
}

impl ComponentUse {
    /// Whether the component is to be kept for it.
    pub fn holds(&self, now_ms: u64) -> bool {
        self.until_ms.is_none_or(|until_ms| until_ms > now_ms)
    }
}

/// What became of a component that perhaps nobody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collected {
    /// It is gone, or was and is gone now with all that was left of it.
    Gone,
    /// It is kept: it is used, or was wanted too short a time ago.
    Kept,
}

/// Components by digest, shared by the hosts of a table. Every read is strongly consistent.
#[async_trait]
pub trait ComponentStore: Send + Sync {
    /// Keeps a component under its digest. One that is there already is left as it is, and counts as wanted now.
    async fn put(&self, digest: Digest, bytes: Bytes) -> Result<(), PortError>;

    /// The bytes of a component, checked against their digest.
    async fn get(&self, digest: Digest) -> Result<Option<Bytes>, PortError>;

    /// Digest and size in bytes of every component kept.
    async fn list(&self) -> Result<Vec<(Digest, u64)>, PortError>;

    /// Says that a job needs a component from now on, which then counts as wanted now. Whether it is there: if it is, it stays until
    /// the use is over, whatever [`collect`](Self::collect) is at work meanwhile.
    async fn keep(&self, digest: Digest, job: Incarnation) -> Result<bool, PortError>;

    /// The uses of a component, those that are over among them.
    async fn uses(&self, digest: Digest) -> Result<Vec<ComponentUse>, PortError>;

    /// Has a use end at a time, if it is as it was read. [`PutOutcome::Exists`] where it was begun anew or ended since.
    async fn release(&self, digest: Digest, known: &ComponentUse, until_ms: u64) -> Result<PutOutcome, PortError>;

    /// Deletes a component that nobody uses, and that nobody wanted for so long. What was cut short is finished.
    async fn collect(&self, digest: Digest, unwanted_ms: u64) -> Result<Collected, PortError>;
}

/// The deployments of a job, and what its tasks are to run of them, shared by its hosts.
#[async_trait]
pub trait Deployments: Send + Sync {
    /// Keeps a deployment under the next number.
    async fn add(&self, content: &DeploymentContent) -> Result<Deployment, PortError>;

    /// A deployment.
    async fn get(&self, number: DeploymentNumber) -> Result<Option<Deployment>, PortError>;

    /// Every deployment, by number.
    async fn list(&self) -> Result<Vec<Deployment>, PortError>;

    /// What the tasks are to run; none before the job's first deployment.
    async fn rollout(&self) -> Result<Option<Rollout>, PortError>;

    /// Replaces what the tasks are to run, if what stands is of the revision before.
    async fn set_rollout(&self, rollout: &Rollout) -> Result<PutOutcome, PortError>;
}

/// Time as the service tells it, so that no host's clock matters.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
}
