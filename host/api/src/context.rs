//! What the API answers from: the jobs of this host as they are started, and its component store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use pelton_engine::{EventLog, Job};

use crate::access::Access;
use crate::components::Shelf;
use crate::problem::{Kind, Refusal};

/// Who this host is.
#[derive(Clone, Debug)]
pub struct HostInfo {
    /// Its name.
    pub name: String,
    /// Id of this process.
    pub id: String,
    /// Version of Pelton.
    pub version: &'static str,
    /// The jobs that it is to run; it is ready when all of them are.
    pub jobs: Vec<String>,
}

/// What the API answers from.
pub struct Context {
    pub(crate) host: HostInfo,
    pub(crate) shelf: Shelf,
    pub(crate) access: Access,
    pub(crate) events: Arc<EventLog>,
    jobs: RwLock<BTreeMap<String, Arc<Job>>>,
    stopping: AtomicBool,
}

impl Context {
    /// A host that has started none of its jobs yet.
    pub fn new(host: HostInfo, shelf: Shelf, access: Access, events: Arc<EventLog>) -> Self {
        Self { host, shelf, access, events, jobs: RwLock::default(), stopping: AtomicBool::new(false) }
    }

    /// Shows a job that was started.
    pub fn add_job(&self, job: Arc<Job>) {
        let mut jobs = self.jobs.write().unwrap_or_else(PoisonError::into_inner);
        jobs.insert(job.spec().meta.name.clone(), job);
    }

    /// Says from now on that the host is not ready, so that nothing new is sent its way.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The jobs started so far, by name.
    pub(crate) fn jobs(&self) -> Vec<Arc<Job>> {
        self.jobs.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A job by its name.
    pub(crate) fn job(&self, name: &str) -> Result<Arc<Job>, Refusal> {
        let found = self.jobs.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        found.ok_or_else(|| {
            if self.host.jobs.iter().any(|job| job == name) {
                return Refusal::new(Kind::NotReady, format!("job {name} is still being started; see /readyz"));
            }
            let known = self.host.jobs.join(", ");
            Refusal::new(Kind::UnknownJob, format!("this host runs no job {name:?}; its jobs: {known}"))
        })
    }
}
