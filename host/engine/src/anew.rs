//! A task that stopped for what it ran begins anew once it is to run something else: it claims its log again, as after a start of
//! the host.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pelton_core::task::Assignment;

use crate::cell::{TaskCell, lock};
use crate::deploy::give_shadow;
use crate::job::JobShared;
use crate::ports::PortError;

/// Has tasks begin anew that stopped for another assignment than they have now, and that no other host took meanwhile.
pub(crate) async fn look(shared: &Arc<JobShared>) {
    let rollout = shared.fleet.rollout();
    for cell in shared.cells() {
        let assignment = rollout.assignment(cell.id);
        if !cell.goes_further(&assignment) {
            continue;
        }
        let deployment = assignment.deployment;
        let successor = match cell.is_ours().await {
            Ok(true) => cell.successor(assignment),
            Ok(false) => {
                tracing::warn!("task {} of job {} runs on another host, and is left to it", cell.id, shared.name);
                *lock(&cell.stopped_for) = None;
                continue;
            }
            Err(error) => Err(error),
        };
        match successor {
            Ok(successor) => {
                tracing::info!("task {} of job {}: begins anew with deployment {deployment}", cell.id, shared.name);
                give_shadow(&successor, &cell, &rollout);
                shared.replace(successor);
            }
            Err(error) => tracing::warn!("task {} of job {} cannot begin anew: {error}", cell.id, shared.name),
        }
    }
}

impl TaskCell {
    /// Whether it stopped for what it ran, and this is something else: not the canary that failed here either, before it is taken back.
    fn goes_further(&self, now: &Assignment) -> bool {
        let failed_here = now.trial.is_some() && *lock(&self.came_back_from) == Some(now.revision);
        lock(&self.stopped_for).as_ref().is_some_and(|before| before != now && !failed_here)
    }

    /// Whether the log ends with what this cell appended: a task that has stopped is not told that another host took it.
    pub(crate) async fn is_ours(&self) -> Result<bool, PortError> {
        let epoch = lock(&self.work).machine.epoch();
        let tail = self.changelog().tail(self.id).await?;
        Ok(tail.is_some_and(|tail| tail.epoch == epoch))
    }

    /// The task, begun anew. It is another cell, so that no answer to what this one asked for reaches it; the local copy is
    /// handed on.
    fn successor(&self, assignment: Assignment) -> Result<Arc<Self>, PortError> {
        let successor = Self::new(self.id, self.job.clone(), assignment)?;
        let store = lock(&self.work).store.take();
        successor.unflushed.store(store.is_some(), Ordering::Relaxed);
        lock(&successor.work).store = store;
        let status = lock(&self.status).clone();
        lock(&successor.status).counts.clone_from(&status.counts);
        *lock(&successor.tally) = lock(&self.tally).clone().handed_on(&status);
        successor.was_ready.store(self.was_ready.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok(successor)
    }
}
