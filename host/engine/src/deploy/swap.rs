//! The logic of a task, changed: an instance beforehand, and the change itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pelton_core::id::{DeploymentNumber, TaskId};
use pelton_core::task::{Assignment, Event, PhaseName};

use super::{Deployed, PREPARING_LIMIT};
use crate::cell::{TaskCell, Work, lock};
use crate::events::Happening;
use crate::guest::{GuestFault, Unborn};

impl Deployed {
    /// An instance for a task, which has begun already if its first call makes no difference to that. Those of one deployment are alike:
    /// where one needs its call for that, no other is tried.
    fn prepare(&self, task: TaskId) -> Result<Unborn, GuestFault> {
        let limit_ms = PREPARING_LIMIT.as_millis() as u64;
        let prepare = || self.program.prepare(self.identity(task), limit_ms);
        if !self.needs_calls.load(Ordering::Relaxed) {
            if let Some(begun) = prepare()?.begin_ahead(limit_ms) {
                return Ok(begun);
            }
            self.needs_calls.store(true, Ordering::Relaxed);
        }
        prepare()
    }
}

impl TaskCell {
    /// Tells the task what it is to run.
    pub(super) fn assign(&self, assignment: Assignment) {
        let deployments = self.job.fleet.of(&assignment);
        let numbers = |of: &[Arc<Deployed>]| of.iter().map(|deployed| deployed.deployment.number).collect::<Vec<_>>();
        let mut told = lock(&self.told);
        if told.back().is_none_or(|last| numbers(last) != numbers(&deployments)) {
            told.push_back(deployments);
        }
        drop(told);
        self.tell(Event::Assign(assignment));
    }

    /// Has an instance of a deployment at hand. Where there is none to be had the swap makes one.
    pub(super) fn prepare(&self, deployed: &Arc<Deployed>) {
        let running = lock(&self.status).phase == PhaseName::Running;
        if !running {
            return;
        }
        match deployed.prepare(self.id) {
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
        let deployed = self.told(assignment.deployment);
        self.turn.waits_for_others(!deployed.deployment.content.grants.http.is_empty());
        let before = work.deployed.replace(deployed);
        if before.is_some() {
            self.tell_of(Happening::Swapped { task: self.id, deployment: assignment.deployment });
            work.swapping = Some(began.elapsed());
        }
    }

    /// A deployment that the task was told to run. What it was told before that is of no use any more.
    fn told(&self, number: DeploymentNumber) -> Arc<Deployed> {
        let mut told = lock(&self.told);
        while let Some(deployments) = told.front() {
            if let Some(deployed) = deployments.iter().find(|deployed| deployed.deployment.number == number) {
                return deployed.clone();
            }
            told.pop_front();
        }
        panic!("task {} swaps to deployment {number}, and was not told of it", self.id);
    }

    /// Says what the logs of its guests left out.
    pub(crate) fn settle_logs(&self) {
        lock(&self.told).iter().flatten().for_each(|deployed| deployed.identity(self.id).log.settle());
    }
}
