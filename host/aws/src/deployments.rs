//! The deployments of a job, numbered without a gap, and the item that says which of them its tasks are to run. As bytes:
//! format 1, then a protobuf message. Unknown fields are an error of the reader.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use pelton_core::id::{DeploymentNumber, Digest, Incarnation, TaskId};
use pelton_core::rollout::{Canary, CanaryRule, Rollout, Shadow};
use pelton_core::task::{RefoldedOutputs, Undone};
use pelton_engine::ports::{Clock as _, Deployments, PortError, PutOutcome};
use pelton_engine::{Deployment, DeploymentContent, Grants, GuestLimits};

use crate::clock::ServiceClock;
use crate::error::persist;
use crate::item::{Item, binary};
use crate::items::Query;
use crate::layout::{self, DEPLOYMENT, LAST, ROLLOUT};
use crate::manifest::{framed, unframed};
use crate::mutant::{Mutant, wrong};
use crate::table::DynamoTable;

const FORMAT: u8 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct DeploymentWire {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint64, tag = "2")]
    created_ms: u64,
    #[prost(bytes = "vec", tag = "3")]
    component: Vec<u8>,
    #[prost(btree_map = "string, string", tag = "4")]
    config: BTreeMap<String, String>,
    #[prost(message, required, tag = "5")]
    limits: LimitsWire,
    /// Random: tells our own put from another host's at the same number.
    #[prost(bytes = "vec", tag = "6")]
    token: Vec<u8>,
    /// None where nothing is granted.
    #[prost(message, optional, tag = "7")]
    grants: Option<GrantsWire>,
}

/// Kept as given, the values of variables too: who may read the table may read them.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct GrantsWire {
    #[prost(btree_map = "string, string", tag = "1")]
    env: BTreeMap<String, String>,
    #[prost(string, repeated, tag = "2")]
    http: Vec<String>,
}

impl fmt::Debug for GrantsWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantsWire").field("env", &self.env.keys()).field("http", &self.http).finish()
    }
}

impl GrantsWire {
    fn of(grants: &Grants) -> Option<Self> {
        let http = grants.http.iter().map(ToString::to_string).collect();
        (*grants != Grants::default()).then(|| Self { env: grants.env.clone(), http })
    }

    fn grants(self) -> Result<Grants, String> {
        Ok(Grants { env: self.env, http: self.http.iter().map(|host| host.parse()).collect::<Result<_, _>>()? })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct LimitsWire {
    #[prost(uint64, tag = "1")]
    memory_bytes_max: u64,
    #[prost(uint64, tag = "2")]
    batch_timeout_ms: u64,
    #[prost(uint64, tag = "3")]
    table_elements_max: u64,
    #[prost(uint32, tag = "4")]
    core_parts_max: u32,
    #[prost(uint64, tag = "5")]
    batch_write_bytes_max: u64,
    #[prost(uint64, tag = "6")]
    batch_output_bytes_max: u64,
    #[prost(uint64, tag = "7")]
    answer_bytes_max: u64,
    #[prost(uint32, tag = "8")]
    log_lines_max: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RolloutWire {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(uint64, tag = "2")]
    current: u64,
    #[prost(uint64, optional, tag = "3")]
    previous: Option<u64>,
    #[prost(message, optional, tag = "4")]
    canary: Option<CanaryWire>,
    /// The revision that brought what is current.
    #[prost(uint64, tag = "5")]
    since: u64,
    /// Of deployments left, the revision with which the first task did.
    #[prost(btree_map = "uint64, uint64", tag = "6")]
    left: BTreeMap<u64, u64>,
    /// Oldest first.
    #[prost(message, repeated, tag = "7")]
    undone: Vec<UndoneWire>,
    #[prost(message, optional, tag = "8")]
    shadow: Option<ShadowWire>,
    /// The revision that went back last.
    #[prost(uint64, tag = "9")]
    went_back: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UndoneWire {
    #[prost(uint64, tag = "1")]
    since: u64,
    #[prost(uint64, tag = "2")]
    until: u64,
    /// Whether outputs of what is folded again are emitted again.
    #[prost(bool, tag = "3")]
    again: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ShadowWire {
    #[prost(uint64, tag = "1")]
    deployment: u64,
    #[prost(uint32, tag = "2")]
    share_percent: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CanaryWire {
    #[prost(uint64, tag = "1")]
    deployment: u64,
    #[prost(uint32, repeated, tag = "2")]
    tasks: Vec<u32>,
    #[prost(uint32, tag = "3")]
    failures_max: u32,
    #[prost(uint64, tag = "4")]
    since: u64,
    #[prost(uint32, optional, tag = "5")]
    errors_percent: Option<u32>,
    #[prost(uint32, optional, tag = "6")]
    slower_percent: Option<u32>,
}

impl From<GuestLimits> for LimitsWire {
    fn from(limits: GuestLimits) -> Self {
        Self {
            memory_bytes_max: limits.memory_bytes_max,
            batch_timeout_ms: limits.batch_timeout_ms,
            table_elements_max: limits.table_elements_max as u64,
            core_parts_max: limits.core_parts_max,
            batch_write_bytes_max: limits.batch_write_bytes_max as u64,
            batch_output_bytes_max: limits.batch_output_bytes_max as u64,
            answer_bytes_max: limits.answer_bytes_max as u64,
            log_lines_max: limits.log_lines_max,
        }
    }
}

impl From<LimitsWire> for GuestLimits {
    fn from(wire: LimitsWire) -> Self {
        Self {
            memory_bytes_max: wire.memory_bytes_max,
            batch_timeout_ms: wire.batch_timeout_ms,
            table_elements_max: wire.table_elements_max as usize,
            core_parts_max: wire.core_parts_max,
            batch_write_bytes_max: wire.batch_write_bytes_max as usize,
            batch_output_bytes_max: wire.batch_output_bytes_max as usize,
            answer_bytes_max: wire.answer_bytes_max as usize,
            log_lines_max: wire.log_lines_max,
        }
    }
}

impl From<&Rollout> for RolloutWire {
    fn from(rollout: &Rollout) -> Self {
        let canary = |canary: &Canary| CanaryWire {
            deployment: canary.deployment.0,
            tasks: canary.tasks.iter().map(|task| task.0.into()).collect(),
            failures_max: canary.rule.failures_max,
            errors_percent: canary.rule.errors_percent,
            slower_percent: canary.rule.slower_percent,
            since: canary.since,
        };
        let undone = |undone: &Undone| UndoneWire {
            since: undone.since,
            until: undone.until,
            again: undone.outputs == RefoldedOutputs::Again,
        };
        Self {
            revision: rollout.revision,
            current: rollout.current.0,
            previous: rollout.previous.map(|previous| previous.0),
            canary: rollout.canary.as_ref().map(canary),
            since: rollout.since,
            left: rollout.left.iter().map(|(left, change)| (left.0, *change)).collect(),
            went_back: rollout.went_back,
            undone: rollout.undone.iter().map(undone).collect(),
            shadow: rollout
                .shadow
                .map(|shadow| ShadowWire { deployment: shadow.deployment.0, share_percent: shadow.share_percent }),
        }
    }
}

impl RolloutWire {
    fn rollout(self) -> Option<Rollout> {
        let task = |task: u32| u16::try_from(task).ok().map(TaskId);
        let canary = |wire: CanaryWire| {
            let tasks = wire.tasks.into_iter().map(task).collect::<Option<_>>()?;
            let CanaryWire { deployment, failures_max, errors_percent, slower_percent, since, .. } = wire;
            let rule = CanaryRule { failures_max, errors_percent, slower_percent };
            Some(Canary { deployment: DeploymentNumber(deployment), tasks, rule, since })
        };
        let undone = |wire: UndoneWire| Undone {
            since: wire.since,
            until: wire.until,
            outputs: if wire.again { RefoldedOutputs::Again } else { RefoldedOutputs::Withhold },
        };
        Some(Rollout {
            revision: self.revision,
            current: DeploymentNumber(self.current),
            previous: self.previous.map(DeploymentNumber),
            canary: match self.canary {
                Some(wire) => Some(canary(wire)?),
                None => None,
            },
            since: self.since,
            left: self.left.into_iter().map(|(left, change)| (DeploymentNumber(left), change)).collect(),
            went_back: self.went_back,
            undone: self.undone.into_iter().map(undone).collect(),
            shadow: self.shadow.map(|wire| Shadow {
                deployment: DeploymentNumber(wire.deployment),
                share_percent: wire.share_percent,
            }),
        })
    }
}

/// The deployments of a job.
pub struct DynamoDeployments {
    table: DynamoTable,
    pk: String,
    clock: Arc<ServiceClock>,
}

impl DynamoDeployments {
    /// The deployments of a job's incarnation.
    pub fn new(table: DynamoTable, incarnation: Incarnation, clock: Arc<ServiceClock>) -> Self {
        Self { table, pk: layout::deployments(incarnation), clock }
    }

    /// Copies every deployment, and what the tasks are to run, to another incarnation that has none.
    ///
    /// # Errors
    /// When the table cannot be read or written, or holds what this version does not know.
    pub async fn carry_over(&self, to: &Self) -> Result<(), PortError> {
        let newest = format!("{DEPLOYMENT}{LAST}");
        for item in persist(|| self.table.query_all(Query::rising(&self.pk, DEPLOYMENT, &newest))).await? {
            let wire = Self::read(item)?;
            let sk = layout::deployment(DeploymentNumber(wire.number));
            persist(|| self.table.put(&to.pk, &sk, vec![("data", binary(framed(FORMAT, &wire)))])).await?;
        }
        if let Some(rollout) = persist(|| self.rollout()).await? {
            let data = binary(framed(FORMAT, &RolloutWire::from(&rollout)));
            persist(|| self.table.put(&to.pk, ROLLOUT, vec![("data", data.clone())])).await?;
        }
        Ok(())
    }

    fn read(mut item: Item) -> Result<DeploymentWire, PortError> {
        let data = item.bytes("data")?;
        let wire: DeploymentWire = unframed(FORMAT, &data).map_err(|what| item.wrong(what))?;
        if item.sk != layout::deployment(DeploymentNumber(wire.number)) {
            return Err(item.wrong(format!("it holds deployment {}", wire.number)));
        }
        item.end()?;
        Ok(wire)
    }

    fn deployment(&self, wire: DeploymentWire) -> Result<Deployment, PortError> {
        let number = DeploymentNumber(wire.number);
        let damaged = |what: &str| PortError::Stop(format!("table {}: {what} of deployment {number}", self.table.name));
        let unnamed = |_| damaged("no 32 bytes name the component");
        Ok(Deployment {
            number,
            created_ms: wire.created_ms,
            content: DeploymentContent {
                component: wire.component.try_into().map(Digest).map_err(unnamed)?,
                config: wire.config,
                limits: wire.limits.into(),
                grants: wire.grants.map_or(Ok(Grants::default()), GrantsWire::grants).map_err(|why| damaged(&why))?,
            },
        })
    }

    async fn at(&self, number: DeploymentNumber) -> Result<Option<DeploymentWire>, PortError> {
        self.table.get(&self.pk, &layout::deployment(number)).await?.map(Self::read).transpose()
    }

    async fn newest(&self) -> Result<DeploymentNumber, PortError> {
        let to = format!("{DEPLOYMENT}{LAST}");
        let page = self.table.query(Query::last(&self.pk, DEPLOYMENT, &to), None).await?;
        let newest = page.items.into_iter().next().map(Self::read).transpose()?;
        Ok(DeploymentNumber(newest.map_or(0, |wire| wire.number)))
    }
}

#[async_trait]
impl Deployments for DynamoDeployments {
    async fn add(&self, content: &DeploymentContent) -> Result<Deployment, PortError> {
        let mut wire = DeploymentWire {
            number: 0,
            created_ms: self.clock.now_ms(),
            component: content.component.0.into(),
            config: content.config.clone(),
            limits: content.limits.into(),
            token: pelton_engine::random()?.into(),
            grants: GrantsWire::of(&content.grants),
        };
        loop {
            let number = DeploymentNumber(persist(|| self.newest()).await?.0 + 1);
            wire.number = number.0;
            let sk = layout::deployment(number);
            let put = || self.table.put_new(&self.pk, &sk, vec![("data", binary(framed(FORMAT, &wire)))]);
            let ours = match persist(put).await? {
                PutOutcome::Applied => true,
                // Our own put may have been applied by a request whose reply was lost.
                PutOutcome::Exists => persist(|| self.at(number))
                    .await?
                    .is_some_and(|there| there.token == wire.token || wrong(Mutant::DeploymentOfOthersAsOurs)),
            };
            if ours {
                return self.deployment(wire);
            }
        }
    }

    async fn get(&self, number: DeploymentNumber) -> Result<Option<Deployment>, PortError> {
        persist(|| self.at(number)).await?.map(|wire| self.deployment(wire)).transpose()
    }

    async fn list(&self) -> Result<Vec<Deployment>, PortError> {
        let to = format!("{DEPLOYMENT}{LAST}");
        let items = persist(|| self.table.query_all(Query::rising(&self.pk, DEPLOYMENT, &to))).await?;
        items.into_iter().map(|item| self.deployment(Self::read(item)?)).collect()
    }

    async fn rollout(&self) -> Result<Option<Rollout>, PortError> {
        let Some(mut item) = self.table.get(&self.pk, ROLLOUT).await? else { return Ok(None) };
        let data = item.bytes("data")?;
        let wire: RolloutWire = unframed(FORMAT, &data).map_err(|what| item.wrong(what))?;
        let rollout = wire.rollout().ok_or_else(|| item.wrong("a task number is over 16 bits"))?;
        item.end()?;
        Ok(Some(rollout))
    }

    async fn set_rollout(&self, rollout: &Rollout) -> Result<PutOutcome, PortError> {
        let data = binary(framed(FORMAT, &RolloutWire::from(rollout)));
        let attributes = || vec![("data", data.clone())];
        if rollout.revision == 1 {
            return persist(|| self.table.put_new(&self.pk, ROLLOUT, attributes())).await;
        }
        let Some(standing) = persist(|| self.rollout()).await? else { return Ok(PutOutcome::Exists) };
        if standing.revision + 1 != rollout.revision && !wrong(Mutant::RolloutPassedOver) {
            return Ok(PutOutcome::Exists);
        }
        let before = binary(framed(FORMAT, &RolloutWire::from(&standing)));
        persist(|| self.table.replace(&self.pk, ROLLOUT, before.clone(), attributes())).await
    }
}
