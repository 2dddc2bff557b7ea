//! Deployments of a job on this host: made and checked, compiled, and brought to the tasks that are to run them. What stands
//! in the table decides; a host that cannot run what it says goes on with what it has, and tells why.

mod canary;
mod error;
mod fleet;
mod needs;
mod rewind;
mod shadow;
mod swap;
mod tryout;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pelton_core::id::{DeploymentNumber, Digest, TaskId};
use pelton_core::rollout::{Canary, CanaryRule, Rollout, Shadow};

use crate::anew;
use crate::cell::lock;
use crate::events::Happening;
use crate::job::{Job, JobShared};
use crate::ports::PortError;
use crate::spec::{Deployment, DeploymentContent};

pub(crate) use canary::{Pace, size, take_back};
pub use error::DeployError;
pub(crate) use fleet::{Deployed, Fleet};
pub(crate) use needs::keep_accounts;
pub(crate) use shadow::{begin as begin_shadow, give_anew as give_shadow};

/// How often a host looks whether another one deployed something.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How often a host tries again to run what it could not.
const REFUSED_INTERVAL: Duration = Duration::from_secs(30);
/// How long instances are made beforehand, all together.
const PREPARING_LIMIT: Duration = Duration::from_secs(1);

/// Who a new deployment is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every task.
    All,
    /// Some, who try it first.
    Canary {
        /// Which.
        tasks: BTreeSet<TaskId>,
        /// What is borne of it.
        rule: CanaryRule,
    },
    /// Nobody: every task compares it with what it runs.
    Shadow {
        /// How much time it may take, in hundredths of what the task's own calls take.
        share_percent: u32,
    },
}

/// What a host says of a job's deployments.
#[derive(Clone, Debug)]
pub struct RolloutStatus {
    /// What the tasks are to run, as far as this host knows.
    pub rollout: Rollout,
    /// The component of what is current.
    pub component: Digest,
    /// Why this host does not run what it is to, if it does not.
    pub refusal: Option<String>,
}

impl Job {
    /// What the tasks are to run.
    pub fn rollout(&self) -> RolloutStatus {
        let fleet = &self.shared.fleet;
        let (rollout, current) = fleet.standing_here();
        let component = current.deployment.content.component;
        RolloutStatus { rollout, component, refusal: lock(&fleet.refusal).clone() }
    }

    /// Every deployment, by number.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn deployments(&self) -> Result<Vec<Deployment>, DeployError> {
        Ok(self.shared.fleet.deployments.list().await?)
    }

    /// Makes a deployment, once an instance of it was seen to begin, and has tasks run it.
    ///
    /// # Errors
    /// When it cannot run, which changes nothing, or a service fails.
    pub async fn deploy(&self, content: DeploymentContent, audience: Audience) -> Result<Deployment, DeployError> {
        let shared = &self.shared;
        shadow::check(&shared.fleet.standing().await?, &audience)?;
        // Before there is a deployment that names it; the change says so once more.
        shared.fleet.keep(content.component).await?;
        let program = shared.fleet.program(&content).await?;
        let tried = Deployment { number: DeploymentNumber(0), created_ms: 0, content: content.clone() };
        self.check_timers(&program, &audience)?;
        self.try_out(Deployed::new(tried, program, &shared.spec, &shared.fleet.lines), |_| true).await?;
        let admitted = Self { shared: shared.clone() }.admit(content, audience);
        // Whoever asked may go away meanwhile: what has a number is also run.
        let admitted = tokio::spawn(admitted).await;
        admitted.map_err(|error| PortError::Stop(format!("making a deployment failed: {error}")))?
    }

    /// Makes a deployment of what was tried, and has tasks run it.
    async fn admit(self, content: DeploymentContent, audience: Audience) -> Result<Deployment, DeployError> {
        let shared = &self.shared;
        // So that of two the one with the higher number is what runs.
        let one_at_a_time = shared.fleet.admitting.lock().await;
        let deployment = shared.fleet.deployments.add(&content).await?;
        let number = deployment.number;
        let change = |rollout: &Rollout| match &audience {
            Audience::All => Ok(rollout.deploy(number)),
            Audience::Shadow { share_percent } => {
                shadow::compare(rollout, Shadow { deployment: number, share_percent: *share_percent })
            }
            Audience::Canary { tasks, rule } => {
                shadow::check(rollout, &audience)?;
                let (tasks, rule) = (tasks.clone(), *rule);
                Ok(rollout.try_out(Canary { deployment: number, tasks, rule, since: 0 }))
            }
        };
        let changed = shared.fleet.change(change).await?;
        drop(one_at_a_time);
        self.brought(changed).await?;
        Ok(deployment)
    }

    /// Has every task run what is the canary, or the shadow.
    ///
    /// # Errors
    /// When it is neither, or a service fails.
    pub async fn promote(&self, number: DeploymentNumber) -> Result<(), DeployError> {
        let fleet = &self.shared.fleet;
        let promoted = |rollout: &Rollout| {
            let canary = rollout.canary.as_ref().map(|canary| canary.deployment);
            let tried = [canary, rollout.shadow.map(|shadow| shadow.deployment)];
            if tried.contains(&Some(number)) { Ok(rollout.deploy(number)) } else { Err(DeployError::NotTried(number)) }
        };
        promoted(&fleet.standing().await?)?;
        let deployed = fleet.prepare(number, &self.shared.spec).await?;
        self.check_timers(&deployed.program, &Audience::All)?;
        self.brought(fleet.change(promoted).await?).await
    }

    /// Has the canary's tasks go back.
    ///
    /// # Errors
    /// When there is none, or a service fails.
    pub async fn drop_canary(&self) -> Result<(), DeployError> {
        let without = |rollout: &Rollout| {
            let canary = rollout.canary.as_ref().map(|canary| canary.deployment);
            canary.and_then(|canary| rollout.without_canary(canary)).ok_or(DeployError::NoCanary)
        };
        self.brought(self.shared.fleet.change(without).await?).await
    }

    /// Has every task run an earlier deployment from now on: one that is named; or what stands, where there is a canary; or else that
    /// before the current one.
    ///
    /// # Errors
    /// When there is none, an instance of it does not begin on the state that there is, or a service fails.
    pub async fn roll_back(&self, to: Option<DeploymentNumber>) -> Result<(), DeployError> {
        let fleet = &self.shared.fleet;
        let target = |rollout: &Rollout| to.or_else(|| rollout.back()).ok_or(DeployError::NoPrevious);
        // One that cannot run here is not asked for.
        let number = target(&fleet.standing().await?)?;
        let deployed = fleet.prepare(number, &self.shared.spec).await?;
        self.try_going_back(&deployed).await?;
        let back = |rollout: &Rollout| match target(rollout)? {
            same if same == number => Ok(rollout.roll_back(number)),
            // A canary may have taken itself back meanwhile: what it was to be gone back from is gone.
            _ => Err(DeployError::Contended),
        };
        self.brought(fleet.change(back).await?).await
    }

    /// Brings a change to the tasks of this host.
    async fn brought(&self, changed: Rollout) -> Result<(), DeployError> {
        let fleet = &self.shared.fleet;
        bring(&self.shared).await;
        if fleet.rollout().revision >= changed.revision {
            return Ok(());
        }
        Err(DeployError::NotBrought(lock(&fleet.refusal).clone().unwrap_or_else(|| "the table does not answer".into())))
    }
}

/// Looks at what the table says, now and then, until the job closes.
pub(crate) async fn keep_rolling_out(shared: Arc<JobShared>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = shared.closed() => return,
        }
        bring(&shared).await;
        canary::judge(&shared).await;
    }
}

/// Brings what the table says to the tasks: compiled, instances at hand, and only then assigned. Whoever asked for it may go away
/// meanwhile: it is done to its end, and one after another.
async fn bring(shared: &Arc<JobShared>) {
    let shared = shared.clone();
    let bringing = async move {
        let mut refused = shared.fleet.bringing.lock().await;
        bring_now(&shared, &mut refused).await;
        anew::look(&shared).await;
    };
    // It is nobody's to cancel, and its own panic is in the log.
    let _ = tokio::spawn(bringing).await;
}

async fn bring_now(shared: &Arc<JobShared>, refused: &mut Option<(u64, Instant)>) {
    let fleet = &shared.fleet;
    let refusal = match fleet.deployments.rollout().await {
        Ok(Some(rollout)) if rollout.revision == fleet.rollout().revision => None,
        Ok(Some(rollout))
            if refused
                .is_some_and(|(revision, at)| revision == rollout.revision && at.elapsed() < REFUSED_INTERVAL) =>
        {
            return;
        }
        Ok(Some(rollout)) => {
            let revision = rollout.revision;
            let refusal = apply(shared, rollout).await.err().map(|error| error.to_string());
            *refused = refusal.as_ref().map(|_| (revision, Instant::now()));
            refusal
        }
        Ok(None) => Some("what the job runs is gone from the table".into()),
        Err(error) => {
            tracing::debug!("job {}: looking what to run: {error}", shared.spec.meta.name);
            return;
        }
    };
    let mut known = lock(&fleet.refusal);
    if *known != refusal {
        if let Some(why) = &refusal {
            tracing::error!("job {} goes on with what it runs: {why}", shared.spec.meta.name);
        }
        *known = refusal;
    }
}

async fn apply(shared: &Arc<JobShared>, rollout: Rollout) -> Result<(), DeployError> {
    let fleet = &shared.fleet;
    for number in rollout.deployments() {
        fleet.prepare(number, &shared.spec).await?;
    }
    let before = std::mem::replace(&mut *lock(&fleet.rollout), rollout.clone());
    if (Rollout { revision: before.revision, ..rollout.clone() }) == before {
        // The same anew, when components were seen not to be needed any more.
        return Ok(());
    }
    tracing::info!("job {} is to run {}", shared.spec.meta.name, told(&rollout));
    let what = Happening::Rollout { rollout: rollout.clone() };
    shared.events.tell(shared.ports.clock.now_ms(), &shared.name, what);
    let shared = shared.clone();
    let prepared = tokio::task::spawn_blocking(move || {
        shadow::bring(&shared, &before, &rollout);
        canary::begin(&shared, &before, &rollout);
        swap::assign_all(&shared, &before, &rollout);
        shared.fleet.forget_all_but(&rollout);
    });
    Ok(prepared.await.map_err(|error| PortError::Stop(format!("preparing instances failed: {error}")))?)
}

fn told(rollout: &Rollout) -> String {
    let canary = rollout.canary.as_ref().map_or(String::new(), |canary| {
        format!(", and {} of its tasks deployment {} as a canary", canary.tasks.len(), canary.deployment)
    });
    let shadow = rollout.shadow.map_or(String::new(), |shadow| {
        format!(", and is compared with deployment {}, for {} % of its time", shadow.deployment, shadow.share_percent)
    });
    format!("deployment {}{canary}{shadow}", rollout.current)
}
