//! How a canary does beside the tasks that go on as before, and its way back where it does worse than its rule bears.

use std::sync::Arc;
use std::time::Duration;

use pelton_core::id::{DeploymentNumber, TaskId};
use pelton_core::rollout::{CanaryRule, Rollout};
use pelton_core::task::{Call, CallOutcome, FailureKind, Given};

use super::{DeployError, LOOK_INTERVAL, bring};
use crate::cell::{TaskCell, lock};
use crate::events::Happening;
use crate::job::JobShared;

/// Calls after which their failures are a rate.
const CALLS_MIN: u64 = 20;
/// Records after which their time is one, on either side.
const RECORDS_MIN: u64 = 1_000;

/// What calls came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    calls: u64,
    failed: u64,
    /// Of calls that succeeded, but for the first of an instance, which has to warm up.
    records: u64,
    /// What those took.
    took: Duration,
}

impl Pace {
    fn add(self, other: Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            failed: self.failed + other.failed,
            records: self.records + other.records,
            took: self.took + other.took,
        }
    }

    /// Of a hundred calls.
    fn failures(&self) -> f64 {
        self.failed as f64 * 100.0 / self.calls.max(1) as f64
    }

    /// In microseconds.
    fn record_us(&self) -> f64 {
        self.took.as_secs_f64() * 1e6 / self.records.max(1) as f64
    }

    /// Why a canary that does so is not borne, beside tasks that do as the others; nothing before there is enough of either.
    fn against(&self, others: &Self, rule: &CanaryRule) -> Option<String> {
        let (mine, theirs) = (self.failures(), others.failures());
        let errors = rule.errors_percent.filter(|more| self.calls >= CALLS_MIN && mine > theirs + f64::from(*more));
        if let Some(more) = errors {
            return Some(format!(
                "{mine:.1} of 100 calls fail, and {theirs:.1} in the other tasks: more than {more} beyond them"
            ));
        }
        let (mine, theirs) = (self.record_us(), others.record_us());
        let is_slower = |more: &u32| mine > theirs * (1.0 + f64::from(*more) / 100.0);
        let enough = self.records >= RECORDS_MIN && others.records >= RECORDS_MIN;
        let more = rule.slower_percent.filter(|more| enough && is_slower(more))?;
        Some(format!("a record takes {mine:.1} µs, and {theirs:.1} µs in the other tasks: more than {more} % longer"))
    }
}

impl TaskCell {
    /// A call was made, and took so long.
    pub(crate) fn paced(&self, (records, born): (u64, bool), took: Duration, outcome: &CallOutcome) {
        let failed = match outcome {
            // It was not made.
            CallOutcome::Failed(failure) if failure.kind == FailureKind::NoRoom => return,
            CallOutcome::Failed(_) => true,
            CallOutcome::Folded { .. } => false,
        };
        let counts = !failed && !born;
        let pace = Pace {
            calls: 1,
            failed: failed.into(),
            records: if counts { records } else { 0 },
            took: if counts { took } else { Duration::ZERO },
        };
        let mut known = lock(&self.pace);
        *known = known.add(pace);
    }

    /// Counts anew.
    pub(crate) fn begin_pace(&self) {
        *lock(&self.pace) = Pace::default();
    }
}

/// How much a call is given, and whether it is the first of an instance.
pub(crate) fn size(call: &Call) -> (u64, bool) {
    let records = match call.work.given() {
        Given::Runs(runs) => runs.iter().map(|run| run.len()).sum(),
        Given::Timers(timers) => timers.len(),
    };
    (records as u64, call.born)
}

/// From here on a canary's tasks and the others are compared, where there is a new one.
pub(super) fn begin(shared: &JobShared, before: &Rollout, rollout: &Rollout) {
    let canary = |rollout: &Rollout| rollout.canary.as_ref().map(|canary| canary.since);
    if canary(before) != canary(rollout) {
        shared.cells().iter().for_each(|cell| cell.begin_pace());
    }
}

/// Takes back a canary that does worse on this host than its rule bears.
pub(super) async fn judge(shared: &Arc<JobShared>) {
    let rollout = shared.fleet.rollout();
    let Some(canary) = &rollout.canary else { return };
    // A task that has not come to the canary yet, or has not gone back from one before, is on neither side.
    let pace = |deployment: DeploymentNumber| {
        let cells = shared.cells().into_iter().filter(|cell| lock(&cell.status).deployment == deployment);
        let theirs = cells.filter(|cell| rollout.assignment(cell.id).deployment == deployment);
        theirs.map(|cell| *lock(&cell.pace)).fold(Pace::default(), Pace::add)
    };
    if let Some(why) = pace(canary.deployment).against(&pace(rollout.current), &canary.rule) {
        take_back(shared.clone(), None, canary.deployment, why).await;
    }
}

/// A canary failed for good, in one task or in all of them: no task runs it any more, as soon as the table takes it.
pub(crate) async fn take_back(shared: Arc<JobShared>, task: Option<TaskId>, canary: DeploymentNumber, why: String) {
    let place = task.map_or(String::new(), |task| format!(" in task {task}"));
    tracing::warn!("job {}: canary {canary} has failed{place} and is taken back: {why}", shared.spec.meta.name);
    let what = Happening::CanaryFailed { task, deployment: canary, cause: why };
    shared.events.tell(shared.ports.clock.now_ms(), &shared.name, what);
    while let Err(error) =
        shared.fleet.change(|rollout| rollout.without_canary(canary).ok_or(DeployError::NoCanary)).await
    {
        match error {
            DeployError::NoCanary => break,
            error => tracing::warn!("job {}: taking back canary {canary}: {error}", shared.spec.meta.name),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = shared.closed() => return,
        }
    }
    bring(&shared).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(calls: u64, failed: u64, records: u64, took_us: u64) -> Pace {
        Pace { calls, failed, records, took: Duration::from_micros(took_us) }
    }

    /// Expects these words of why a canary goes back, or that it stays.
    fn check(mine: Pace, others: Pace, (errors, slower): (Option<u32>, Option<u32>), expected: Option<&str>) {
        let rule = CanaryRule { failures_max: 3, errors_percent: errors, slower_percent: slower };
        let why = mine.against(&others, &rule);
        assert_eq!(why.is_some(), expected.is_some(), "{why:?}");
        assert!(why.unwrap_or_default().contains(expected.unwrap_or_default()));
    }

    #[test]
    fn a_canary_is_compared_with_the_others_once_there_is_enough() {
        let good = pace(1_000, 10, 100_000, 1_000_000);
        let (errors, slower) = ((Some(5), None), (None, Some(50)));
        check(pace(19, 19, 0, 0), good, errors, None);
        check(pace(100, 6, 0, 0), good, errors, None);
        check(pace(100, 7, 0, 0), good, errors, Some("7.0 of 100 calls fail, and 1.0 in the other tasks"));
        check(pace(100, 100, 0, 0), good, (None, Some(50)), None);
        check(pace(20, 0, 999, 999_000), good, slower, None);
        check(pace(20, 0, 1_000, 15_000), good, slower, None);
        check(pace(20, 0, 1_000, 15_100), good, slower, Some("15.1 µs, and 10.0 µs in the other tasks"));
        check(pace(20, 0, 1_000, 15_100), pace(5, 0, 999, 1), slower, None);
        check(pace(100, 100, 1_000, 99_000), good, (None, None), None);
    }
}
