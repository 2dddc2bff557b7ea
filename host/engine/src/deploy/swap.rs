//! The logic of a task, changed: an instance beforehand, and the change itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pelton_core::id::DeploymentNumber;
use pelton_core::rollout::Rollout;
use pelton_core::task::{Assignment, Event, PhaseName};

use super::{Deployed, PREPARING_LIMIT};
use crate::cell::{TaskCell, Work, lock};
use crate::events::Happening;
use crate::guest::NotAhead;
use crate::job::JobShared;

/// Assigns to every task what it is to run from now on, with an instance at hand as far as there is time to make them.
pub(super) fn assign_all(shared: &JobShared, before: &Rollout, rollout: &Rollout) {
    let (began, cells) = (Instant::now(), shared.cells());
    // A deployment whose instances are slow to come is not to hold up the tasks that leave it.
    let left = || PREPARING_LIMIT.checked_sub(began.elapsed()).filter(|left| left.as_millis() > 0);
    let changed = cells.iter().map(|cell| (cell, before.assignment(cell.id), rollout.assignment(cell.id)));
    let changed: Vec<_> = changed.filter(|(_, before, assignment)| before != assignment).collect();
    let comes = |before: &Assignment, assignment: &Assignment| {
        let deployment = assignment.deployment;
        (before.deployment != deployment).then(|| shared.fleet.deployed(deployment))
    };
    for (cell, before, assignment) in &changed {
        if let Some((deployed, left)) = comes(before, assignment).zip(left()) {
            cell.prepare(&deployed, left);
        }
    }
    for (cell, before, assignment) in changed {
        if let Some((deployed, left)) = comes(&before, &assignment).zip(left()) {
            cell.begin_ahead(&deployed, left);
        }
        cell.assign(assignment);
    }
}

impl TaskCell {
    /// Tells the task what it is to run.
    fn assign(&self, assignment: Assignment) {
        let deployments = self.job.fleet.of(&assignment);
        let numbers = |of: &[Arc<Deployed>]| of.iter().map(|deployed| deployed.deployment.number).collect::<Vec<_>>();
        let mut told = lock(&self.told);
        let Some(last) = told.back() else { return };
        if numbers(last) != numbers(&deployments) {
            told.push_back(deployments);
        }
        drop(told);
        self.tell(Event::Assign(assignment));
    }

    /// Has an instance of a deployment at hand. Where there is none to be had the swap makes one.
    fn prepare(&self, deployed: &Arc<Deployed>, limit: Duration) {
        let running = lock(&self.status).phase == PhaseName::Running;
        if !running {
            return;
        }
        // It has the room of one that is not needed any more.
        let needless = lock(&self.prepared).take();
        drop(needless);
        match deployed.program.prepare_beside(deployed.identity(self.id), limit.as_millis() as u64) {
            Ok(unborn) => *lock(&self.prepared) = Some((deployed.deployment.number, unborn)),
            Err(fault) => tracing::debug!("task {}: an instance beforehand: {fault}", self.id),
        }
    }

    /// One that was made for what the task runs already is of no use: that is so where a canary went back by itself.
    pub(crate) fn drop_needless(&self, work: &Work, event: &Event) {
        let Event::Assign(Assignment { deployment, .. }) = event else { return };
        if work.deployed.as_ref().is_some_and(|running| running.deployment.number == *deployment) {
            let needless = lock(&self.prepared).take_if(|(number, _)| number == deployment);
            drop(needless);
        }
    }

    /// Has the instance at hand begin, if its first call makes no difference to that. Those of one deployment are alike: where one needs
    /// its call for that, no other is tried.
    fn begin_ahead(&self, deployed: &Arc<Deployed>, limit: Duration) {
        if deployed.needs_calls.load(Ordering::Relaxed) {
            return;
        }
        let number = deployed.deployment.number;
        let Some((_, unborn)) = lock(&self.prepared).take_if(|(prepared, _)| *prepared == number) else { return };
        match unborn.begin_ahead(limit.as_millis() as u64) {
            Ok(begun) => *lock(&self.prepared) = Some((number, begun)),
            Err(why) => {
                deployed.needs_calls.fetch_or(why == NotAhead::NeedsCall, Ordering::Relaxed);
                self.prepare(deployed, limit);
            }
        }
    }

    /// Has the task run another deployment from its next call on.
    pub(crate) fn swap(&self, work: &mut Work, assignment: Assignment) {
        let began = Instant::now();
        self.begin_pace();
        let prepared = lock(&self.prepared).take();
        let prepared = prepared.filter(|(number, _)| *number == assignment.deployment);
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

    /// A task that has stopped runs nothing any more: it keeps none that it was told of, and is told of no other.
    pub(crate) fn forget_told(&self) {
        self.settle_logs();
        let told = std::mem::take(&mut *lock(&self.told));
        drop(told);
    }

    /// Says what the logs of its guests left out.
    pub(crate) fn settle_logs(&self) {
        lock(&self.told).iter().flatten().for_each(|deployed| deployed.identity(self.id).log.settle());
    }
}
