//! The logic of a task, changed: an instance beforehand, and the change itself.

use std::sync::Arc;
use std::time::Instant;

use pelton_core::task::{Assignment, PhaseName};

use super::{Deployed, PREPARING_LIMIT};
use crate::cell::{TaskCell, Work, lock};
use crate::events::Happening;

impl TaskCell {
    /// Has an instance of a deployment at hand. Where there is none to be had the swap makes one.
    pub(super) fn prepare(&self, deployed: &Arc<Deployed>) {
        let running = lock(&self.status).phase == PhaseName::Running;
        if !running {
            return;
        }
        match deployed.program.prepare(deployed.identity(self.id), PREPARING_LIMIT.as_millis() as u64) {
            Ok(unborn) => *lock(&self.prepared) = Some((deployed.deployment.number, unborn)),
            Err(fault) => tracing::debug!("task {}: an instance beforehand: {fault}", self.id),
        }
    }

    /// Has the task run another deployment from its next call on.
    pub(crate) fn swap(&self, work: &mut Work, assignment: Assignment) {
        let began = Instant::now();
        self.begin_pace();
        let prepared = lock(&self.prepared).take_if(|(number, _)| *number == assignment.deployment);
        // Where there was no room for both beforehand, there is none before the old one is gone.
        work.retired = work.guest.take().filter(|_| prepared.is_some());
        work.unborn = prepared.map(|(_, unborn)| unborn);
        let deployed = self.job.fleet.deployed(assignment.deployment);
        self.turn.waits_for_others(!deployed.deployment.content.grants.http.is_empty());
        let before = work.deployed.replace(deployed);
        if before.is_some() {
            self.tell_of(Happening::Swapped { task: self.id, deployment: assignment.deployment });
            work.swapping = Some(began.elapsed());
        }
    }
}
