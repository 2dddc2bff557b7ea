//! Who is being called, and how it was deployed. Constant for the life of an instance.

use std::collections::BTreeMap;

/// A range of the 128-bit hash space, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashRange {
    /// The first hash in it.
    pub start: u128,
    /// The last hash in it.
    pub end: u128,
}

/// Who is being called, and how it was deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub(crate) job: String,
    pub(crate) task: u32,
    pub(crate) tasks: u32,
    pub(crate) slice: HashRange,
    pub(crate) deployment: u64,
    pub(crate) config: BTreeMap<String, String>,
}

impl Context {
    /// Name of the job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Number of this task, from 0.
    pub fn task(&self) -> u32 {
        self.task
    }

    /// How many tasks the job has.
    pub fn tasks(&self) -> u32 {
        self.tasks
    }

    /// The part of the MD5 space whose partition keys come to this task.
    pub fn slice(&self) -> HashRange {
        self.slice
    }

    /// Number of the deployment that this instance belongs to.
    pub fn deployment(&self) -> u64 {
        self.deployment
    }

    /// A value of the job's configuration for its tasks (`[jobs.NAME.config]`).
    pub fn config(&self, key: &str) -> Option<&str> {
        self.config.get(key).map(String::as_str)
    }

    /// The whole of that configuration.
    pub fn config_all(&self) -> &BTreeMap<String, String> {
        &self.config
    }
}
