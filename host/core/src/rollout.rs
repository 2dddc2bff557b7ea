//! What the tasks of a job are to run: the deployment of all, and one that some of them try first. The last one asked for
//! wins; each change has a greater revision than the one before.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{DeploymentNumber, TaskId};
use crate::mutant::{Mutant, wrong};
use crate::slice::TaskCount;
use crate::task::{Assignment, RefoldedOutputs, Trial, Undone, UndoneRevisions};

/// What the tasks of a job are to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Rises by one with each change.
    pub revision: u64,
    /// What every task runs that tries no other.
    pub current: DeploymentNumber,
    /// What was current before: where a rollback leads.
    pub previous: Option<DeploymentNumber>,
    /// The change that brought the current one.
    pub since: u64,
    /// What some tasks try first.
    pub canary: Option<Canary>,
    /// Of deployments that were current, the change with which the first task left them last. One that a rewind led to is among them,
    /// and counts once that is withdrawn.
    pub left: BTreeMap<DeploymentNumber, u64>,
    /// The newest change that went back. What was left with it or before is gone back to only where it is named: whoever asks twice
    /// does not go back twice.
    pub went_back: u64,
    /// What was undone, oldest first. A task that is away takes it back when it comes.
    pub undone: UndoneRevisions,
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
    /// What is borne of it.
    pub rule: CanaryRule,
    /// The change that brought it; [`Rollout::try_out`] sets it.
    pub since: u64,
}

/// What is borne of a canary; beyond it all go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanaryRule {
    /// At this failed call of one task.
    pub failures_max: u32,
    /// Where so many more of a hundred calls fail than in the other tasks.
    pub errors_percent: Option<u32>,
    /// Where a record takes so many hundredths longer than in the other tasks.
    pub slower_percent: Option<u32>,
}

impl From<u32> for CanaryRule {
    fn from(failures_max: u32) -> Self {
        Self { failures_max, errors_percent: None, slower_percent: None }
    }
}

/// Deployments left that are remembered, the newest.
const LEFT_MAX: usize = 100;

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
        let (left, undone) = (BTreeMap::new(), UndoneRevisions::default());
        let (previous, canary, shadow, went_back) = (None, None, None, 0);
        Self { revision: 1, current, previous, since: 1, canary, shadow, left, went_back, undone }
    }

    /// What a task is to run.
    pub fn assignment(&self, task: TaskId) -> Assignment {
        let canary = self.canary.as_ref().filter(|canary| canary.tasks.contains(&task));
        let (deployment, revision) =
            canary.map_or((self.current, self.since), |canary| (canary.deployment, canary.since));
        let back_to = (self.current, self.since);
        let trial = canary.map(|canary| Trial { back_to, failures_max: canary.rule.failures_max });
        Assignment { deployment, revision, undone: self.undone.clone(), trial }
    }

    /// The deployments of which some task is to have an instance.
    pub fn deployments(&self) -> impl Iterator<Item = DeploymentNumber> {
        let canary = self.canary.as_ref().map(|canary| canary.deployment);
        [Some(self.current), canary, self.shadow.map(|shadow| shadow.deployment)].into_iter().flatten()
    }

    /// Every task is to run this; a canary or a shadow is over.
    #[must_use]
    pub fn deploy(&self, deployment: DeploymentNumber) -> Self {
        let mut next = self.next();
        next.shadow = None;
        let canary = next.canary.take();
        if deployment == self.current {
            return canary.map_or(next.clone(), |canary| next.leaving(canary.since));
        }
        // A canary that is promoted has left the current one behind since it is there.
        let left = canary.as_ref().map_or(next.revision, |canary| canary.since);
        let promoted = canary.filter(|canary| canary.deployment == deployment);
        let since = promoted.map_or(next.revision, |canary| canary.since);
        Self { current: deployment, previous: Some(self.current), since, ..next.leaving(left) }
    }

    /// Where a rollback leads that names nothing: to what stands, while there is a canary, and else to what was current before. None
    /// where there was nothing, or it was gone back to already.
    pub fn back(&self) -> Option<DeploymentNumber> {
        let newer = self.since > self.went_back;
        self.canary.as_ref().map(|_| self.current).or(self.previous.filter(|_| newer))
    }

    /// Every task is to run an earlier deployment again; a canary or a shadow is over.
    #[must_use]
    pub fn roll_back(&self, to: DeploymentNumber) -> Self {
        let next = self.deploy(to);
        if wrong(Mutant::RollbackForth) {
            return next;
        }
        let previous = next.previous.filter(|_| to == self.current);
        Self { previous, went_back: next.revision, ..next }
    }

    fn next(&self) -> Self {
        Self { revision: self.revision + 1, ..self.clone() }
    }

    /// The current deployment was left, by some task at least, with this change.
    fn leaving(mut self, change: u64) -> Self {
        self.left.insert(self.current, change);
        while self.left.len() > LEFT_MAX {
            let oldest = self.left.iter().min_by_key(|(_, change)| **change).map(|(left, _)| *left);
            oldest.and_then(|oldest| self.left.remove(&oldest));
        }
        self
    }

    /// What a rewind undoes, and the deployment that it leads to: to the one given, or to the one that was left last since the job
    /// went back. All that was committed since then is undone; none where it was never left.
    pub fn undoing(
        &self,
        to: Option<DeploymentNumber>,
        outputs: RefoldedOutputs,
    ) -> Option<(DeploymentNumber, Undone)> {
        let newly = || self.left.iter().filter(|(_, change)| **change > self.went_back);
        let left_last = || newly().max_by_key(|(_, change)| **change).map(|(left, _)| *left);
        let canary = self.canary.as_ref().map(|canary| canary.since);
        let (to, since) = match (to, canary) {
            (None, Some(since)) => (self.current, since),
            (None, None) => left_last().and_then(|to| Some((to, *self.left.get(&to)?)))?,
            (Some(to), canary) => {
                let canary = canary.filter(|_| to == self.current);
                let undone = |change: &u64| self.undone.iter().any(|undone| undone.holds(*change));
                let left = self.left.get(&to).copied().filter(|change| !undone(change));
                (to, left.into_iter().chain(canary).min()?)
            }
        };
        Some((to, Undone { since, until: self.revision + 1, outputs }))
    }

    /// Every task is to go back to the deployment that this leads to, and to its state from before.
    #[must_use]
    pub fn rewind(&self, (to, undone): (DeploymentNumber, Undone)) -> Self {
        let mut next = self.next();
        (next.canary, next.shadow) = (None, None);
        next.undone = self.undone.iter().copied().chain([undone]).collect();
        // Nothing of what is undone is there to be gone back to.
        if to != self.current {
            (next.current, next.previous) = (to, None);
        }
        next.went_back = next.revision;
        // What is undone was not left, unless the rewind is withdrawn.
        let left = next.left.entry(to).or_insert(undone.since);
        *left = undone.since.min(*left);
        // What is committed from now on is not undone, whoever brought it.
        if next.current != self.current || next.since >= undone.since {
            next.since = undone.until;
        }
        next
    }

    /// Tasks that have not taken back what was undone keep it, until a rewind to what was left is asked for again, by name, before that is
    /// left again; none where nothing was undone.
    #[must_use]
    pub fn withdraw(&self) -> Option<Self> {
        let any = !self.undone.is_empty();
        any.then(|| Self { undone: UndoneRevisions::default(), ..self.next() })
    }

    /// Some tasks are to try this first, in place of a canary before it.
    #[must_use]
    pub fn try_out(&self, canary: Canary) -> Self {
        let next = self.next();
        let next = match &self.canary {
            Some(before) => next.leaving(before.since),
            None => next,
        };
        Self { canary: Some(Canary { since: next.revision, ..canary }), ..next }
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
        let since = self.canary.as_ref().filter(|_| is_it)?.since;
        Some(Self { canary: None, ..self.next().leaving(since) })
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
        Canary { deployment: TWO, tasks: BTreeSet::from([TaskId(3)]), rule: 3.into(), since: 0 }
    }

    #[test]
    fn a_canary_is_for_its_tasks_until_it_is_promoted_or_dropped() {
        let tried = Rollout::first(ONE).try_out(canary());
        assert_eq!(tried.assignment(TaskId(0)), Assignment { revision: 1, ..ONE.into() });
        let trial = Trial { back_to: (ONE, 1), failures_max: 3 };
        let assigned = tried.assignment(TaskId(3));
        assert_eq!((assigned.deployment, assigned.revision, assigned.trial), (TWO, 2, Some(trial)));
        assert_eq!(tried.deployments().collect::<Vec<_>>(), [ONE, TWO]);

        let promoted = tried.promote().expect("there is one");
        assert_eq!((promoted.assignment(TaskId(3)).deployment, promoted.previous), (TWO, Some(ONE)));
        assert_eq!(promoted.promote(), None);

        let dropped = tried.without_canary(TWO).expect("it is the canary");
        assert_eq!((dropped.assignment(TaskId(3)).deployment, dropped.previous), (ONE, None));
        assert_eq!(dropped.without_canary(TWO), None);
        assert!([&promoted, &dropped].iter().all(|after| after.revision == tried.revision + 1));
    }

    #[test]
    fn a_shadow_changes_nothing_of_what_tasks_run() {
        let shadow = Shadow { deployment: TWO, share_percent: 5 };
        let shadowed = Rollout::first(ONE).compare(shadow);
        assert_eq!((shadowed.assignment(TaskId(3)).deployment, shadowed.revision), (ONE, 2));
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

    const THREE: DeploymentNumber = DeploymentNumber(3);

    fn undone(rollout: &Rollout, to: Option<DeploymentNumber>) -> Option<(u64, u64, u64)> {
        let (to, undone) = rollout.undoing(to, RefoldedOutputs::Withhold)?;
        Some((to.0, undone.since, undone.until))
    }

    #[test]
    fn a_rewind_undoes_all_since_a_deployment_was_left() {
        let first = Rollout::first(ONE);
        assert_eq!(undone(&first, None), None, "nothing was left");
        let third = first.deploy(TWO).deploy(THREE);
        assert_eq!(undone(&third, None), Some((2, 3, 4)), "to what was left last");
        assert_eq!(undone(&third, Some(ONE)), Some((1, 2, 4)), "to any that was left");
        assert_eq!(undone(&third, Some(THREE)), None, "what runs was not left");
        let back = third.deploy(ONE);
        assert_eq!(undone(&back, Some(ONE)), Some((1, 2, 5)), "what the others did is undone, and what was done since");

        let rewound = back.rewind(back.undoing(Some(ONE), RefoldedOutputs::Again).expect("it was left"));
        assert_eq!((rewound.current, rewound.revision, rewound.since), (ONE, 5, 5));
        assert_eq!(rewound.undone.len(), 1);
        assert_eq!(undone(&rewound, Some(ONE)), None, "once");
        assert_eq!(undone(&first.deploy(TWO).undo(None), None), None, "and what was undone is not gone back to");
        let withdrawn = rewound.withdraw().expect("something was undone");
        assert_eq!((withdrawn.undone.len(), withdrawn.withdraw()), (0, None));
        assert_eq!(undone(&withdrawn, Some(ONE)), Some((1, 2, 7)), "what tasks have kept can be undone after all");
        let canary = first.try_out(canary()).undo(None);
        assert_eq!(undone(&canary, None), None, "once");
        let withdrawn = canary.withdraw().expect("it was undone");
        assert_eq!(
            (undone(&withdrawn, None), undone(&withdrawn, Some(ONE))),
            (None, Some((1, 2, 5))),
            "of a canary too"
        );
    }

    #[test]
    fn whoever_goes_back_twice_is_where_they_were_after_the_first_time() {
        let third = Rollout::first(ONE).deploy(TWO).deploy(THREE);
        assert_eq!(third.back(), Some(TWO));
        let back = third.roll_back(TWO);
        assert_eq!((back.current, back.back(), undone(&back, None)), (TWO, None, None), "not forward to what was left");
        assert_eq!(undone(&back, Some(TWO)), Some((2, 3, 5)), "by name it is still undone");
        assert_eq!(
            back.deploy(canary_of(DeploymentNumber(4)).deployment).back(),
            Some(TWO),
            "and later changes are gone back from"
        );
        let rewound = third.undo(None);
        assert_eq!((rewound.current, rewound.back(), undone(&rewound, None)), (TWO, None, None));
        let tried = Rollout::first(ONE).deploy(TWO).try_out(canary_of(THREE));
        assert_eq!(tried.back(), Some(TWO), "from the canary to what stands");
        let dropped = tried.roll_back(TWO);
        assert_eq!((dropped.current, &dropped.canary, dropped.previous), (TWO, &None, Some(ONE)));
        assert_eq!(dropped.back(), None, "and not on from there");
        assert_eq!(
            tried.promote().and_then(|promoted| promoted.back()),
            Some(TWO),
            "a canary that was for all is gone back from"
        );
        let rewound = tried.undo(None);
        let after = (rewound.current, undone(&rewound, None), rewound.back());
        assert_eq!(after, (TWO, None, None), "the canary alone is undone, however often");
    }

    #[test]
    fn what_a_canary_did_is_undone_once_it_is_dropped_promoted_or_there() {
        let tried = Rollout::first(ONE).deploy(TWO).try_out(canary_of(THREE));
        assert_eq!(undone(&tried, None), Some((2, 3, 4)), "while it is there");
        let dropped = tried.without_canary(THREE).expect("it is the canary");
        assert_eq!(undone(&dropped, None), Some((2, 3, 5)), "what it did before it was dropped");
        let rewound = dropped.rewind(dropped.undoing(None, RefoldedOutputs::Withhold).expect("it was left"));
        assert_eq!((rewound.current, rewound.since), (TWO, 2), "what others did before stays");
        let another = dropped.try_out(canary_of(DeploymentNumber(4)));
        assert_eq!(undone(&another, None), Some((2, 5, 6)), "the newest canary alone");
        assert_eq!(
            undone(&another, Some(TWO)),
            Some((2, 3, 6)),
            "and those before it, where they are asked for by name"
        );
        let promoted = tried.promote().expect("there is one");
        assert_eq!(promoted.since, 3, "the canary's tasks changed first");
        assert_eq!(undone(&promoted, None), Some((2, 3, 5)));
    }

    impl Rollout {
        fn undo(&self, to: Option<DeploymentNumber>) -> Self {
            self.rewind(self.undoing(to, RefoldedOutputs::Withhold).expect("it was left"))
        }
    }

    fn canary_of(deployment: DeploymentNumber) -> Canary {
        Canary { deployment, ..canary() }
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
