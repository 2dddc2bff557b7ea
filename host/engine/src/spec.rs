//! What the engine is told of a job: no defaults are left to fill in.

use std::collections::{BTreeMap, BTreeSet};

use pelton_core::dead_letter::LetterBounds;
use pelton_core::feed::Pace;
use pelton_core::id::{DeploymentNumber, Digest, HostId};
use pelton_core::job::JobMeta;
use pelton_core::task::{LastStraw, OnGap};

use crate::guest::GuestLimits;

/// A job to run on this host.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// What the job is from its creation on.
    pub meta: JobMeta,
    /// This process.
    pub host: HostId,
    /// How long each input stream keeps records when the host starts, in milliseconds, by [`StreamIndex`](pelton_core::id::StreamIndex).
    pub retention_ms: Vec<u64>,
    /// How fast shards may be asked.
    pub pace: Pace,
    /// The deployment every task is pinned to.
    pub deployment: DeploymentNumber,
    /// Its component.
    pub component: Digest,
    /// Names that the tasks may emit to.
    pub outputs: BTreeSet<String>,
    /// The job's configuration for its tasks.
    pub config: BTreeMap<String, String>,
    /// Limits and paces.
    pub settings: JobSettings,
}

/// How shards are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumer {
    /// Asked for records again and again; all readers of a shard share its 2 MiB a second.
    Polling,
    /// Enhanced fan-out: the shard pushes them, at a rate that the job has to itself.
    FanOut,
}

/// Limits and paces of a job.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// Oldest an uncommitted write becomes, in milliseconds. Default 500.
    pub commit_interval_ms: u64,
    /// Longest a guest call may run, in milliseconds. Default 5,000.
    pub batch_timeout_ms: u64,
    /// Most linear memory of a task's instance, in bytes. Default 64 MiB.
    pub memory_bytes_max: u64,
    /// What else a task's instance may use.
    pub guest_limits: GuestLimits,
    /// How often the logic is tried again with a record it failed with. Default 3.
    pub retries: u32,
    /// What becomes of the record then. Default: a dead letter.
    pub last_straw: LastStraw,
    /// What to do where records are gone unread. Default: stop.
    pub on_gap: OnGap,
    /// How many dead letters a task may have, and of how many bytes. Default 1,000 and 64 MiB.
    pub letters: LetterBounds,
    /// How shards are read, where Kinesis lets us. Default: polling.
    pub consumer: Consumer,
    /// Of each input stream, the job whose outputs it carries, if they are to be told from their repeats.
    pub from_job: Vec<Option<String>>,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            commit_interval_ms: 500,
            batch_timeout_ms: 5_000,
            memory_bytes_max: 64 << 20,
            guest_limits: GuestLimits::default(),
            retries: 3,
            last_straw: LastStraw::DeadLetter,
            on_gap: OnGap::Stop,
            letters: LetterBounds { letters_max: 1_000, bytes_max: 64 << 20 },
            consumer: Consumer::Polling,
            from_job: Vec::new(),
        }
    }
}
