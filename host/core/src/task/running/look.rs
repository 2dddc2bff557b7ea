//! What a running task shows of itself. Nothing here changes it.

use super::{Calling, Running};
use crate::counts::Counts;
use crate::dead_letter::DeadLetters;
use crate::id::{DeploymentNumber, TaskId};
use crate::intake::Intake;
use crate::limits::OUTBOX_CLEAR_MS;
use crate::outbox::Outbox;
use crate::snapshot::StateMark;
use crate::task::pin::Assignment;
use crate::timers::Timers;

impl Running {
    /// The task this is.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// The newest durable commit.
    pub fn mark(&self) -> StateMark {
        self.mark
    }

    /// The deployment that its calls are made with.
    pub fn deployment(&self) -> DeploymentNumber {
        self.pin.deployment()
    }

    /// What it runs, and since which change.
    pub fn assignment(&self) -> &Assignment {
        self.pin.assignment()
    }

    /// What it was told last to run.
    pub fn told(&self) -> &Assignment {
        &self.rules.assignment
    }

    /// Whether the logic is changed behind the next call.
    pub fn swaps_next(&self) -> bool {
        self.pin.is_leaving() && self.sealed.is_none()
    }

    /// How far the task has come, and what waits for it.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Outputs on their way.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Records folded since the task began here.
    pub fn records_folded(&self) -> u64 {
        self.records_folded
    }

    /// Calls that failed since the task began here.
    pub fn failed_batches(&self) -> u64 {
        self.failed_batches
    }

    /// How often the batch at hand failed, and with what last.
    pub fn failing(&self) -> Option<(u32, &str)> {
        let attempts = self.attempts.as_ref().map_or(self.failures, |attempts| attempts.attempts);
        self.fault.as_deref().map(|fault| (attempts, fault))
    }

    /// What became of every record since the job was created.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Dead letters that stand.
    pub fn letters(&self) -> &DeadLetters {
        &self.letters
    }

    /// Timers that are set.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Whether records wait for their fold, or folded ones for their commit.
    pub fn is_busy(&self) -> bool {
        !matches!(self.calling, Calling::Idle)
            || self.sealed.is_some()
            || self.open.has_folds()
            || self.intake.waiting().any(|run| !run.is_empty())
    }

    /// Since when outputs wait for the commit that says they were published; for tests of bounds.
    pub fn outbox_clear_ms() -> u64 {
        OUTBOX_CLEAR_MS
    }
}
