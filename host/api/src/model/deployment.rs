//! Deployments of a job, and which of them its tasks are to run.

use std::collections::BTreeMap;
use std::fmt;

use pelton_core::rollout::{Canary, Rollout, Shadow};
use pelton_engine::{Deployment, Grants, GuestLimits};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::job::digest_text;
use super::page::Page;

/// What each instance may use. What a request leaves out is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsView {
    /// Linear memory.
    pub memory_bytes: u64,
    /// Longest a call may run.
    pub batch_timeout_ms: u64,
    /// Elements of all tables together.
    pub table_elements: u64,
    /// Core instances, memories and tables, of each.
    pub core_parts: u32,
    /// Keys and values that a batch may write.
    pub batch_write_bytes: u64,
    /// Partition keys and data that a batch may emit.
    pub batch_output_bytes: u64,
    /// Values that one answer may have.
    pub answer_bytes: u64,
    /// Lines that a task may log in a second.
    pub log_lines: u32,
}

impl Default for LimitsView {
    fn default() -> Self {
        GuestLimits::default().into()
    }
}

impl From<GuestLimits> for LimitsView {
    fn from(limits: GuestLimits) -> Self {
        Self {
            memory_bytes: limits.memory_bytes_max,
            batch_timeout_ms: limits.batch_timeout_ms,
            table_elements: limits.table_elements_max as u64,
            core_parts: limits.core_parts_max,
            batch_write_bytes: limits.batch_write_bytes_max as u64,
            batch_output_bytes: limits.batch_output_bytes_max as u64,
            answer_bytes: limits.answer_bytes_max as u64,
            log_lines: limits.log_lines_max,
        }
    }
}

impl From<LimitsView> for GuestLimits {
    fn from(view: LimitsView) -> Self {
        Self {
            memory_bytes_max: view.memory_bytes,
            batch_timeout_ms: view.batch_timeout_ms,
            table_elements_max: view.table_elements as usize,
            core_parts_max: view.core_parts,
            batch_write_bytes_max: view.batch_write_bytes as usize,
            batch_output_bytes_max: view.batch_output_bytes as usize,
            answer_bytes_max: view.answer_bytes as usize,
            log_lines_max: view.log_lines,
        }
    }
}

/// What each instance is granted beside its own task: nothing where this is left out.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrantsRequest {
    /// Variables of its environment. The host keeps the values in its table, and tells them to nobody but the instances.
    pub env: BTreeMap<String, String>,
    /// Whom it may call by wasi:http: `[http://][*.]HOST[:PORT]`, https where no protocol is said.
    pub http: Vec<String>,
}

impl fmt::Debug for GrantsRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.env.keys().collect();
        f.debug_struct("GrantsRequest").field("env", &names).field("http", &self.http).finish()
    }
}

impl From<Grants> for GrantsRequest {
    fn from(grants: Grants) -> Self {
        Self { env: grants.env, http: grants.http.iter().map(ToString::to_string).collect() }
    }
}

impl TryFrom<GrantsRequest> for Grants {
    type Error = String;

    fn try_from(request: GrantsRequest) -> Result<Self, String> {
        let host = |host: &String| host.parse().map_err(|why| format!("http: {why}"));
        let grants = Self { env: request.env, http: request.http.iter().map(host).collect::<Result<_, String>>()? };
        grants.check().map(|()| grants)
    }
}

/// What each instance is granted beside its own task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantsView {
    /// Names of the variables of its environment. Their values are told to nobody.
    pub env: Vec<String>,
    /// Whom it may call by wasi:http.
    pub http: Vec<String>,
}

impl From<Grants> for GrantsView {
    fn from(grants: Grants) -> Self {
        let http = grants.http.iter().map(ToString::to_string).collect();
        Self { env: grants.env.into_keys().collect(), http }
    }
}

/// A deployment to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeploymentRequest {
    /// Digest of its component, which must be kept, with or without `sha256:`.
    pub component: String,
    /// What its instances are told.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// What its instances may use.
    #[serde(default)]
    pub limits: LimitsView,
    /// What its instances are granted.
    #[serde(default)]
    pub grants: GrantsRequest,
    /// A deployment of the job with whose grants it is made, in place of `grants`.
    #[serde(default)]
    pub grants_of: Option<u64>,
    /// Who tries it first; every task runs it where this is left out.
    #[serde(default)]
    pub canary: Option<CanaryRequest>,
    /// No task runs it, and all compare it with what they run.
    #[serde(default)]
    pub shadow: Option<ShadowRequest>,
}

/// How much of the tasks' time a shadow may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowRequest {
    /// Hundredths of what the task's own calls take; at 100 every call is compared, whatever it takes, while both succeed and
    /// agree.
    #[serde(default = "share_percent")]
    pub share_percent: u32,
}

fn share_percent() -> u32 {
    SHARE_PERCENT
}

/// How much of the tasks' time a shadow may take where nothing is said.
pub const SHARE_PERCENT: u32 = 5;

/// Who tries a deployment first: a share of the tasks, or some by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryRequest {
    /// How many of a hundred tasks; one at least.
    #[serde(default)]
    pub percent: Option<u32>,
    /// Which.
    #[serde(default)]
    pub tasks: Option<Vec<u16>>,
    /// At this failed call of one task all go back.
    #[serde(default = "failures_max")]
    pub failures_max: u32,
    /// Where so many more of a hundred calls fail than in the other tasks, all go back: 20 calls at least are counted.
    #[serde(default)]
    pub errors_percent: Option<u32>,
    /// Where a record takes so many hundredths longer than in the other tasks, all go back: 1,000 records at least are counted on
    /// either side.
    #[serde(default)]
    pub slower_percent: Option<u32>,
}

fn failures_max() -> u32 {
    3
}

/// A deployment. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentView {
    /// Its number, from 1.
    pub deployment: u64,
    /// When it was made.
    pub created_ms: u64,
    /// Digest of its component, as `sha256:…`.
    pub component: String,
    /// What its instances are told.
    pub config: BTreeMap<String, String>,
    /// What its instances may use.
    pub limits: LimitsView,
    /// What its instances are granted.
    pub grants: GrantsView,
}

impl From<Deployment> for DeploymentView {
    fn from(deployment: Deployment) -> Self {
        Self {
            deployment: deployment.number.0,
            created_ms: deployment.created_ms,
            component: digest_text(deployment.content.component),
            config: deployment.content.config,
            limits: deployment.content.limits.into(),
            grants: deployment.content.grants.into(),
        }
    }
}

/// A page of the deployments of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentList {
    /// By number.
    pub deployments: Vec<DeploymentView>,
    /// The `start` of the next page; null after the last one.
    #[serde(default)]
    pub next: Option<String>,
}

impl Page for DeploymentList {
    type Item = DeploymentView;

    fn parts(self) -> (Vec<DeploymentView>, Option<String>) {
        (self.deployments, self.next)
    }
}

/// What the tasks of a job are to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutView {
    /// Rises by one with each change.
    pub revision: u64,
    /// What every task runs that tries no other.
    pub current: u64,
    /// Where a rollback leads.
    pub previous: Option<u64>,
    /// What some tasks try first.
    pub canary: Option<CanaryView>,
    /// What every task compares with the current one.
    #[serde(default)]
    pub shadow: Option<ShadowView>,
}

/// A deployment that is only compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowView {
    /// Which.
    pub deployment: u64,
    /// Hundredths of what the task's own calls take.
    pub share_percent: u32,
}

impl From<Shadow> for ShadowView {
    fn from(shadow: Shadow) -> Self {
        Self { deployment: shadow.deployment.0, share_percent: shadow.share_percent }
    }
}

/// What becomes of outputs of records that are folded again after a rewind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputsView {
    /// They are not emitted: those of the first time stand.
    Withhold,
    /// They are emitted again, under new ids that name the rewind.
    Again,
}

/// A deployment that has yet to prove itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CanaryView {
    /// Which.
    pub deployment: u64,
    /// Who tries it.
    pub tasks: Vec<u16>,
    /// At this failed call of one task all go back.
    pub failures_max: u32,
    /// Where so many more of a hundred calls fail than in the other tasks, if that was said.
    pub errors_percent: Option<u32>,
    /// Where a record takes so many hundredths longer than in the other tasks, if that was said.
    pub slower_percent: Option<u32>,
}

impl From<&Rollout> for RolloutView {
    fn from(rollout: &Rollout) -> Self {
        let canary = |canary: &Canary| CanaryView {
            deployment: canary.deployment.0,
            tasks: canary.tasks.iter().map(|task| task.0).collect(),
            failures_max: canary.rule.failures_max,
            errors_percent: canary.rule.errors_percent,
            slower_percent: canary.rule.slower_percent,
        };
        Self {
            revision: rollout.revision,
            current: rollout.current.0,
            previous: rollout.previous.map(|previous| previous.0),
            canary: rollout.canary.as_ref().map(canary),
            shadow: rollout.shadow.map(Into::into),
        }
    }
}
