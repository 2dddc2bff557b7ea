//! A host: the guest threads of one process, and the jobs that run on them.

use std::path::PathBuf;
use std::sync::Arc;

use crate::events::EventLog;
use crate::guest::GuestRuntime;
use crate::job::{Job, Ports};
use crate::ports::PortError;
use crate::scheduler::Scheduler;
use crate::spec::JobSpec;

/// One process's guest threads and data folder.
pub struct Host {
    scheduler: Arc<Scheduler>,
    data_dir: PathBuf,
    events: Arc<EventLog>,
}

impl Host {
    /// Starts so many guest threads; the tasks' local state is kept below the data folder.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn new(threads: usize, data_dir: PathBuf) -> std::io::Result<Self> {
        Ok(Self { scheduler: Scheduler::start(threads)?, data_dir, events: Arc::default() })
    }

    /// What happens in the jobs of this host.
    pub fn events(&self) -> &Arc<EventLog> {
        &self.events
    }

    /// Runs a job: claims every one of its tasks. Returns before they are restored; their status tells.
    ///
    /// # Errors
    /// When the data folder cannot be written or the table not be read, or when a new job's first deployment cannot run.
    pub async fn start_job(
        &self,
        spec: JobSpec,
        ports: Ports,
        guests: Arc<GuestRuntime>,
    ) -> Result<Arc<Job>, PortError> {
        Job::start(spec, ports, guests, self.scheduler.clone(), &self.data_dir, self.events.clone()).await
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.scheduler.close();
    }
}
