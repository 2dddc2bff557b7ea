//! What the engine is told of a job: no defaults are left to fill in.

use std::collections::{BTreeMap, BTreeSet};

use pelton_core::feed::Pace;
use pelton_core::id::{DeploymentNumber, Digest, HostId};
use pelton_core::job::JobMeta;

/// A job to run on this host.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// What the job is from its creation on.
    pub meta: JobMeta,
    /// This process.
    pub host: HostId,
    /// How long each input stream keeps records, in milliseconds, by [`StreamIndex`](pelton_core::id::StreamIndex).
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

/// Limits and paces of a job.
#[derive(Clone, Copy, Debug)]
pub struct JobSettings {
    /// Oldest an uncommitted write becomes, in milliseconds. Default 500.
    pub commit_interval_ms: u64,
    /// Longest a guest call may run, in milliseconds. Default 5,000.
    pub batch_timeout_ms: u64,
    /// Most linear memory of a task's instance, in bytes. Default 64 MiB.
    pub memory_bytes_max: u64,
    /// How often a failed batch is tried again before its task stops. Default 3.
    pub retries: u32,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { commit_interval_ms: 500, batch_timeout_ms: 5_000, memory_bytes_max: 64 << 20, retries: 3 }
    }
}
