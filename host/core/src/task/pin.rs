//! Which deployment a task's calls are made with, and which comes next. A pin changes only between two commits, so that
//! each commit is of one deployment.

use crate::id::DeploymentNumber;
use crate::mutant::{Mutant, wrong};
use crate::task::rewind::UndoneRevisions;

/// What a task is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Which deployment.
    pub deployment: DeploymentNumber,
    /// The change of what the job runs that brought it.
    pub revision: u64,
    /// What was undone.
    pub undone: UndoneRevisions,
    /// Where it has yet to prove itself: a canary.
    pub trial: Option<Trial>,
}

/// How long a canary is borne with. What fails in it is tried again and sets no dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// What the task goes back to, and the change that brought that.
    pub back_to: (DeploymentNumber, u64),
    /// At which failed call.
    pub failures_max: u32,
}

impl From<DeploymentNumber> for Assignment {
    fn from(deployment: DeploymentNumber) -> Self {
        Self { deployment, revision: 0, undone: UndoneRevisions::default(), trial: None }
    }
}

/// The pin of a running task.
#[derive(Debug)]
pub(super) struct Pin {
    now: Assignment,
    next: Option<Assignment>,
    /// Calls that failed while it is a canary.
    failures: u32,
    /// A call failed while the pin was to change already.
    gave_up: bool,
    /// The next commit is to begin with a new instance.
    renews: bool,
}

impl Pin {
    pub fn new(now: Assignment) -> Self {
        Self { now, next: None, failures: 0, gave_up: false, renews: false }
    }

    pub fn assignment(&self) -> &Assignment {
        &self.now
    }

    pub fn deployment(&self) -> DeploymentNumber {
        self.now.deployment
    }

    /// The change of what the job runs that brought it.
    pub fn revision(&self) -> u64 {
        self.now.revision
    }

    /// Another assignment was made; the same deployment may have become a canary, or have proved itself.
    pub fn assign(&mut self, assignment: Assignment) {
        if assignment.deployment == self.now.deployment {
            // One that failed here is assigned anew on purpose.
            *self = Self { renews: self.renews, ..Self::new(assignment) };
        } else {
            self.next = Some(assignment);
        }
    }

    /// Whether the pin is to change.
    pub fn is_leaving(&self) -> bool {
        self.next.is_some()
    }

    /// Whether the logic is not to be called any more.
    pub fn has_failed(&self) -> bool {
        let is_over = self.trial().is_some_and(|trial| self.failures >= trial.failures_max);
        self.is_leaving() && (is_over || self.gave_up)
    }

    pub fn trial(&self) -> Option<Trial> {
        self.now.trial.filter(|_| !wrong(Mutant::CanaryAsAnyOther))
    }

    /// A call of a canary failed. Returns whether it has failed for good and goes back.
    pub fn failed(&mut self, trial: Trial) -> bool {
        self.failures += 1;
        let over = self.failures >= trial.failures_max && !wrong(Mutant::CanaryStays);
        if over {
            // What was assigned meanwhile is as good a way out.
            let ((deployment, revision), undone) = (trial.back_to, self.now.undone.clone());
            self.next.get_or_insert(Assignment { deployment, revision, undone, trial: None });
        }
        over
    }

    /// A call failed. Returns whether that is left to what comes next.
    pub fn gives_up(&mut self) -> bool {
        self.gave_up |= self.is_leaving();
        self.gave_up
    }

    /// The next commit is to begin with a new instance of what is run.
    pub fn renew(&mut self) {
        self.renews = true;
    }

    /// Whether the instance is to be a new one now.
    pub fn is_renewed(&mut self) -> bool {
        std::mem::take(&mut self.renews)
    }

    /// The pin changes, if it is to.
    pub fn change(&mut self) -> Option<Assignment> {
        let next = self.next.take()?;
        *self = Self::new(next.clone());
        Some(next)
    }
}
