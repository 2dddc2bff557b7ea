//! A job: what it is, and the sums over its tasks.

use pelton_core::job::{JobMeta, Start};
use pelton_core::task::PhaseName;
use pelton_engine::RolloutStatus;
use pelton_engine::spec::JobSpec;
use pelton_engine::status::TaskStatus;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::deployment::{CanaryView, RolloutView};
use super::page::Page;

/// An input stream of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InputView {
    /// Its name.
    pub stream: String,
    /// Its ARN.
    pub arn: String,
}

/// Where a job began to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum StartView {
    /// With the oldest record kept.
    TrimHorizon,
    /// With what arrived at or after a time.
    Timestamp {
        /// Milliseconds since 1970, by Kinesis' clock.
        timestamp_ms: u64,
    },
}

/// How many tasks are where in their lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PhaseCounts {
    /// Becoming owned.
    pub claiming: u32,
    /// Bringing their local state up to the log.
    pub restoring: u32,
    /// Folding records.
    pub running: u32,
    /// On their way back to an earlier commit.
    pub rewinding: u32,
    /// Committing and publishing what is left.
    pub draining: u32,
    /// Stopped.
    pub stopped: u32,
}

impl PhaseCounts {
    /// Counts a task.
    pub fn add(&mut self, phase: PhaseName) {
        let count = match phase {
            PhaseName::Claiming => &mut self.claiming,
            PhaseName::Restoring => &mut self.restoring,
            PhaseName::Running => &mut self.running,
            PhaseName::Rewinding => &mut self.rewinding,
            PhaseName::Draining => &mut self.draining,
            PhaseName::Stopped => &mut self.stopped,
        };
        *count += 1;
    }

    /// Whether no task is still on its way to folding records.
    pub fn ready(&self) -> bool {
        self.claiming == 0 && self.restoring == 0
    }
}

/// A job on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its name.
    pub job: String,
    /// Tells it from another job of its name, before or after.
    pub incarnation: String,
    /// How many tasks it has.
    pub tasks: u32,
    /// What it reads.
    pub inputs: Vec<InputView>,
    /// Where it began to read.
    pub start: StartView,
    /// When it was created.
    pub created_ms: u64,
    /// The deployment that every task is to run that tries no other.
    pub deployment: u64,
    /// Digest of that deployment's component, as `sha256:…`.
    pub component: String,
    /// What some tasks try first.
    pub canary: Option<CanaryView>,
    /// Why this host goes on with what it runs though it is to run something else, if it does.
    pub refusal: Option<String>,
    /// Names its tasks may emit to.
    pub outputs: Vec<String>,
    /// How many tasks are where in their lives.
    pub phases: PhaseCounts,
    /// Whether every task has left claiming and restoring.
    pub ready: bool,
    /// Records folded since this host took the tasks.
    pub records_folded: u64,
    /// Guest calls that failed since then.
    pub failed_batches: u64,
    /// Outputs published since then.
    pub outputs_published: u64,
    /// Outputs committed and not yet acknowledged.
    pub outputs_pending: u64,
    /// Records waiting in mailboxes.
    pub mailbox_records: u64,
    /// What they weigh.
    pub mailbox_bytes: u64,
    /// Greatest lag of its tasks; null where that of one is not known.
    pub lag_ms: Option<u64>,
}

/// Digest of a component, as the API and the commands write it.
pub fn digest_text(digest: pelton_core::id::Digest) -> String {
    format!("sha256:{digest}")
}

impl JobView {
    /// The view of a job with these tasks.
    pub fn new(spec: &JobSpec, rollout: RolloutStatus, tasks: &[TaskStatus]) -> Self {
        let JobMeta { name, incarnation, tasks: count, inputs, start, created_ms, policies: _ } = &spec.meta;
        let mut phases = PhaseCounts::default();
        tasks.iter().for_each(|task| phases.add(task.phase));
        let sum = |of: fn(&TaskStatus) -> u64| tasks.iter().map(of).sum();
        // One lag that is not known makes the greatest unknown.
        let lags: Option<Vec<u64>> = tasks.iter().map(|task| task.lag_ms).collect();
        Self {
            job: name.clone(),
            incarnation: incarnation.to_string(),
            tasks: count.get(),
            inputs: inputs.iter().map(|i| InputView { stream: i.name.clone(), arn: i.arn.clone() }).collect(),
            start: match start {
                Start::TrimHorizon => StartView::TrimHorizon,
                Start::At(timestamp_ms) => StartView::Timestamp { timestamp_ms: *timestamp_ms },
            },
            created_ms: *created_ms,
            deployment: rollout.rollout.current.0,
            component: digest_text(rollout.component),
            canary: RolloutView::from(&rollout.rollout).canary,
            refusal: rollout.refusal,
            outputs: spec.outputs.iter().cloned().collect(),
            ready: phases.ready(),
            phases,
            records_folded: sum(|task| task.records_folded),
            failed_batches: sum(|task| task.failed_batches),
            outputs_published: sum(|task| task.outputs_published),
            outputs_pending: sum(|task| task.outputs_pending),
            mailbox_records: sum(|task| task.mailbox_records),
            mailbox_bytes: sum(|task| task.mailbox_bytes),
            lag_ms: lags.map(|lags| lags.into_iter().max().unwrap_or(0)),
        }
    }
}

/// A page of the jobs of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// By name.
    pub jobs: Vec<JobView>,
    /// The `start` of the next page; null after the last one.
    #[serde(default)]
    pub next: Option<String>,
}

impl Page for JobList {
    type Item = JobView;

    fn parts(self) -> (Vec<JobView>, Option<String>) {
        (self.jobs, self.next)
    }
}
