//! What the engine is told of a job: no defaults are left to fill in.

use std::collections::{BTreeMap, BTreeSet};

use pelton_core::dead_letter::LetterBounds;
use pelton_core::feed::Pace;
use pelton_core::id::{DeploymentNumber, Digest, HostId};
use pelton_core::job::JobMeta;
use pelton_core::task::{Assignment, LastStraw, OnGap, RunningRules};

use crate::guest::{Grants, GuestLimits};

/// Retention is divided by this for the oldest that logged positions become.
const POSITIONS_AGE_DIVISOR: u64 = 8;

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
    /// What the job's first deployment is, where it has none yet.
    pub first: DeploymentContent,
    /// Names that the tasks may emit to.
    pub outputs: BTreeSet<String>,
    /// Limits and paces.
    pub settings: JobSettings,
}

impl JobSpec {
    /// What a task goes by that is to run this.
    pub(crate) fn rules(&self, assignment: Assignment) -> RunningRules {
        let settings = &self.settings;
        RunningRules {
            commit_interval_ms: settings.commit_interval_ms,
            retries: settings.retries,
            last_straw: settings.last_straw,
            on_gap: settings.on_gap,
            letters: settings.letters,
            from_job: settings.from_job.iter().map(Option::is_some).collect(),
            assignment,
            positions_age_max_ms: self.retention_ms.iter().copied().min().unwrap_or(u64::MAX) / POSITIONS_AGE_DIVISOR,
            rewind_window_ms: settings.rewind_window_ms,
        }
    }
}

/// What a deployment is. It never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentContent {
    /// Digest of its component.
    pub component: Digest,
    /// What its instances are told.
    pub config: BTreeMap<String, String>,
    /// What its instances may use.
    pub limits: GuestLimits,
    /// What its instances are granted beside their own task.
    pub grants: Grants,
}

/// A deployment of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Its number: 1 for the job's first, rising by 1.
    pub number: DeploymentNumber,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// What it is.
    pub content: DeploymentContent,
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
    /// How long after a change of what runs it can be undone with a rewind, in milliseconds. Default an hour.
    pub rewind_window_ms: u64,
    /// Of each input stream, the job whose outputs it carries, if they are to be told from their repeats.
    pub from_job: Vec<Option<String>>,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            commit_interval_ms: 500,
            retries: 3,
            last_straw: LastStraw::DeadLetter,
            on_gap: OnGap::Stop,
            letters: LetterBounds { letters_max: 1_000, bytes_max: 64 << 20 },
            consumer: Consumer::Polling,
            rewind_window_ms: 3_600_000,
            from_job: Vec::new(),
        }
    }
}
