//! Deployments come and go: for all tasks, or for some that try one first; and what fails there is taken back.

use pelton_core::id::{DeploymentNumber, TaskId};
use pelton_core::rollout::{Canary, Rollout};
use pelton_core::task::{Assignment, Event, OutOfReach, Reach, RefoldedOutputs, Undone};

use crate::mutants::Slip;
use crate::oracle::Who;
use crate::promise::{Verdict, ensure};
use crate::shape::Shape;
use crate::trace::trace;
use crate::world::{Action, World};

fn canary_is_over(failures: u32) -> Verdict {
    ensure!(10, failures <= FAILURES_MAX, "a canary goes back at its failure {FAILURES_MAX}, not {failures}");
    Ok(())
}

/// How often a canary may fail.
pub const FAILURES_MAX: u32 = 3;

/// Whether the logic of a deployment fails with much of what it is given. Such a one never becomes that of all tasks.
pub fn is_flawed(deployment: DeploymentNumber) -> bool {
    deployment.0 % 3 == 2
}

impl World {
    /// Somebody deploys, promotes or rolls back.
    pub fn deploy(&mut self) {
        self.cover.deployments += 1;
        if let Some(rollout) = self.change() {
            self.rollout = rollout;
        }
        trace!(self, "from now on: {:?}", self.rollout);
        self.oracle.rolled_out(&self.rollout);
        self.tell_assignments();
    }

    fn change(&mut self) -> Option<Rollout> {
        let (rng, newest) = (&mut self.rng, &mut self.deployments);
        match rng.below(9) {
            0 | 1 => {
                newest.0 += 1 + u64::from(is_flawed(DeploymentNumber(newest.0 + 1)));
                Some(self.rollout.deploy(*newest))
            }
            2 | 3 => {
                newest.0 += 1;
                let some = self.meta.tasks.tasks().filter(|_| rng.chance(5_000)).collect();
                Some(self.rollout.try_out(Canary {
                    deployment: *newest,
                    tasks: some,
                    rule: FAILURES_MAX.into(),
                    since: 0,
                }))
            }
            6..=8 => self.undo(),
            4 => self.rollout.promote().filter(|promoted| !is_flawed(promoted.current)),
            // One that ran before is for all again, as any other is,
            _ if self.rollout.revision.is_multiple_of(2) => {
                let previous = self.rollout.previous?;
                self.oracle.deploys_again(previous);
                Some(self.rollout.deploy(previous))
            }
            // or is gone back to.
            _ => self.roll_back(),
        }
    }

    /// What ran before is run again, going forward.
    fn roll_back(&mut self) -> Option<Rollout> {
        let to = self.rollout.back()?;
        self.cover.rollbacks += 1;
        let back = self.rollout.roll_back(to);
        let verdict = self.oracle.rolls_back(&self.rollout, &back);
        self.check(verdict);
        Some(back)
    }

    /// What was committed since a change is undone, if the change is young enough.
    fn undo(&mut self) -> Option<Rollout> {
        let outputs = if self.rng.chance(5_000) { RefoldedOutputs::Again } else { RefoldedOutputs::Withhold };
        let by_name = self.rng.chance(5_000);
        let to = by_name.then(|| self.rollout.previous.unwrap_or(self.rollout.current));
        let Some((to, undone)) = self.rollout.undoing(to, outputs) else {
            // What is undone already can be undone again only once that is withdrawn, wherever the tasks are with it.
            self.cover.withdrawn_by_chance += u64::from(!self.rollout.undone.is_empty());
            return self.rollout.withdraw();
        };
        if is_flawed(to) || !self.meta.tasks.tasks().all(|task| self.reaches(task, undone)) {
            return None;
        }
        self.cover.rewinds += 1;
        let was_undone = self.oracle.was_undone(undone.since) && self.rollout.undone.is_empty();
        self.cover.rewinds_asked_again += u64::from(was_undone);
        let back = self.rollout.rewind((to, undone));
        let verdict = self.oracle.rolls_back(&self.rollout, &back);
        self.check(verdict);
        Some(back)
    }

    /// Whether a task runs on some host that says that it can be brought back.
    fn reaches(&mut self, task: TaskId, undone: Undone) -> bool {
        let Shape { rewind_window_ms: window_ms, retention_ms, .. } = self.shape;
        (0..self.hosts.len()).any(|host| {
            let now_ms = self.host_now(host);
            let reach = Reach { now_ms, window_ms, retention_ms: retention_ms.unwrap_or(u64::MAX) };
            let Some(instance) = self.hosts[host].tasks.get(&task) else { return false };
            let reaches = instance.task.reaches(undone, reach);
            if let Some(Err(OutOfReach::Records { .. })) = reaches {
                let knows = (task, instance.task.epoch());
                let verdict = self.oracle.refuses(&self.kinesis, knows, undone, now_ms);
                self.check(verdict);
            }
            reaches.is_some_and(|reaches| reaches.is_ok())
        })
    }

    /// A task could not be brought back: whoever runs the job has it keep what it has.
    pub fn withdraw(&mut self, who: Who) {
        self.cover.rewinds_withdrawn += 1;
        trace!(self, "task {}: what was undone stands", who.task);
        if let Some(rollout) = self.rollout.withdraw() {
            self.rollout = rollout;
            self.oracle.rolled_out(&self.rollout);
            self.tell_assignments();
        }
    }

    /// Every task learns what it is to run, each when its host has it ready.
    fn tell_assignments(&mut self) {
        let tasks = self.hosts.iter().flat_map(|host| host.tasks.values());
        let tasks: Vec<Who> = tasks.map(|instance| instance.who).collect();
        for who in tasks {
            let pause = self.rng.below(2_000);
            self.after(pause, Action::Assign(who));
        }
    }

    /// A task learns what it is to run.
    pub fn assign(&mut self, who: Who) {
        let assignment = self.rollout.assignment(who.task);
        if let Some(instance) =
            self.instance(who).filter(|instance| instance.assignment.deployment == assignment.deployment)
        {
            (instance.assignment, instance.trial_failures) = (assignment.clone(), 0);
        }
        self.step(who, Event::Assign(assignment));
    }

    /// A task's calls are made with another deployment from now on.
    pub fn swap(&mut self, who: Who, assignment: Assignment) {
        let changes =
            self.instance(who).is_some_and(|instance| instance.assignment.deployment != assignment.deployment);
        self.cover.swaps += u64::from(changes);
        trace!(self, "task {}: host {} runs {assignment:?}", who.task, who.host);
        let keeps = self.slip == Some(Slip::SwapKeepsInstance);
        if let Some(instance) = self.instance(who).filter(|_| !keeps) {
            (instance.assignment, instance.trial_failures) = (assignment, 0);
        }
    }

    /// A call of a task failed.
    pub fn call_failed(&mut self, who: Who) {
        let Some(instance) = self.instance(who) else { return };
        instance.trial_failures += u32::from(instance.assignment.trial.is_some());
        let failures = instance.trial_failures;
        self.check(canary_is_over(failures));
    }

    /// A canary failed in a task as often as it may: nobody runs it any more.
    pub fn trial_failed(&mut self, who: Who, deployment: DeploymentNumber) {
        self.cover.canaries_failed += 1;
        trace!(self, "task {}: canary {} has failed", who.task, deployment.0);
        if let Some(rollout) = self.rollout.without_canary(deployment) {
            self.rollout = rollout;
            self.oracle.rolled_out(&self.rollout);
            self.tell_assignments();
        }
    }
}
