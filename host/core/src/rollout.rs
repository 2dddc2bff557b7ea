//! What the tasks of a job are to run: the deployment of all, and one that some of them try first. The last one asked for
//! wins; each change has a greater revision than the one before.

use std::collections::BTreeSet;

use crate::id::{DeploymentNumber, TaskId};
use crate::slice::TaskCount;
use crate::task::{Assignment, Trial};

/// What the tasks of a job are to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Rises by one with each change.
    pub revision: u64,
    /// What every task runs that tries no other.
    pub current: DeploymentNumber,
    /// What was current before: where a rollback leads.
    pub previous: Option<DeploymentNumber>,
    /// What some tasks try first.
    pub canary: Option<Canary>,
    /// What every task compares with the current one. There is a canary or a shadow, and not both.
    pub shadow: Option<Shadow>,
}

/// A deployment that has yet to prove itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Which.
    pub deployment: DeploymentNumber,
    /// Who tries it.
    pub tasks: BTreeSet<TaskId>,
    /// At this failed call of one task all go back.
    pub failures_max: u32,
}

/// A deployment that is called beside the current one, and of which nothing is kept but what it does otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Which.
    pub deployment: DeploymentNumber,
    /// How much time it may take of a hundred parts that the current one takes, in each task.
    pub share_percent: u32,
}

impl Rollout {
    /// The first deployment, for all.
    pub fn first(current: DeploymentNumber) -> Self {
        Self { revision: 1, current, previous: None, canary: None, shadow: None }
    }

    /// What a task is to run.
    pub fn assignment(&self, task: TaskId) -> Assignment {
        let canary = self.canary.as_ref().filter(|canary| canary.tasks.contains(&task));
        canary.map_or(self.current.into(), |canary| Assignment {
            deployment: canary.deployment,
            trial: Some(Trial { back_to: self.current, failures_max: canary.failures_max }),
        })
    }

    /// The deployments of which some task is to have an instance.
    pub fn deployments(&self) -> impl Iterator<Item = DeploymentNumber> {
        let canary = self.canary.as_ref().map(|canary| canary.deployment);
        [Some(self.current), canary, self.shadow.map(|shadow| shadow.deployment)].into_iter().flatten()
    }

    /// Every task is to run this; a canary or a shadow is over.
    #[must_use]
    pub fn deploy(&self, deployment: DeploymentNumber) -> Self {
        let previous = if deployment == self.current { self.previous } else { Some(self.current) };
        Self { revision: self.revision + 1, current: deployment, previous, canary: None, shadow: None }
    }

    /// Some tasks are to try this first, in place of a canary before it.
    #[must_use]
    pub fn try_out(&self, canary: Canary) -> Self {
        Self { revision: self.revision + 1, canary: Some(canary), ..self.clone() }
    }

    /// Every task is to compare this with the current one, in place of a shadow before it.
    #[must_use]
    pub fn compare(&self, shadow: Shadow) -> Self {
        Self { revision: self.revision + 1, shadow: Some(shadow), ..self.clone() }
    }

    /// The shadow is over; none where there is none.
    #[must_use]
    pub fn without_shadow(&self) -> Option<Self> {
        self.shadow.map(|_| Self { revision: self.revision + 1, shadow: None, ..self.clone() })
    }

    /// The canary is for all; none where there is no canary.
    #[must_use]
    pub fn promote(&self) -> Option<Self> {
        self.canary.as_ref().map(|canary| self.deploy(canary.deployment))
    }

    /// This canary is over; none where it is none.
    #[must_use]
    pub fn without_canary(&self, deployment: DeploymentNumber) -> Option<Self> {
        let is_it = self.canary.as_ref().is_some_and(|canary| canary.deployment == deployment);
        is_it.then(|| Self { revision: self.revision + 1, canary: None, ..self.clone() })
    }
}

/// Some of a job's tasks, spread evenly: a share in percent, but one at least.
pub fn some_tasks(tasks: TaskCount, percent: u32) -> BTreeSet<TaskId> {
    let share = |tasks: u64| tasks * u64::from(percent.min(100)) / 100;
    let picked: BTreeSet<TaskId> =
        tasks.tasks().filter(|task| share(task.0.into()) < share(u64::from(task.0) + 1)).collect();
    if picked.is_empty() { BTreeSet::from([TaskId(0)]) } else { picked }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: DeploymentNumber = DeploymentNumber(1);
    const TWO: DeploymentNumber = DeploymentNumber(2);

    fn canary() -> Canary {
        Canary { deployment: TWO, tasks: BTreeSet::from([TaskId(3)]), failures_max: 3 }
    }

    #[test]
    fn a_canary_is_for_its_tasks_until_it_is_promoted_or_dropped() {
        let tried = Rollout::first(ONE).try_out(canary());
        assert_eq!(tried.assignment(TaskId(0)), ONE.into());
        let trial = Trial { back_to: ONE, failures_max: 3 };
        assert_eq!(tried.assignment(TaskId(3)), Assignment { deployment: TWO, trial: Some(trial) });
        assert_eq!(tried.deployments().collect::<Vec<_>>(), [ONE, TWO]);

        let promoted = tried.promote().expect("there is one");
        assert_eq!((promoted.assignment(TaskId(3)), promoted.previous), (TWO.into(), Some(ONE)));
        assert_eq!(promoted.promote(), None);

        let dropped = tried.without_canary(TWO).expect("it is the canary");
        assert_eq!((dropped.assignment(TaskId(3)), dropped.previous), (ONE.into(), None));
        assert_eq!(dropped.without_canary(TWO), None);
        assert!([&promoted, &dropped].iter().all(|after| after.revision == tried.revision + 1));
    }

    #[test]
    fn a_shadow_changes_nothing_of_what_tasks_run() {
        let shadow = Shadow { deployment: TWO, share_percent: 5 };
        let shadowed = Rollout::first(ONE).compare(shadow);
        assert_eq!((shadowed.assignment(TaskId(3)), shadowed.revision), (ONE.into(), 2));
        assert_eq!(shadowed.deployments().collect::<Vec<_>>(), [ONE, TWO]);
        let dropped = shadowed.without_shadow().expect("there is one");
        assert_eq!((dropped.shadow, dropped.without_shadow()), (None, None));
        assert_eq!(shadowed.deploy(TWO).shadow, None);
    }

    #[test]
    fn deploying_again_what_is_current_forgets_no_way_back() {
        let twice = Rollout::first(ONE).deploy(TWO).deploy(TWO);
        assert_eq!((twice.current, twice.previous), (TWO, Some(ONE)));
    }

    #[test]
    fn a_share_is_spread_over_the_tasks_and_never_empty() {
        let tasks = |count| TaskCount::new(count).expect("a number of tasks");
        for (count, percent, some) in [(256, 10, 25), (10, 10, 1), (4, 10, 1), (1, 1, 1), (8, 50, 4), (3, 100, 3)] {
            assert_eq!(some_tasks(tasks(count), percent).len(), some, "{percent} % of {count}");
        }
        let spread: Vec<u16> = some_tasks(tasks(8), 50).into_iter().map(|task| task.0).collect();
        assert_eq!(spread, [1, 3, 5, 7]);
    }
}
