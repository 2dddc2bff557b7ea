//! What this host has of a job's deployments: those in use, compiled, and the rollout that says who is to run them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pelton_core::id::{DeploymentNumber, Incarnation, TaskId};
use pelton_core::rollout::Rollout;
use pelton_core::task::Assignment;

use super::DeployError;
use super::tryout::{Waiting, try_on};
use crate::cell::lock;
use crate::guest::{Granted, GuestFault, GuestLines, GuestLog, GuestRuntime, Identity, LogOrigin, Program};
use crate::job::Ports;
use crate::ports::{ComponentStore, Deployments, PortError, PutOutcome};
use crate::shadow::Purse;
use crate::spec::{Deployment, DeploymentContent, JobSpec};
use crate::store::StateReader;

/// How often a change is tried that others get ahead of.
const CHANGES_TRIED_MAX: usize = 20;
/// For how long a start tries again what may pass, and how long it waits in between. The ports themselves try for seconds each time.
const BEGIN_LIMIT: Duration = Duration::from_secs(15);
const BEGIN_PAUSE: Duration = Duration::from_secs(1);

/// A deployment that this host can run.
pub(crate) struct Deployed {
    pub deployment: Deployment,
    pub program: Arc<Program>,
    /// By task.
    pub identities: Vec<Identity>,
    /// What each is granted where it is a shadow.
    pub granted_to_shadow: Arc<Granted>,
    /// An instance was seen to need its first call in order to begin.
    pub(super) needs_calls: AtomicBool,
}

/// What this host has of a job's deployments.
pub(crate) struct Fleet {
    guests: Arc<GuestRuntime>,
    pub(super) job: Incarnation,
    pub(super) components: Arc<dyn ComponentStore>,
    pub(super) deployments: Arc<dyn Deployments>,
    /// What its guests say.
    pub lines: Arc<GuestLines>,
    ready: Mutex<BTreeMap<DeploymentNumber, Arc<Deployed>>>,
    pub(super) rollout: Mutex<Rollout>,
    /// What the shadows of all tasks have to spend together.
    pub(super) purse: Mutex<Purse>,
    /// Why this host does not run what it is to.
    pub(super) refusal: Mutex<Option<String>>,
    /// One deployment at a time gets a number and is what runs.
    pub(super) admitting: tokio::sync::Mutex<()>,
    /// One change at a time is brought to the tasks. Holds the revision that was refused last, and when.
    pub(super) bringing: tokio::sync::Mutex<Option<(u64, Instant)>>,
}

impl Deployed {
    pub(super) fn new(deployment: Deployment, program: Arc<Program>, spec: &JobSpec, lines: &Arc<GuestLines>) -> Self {
        let content = &deployment.content;
        let (config, outputs) = (Arc::new(content.config.clone()), Arc::new(spec.outputs.clone()));
        let job: Arc<str> = spec.meta.name.as_str().into();
        let (number, granted) = (deployment.number, Arc::new(Granted::new(content.grants.clone())));
        let granted_to_shadow = Arc::new(granted.for_shadow());
        let identity = |task| Identity {
            job: job.clone(),
            task,
            tasks: spec.meta.tasks,
            slice: spec.meta.tasks.slice(task),
            deployment: number,
            config: config.clone(),
            outputs: outputs.clone(),
            incarnation: spec.meta.incarnation,
            limits: content.limits,
            granted: granted.clone(),
            log: Arc::new(GuestLog::new(
                LogOrigin { job: job.clone(), task, deployment: number, shadow: false },
                content.limits.log_lines_max,
                lines.clone(),
            )),
        };
        let identities = spec.meta.tasks.tasks().map(identity).collect();
        Self { deployment, program, identities, granted_to_shadow, needs_calls: AtomicBool::new(false) }
    }

    pub fn identity(&self, task: TaskId) -> &Identity {
        &self.identities[usize::from(task.0)]
    }
}

impl Fleet {
    /// What a job runs, with its first deployment tried and made where it has none; every deployment in use is compiled.
    pub async fn open(
        spec: &JobSpec,
        guests: Arc<GuestRuntime>,
        ports: &Ports,
        lines: Arc<GuestLines>,
    ) -> Result<Self, PortError> {
        let (components, deployments) = (&ports.components, &ports.deployments);
        let rollout = match deployments.rollout().await? {
            Some(rollout) => rollout,
            None => {
                let tried = Self::try_first(spec, &guests, ports, &lines).await;
                // Another host may have begun the job meanwhile.
                match deployments.rollout().await? {
                    Some(rollout) => rollout,
                    None => {
                        tried?;
                        let first = deployments.add(&spec.first).await?;
                        deployments.set_rollout(&Rollout::first(first.number)).await?;
                        let gone = || PortError::Retry("what the job runs was written and is gone".into());
                        deployments.rollout().await?.ok_or_else(gone)?
                    }
                }
            }
        };
        let stores = (components.clone(), deployments.clone());
        let fleet = Self::with(spec.meta.incarnation, guests, stores, (lines, rollout.clone()));
        fleet.keep_standing(&rollout).await?;
        fleet.begin(rollout, spec).await?;
        Ok(fleet)
    }

    /// Makes sure that a job's first deployment can run: an instance of it begins with no state, as in its tasks.
    async fn try_first(
        spec: &JobSpec,
        guests: &Arc<GuestRuntime>,
        ports: &Ports,
        lines: &Arc<GuestLines>,
    ) -> Result<(), PortError> {
        let component = spec.first.component;
        let unable = |error: DeployError| match error {
            DeployError::Port(error) => error,
            DeployError::Init { fault: fault @ GuestFault::NoRoom(_), .. } => PortError::Retry(fault.to_string()),
            DeployError::Init { fault, .. } => PortError::Stop(format!(
                "its first deployment cannot begin: an instance of component sha256:{component} was tried on an empty state, and \
                 {fault}; mend the component or its configuration, and start again"
            )),
            error => PortError::Stop(error.to_string()),
        };
        if !ports.components.keep(component, spec.meta.incarnation).await? {
            return Err(unable(DeployError::NoComponent(component)));
        }
        let program = Self::load(guests, ports.components.as_ref(), &spec.first).await.map_err(unable)?;
        let tried = Deployment { number: DeploymentNumber(0), created_ms: 0, content: spec.first.clone() };
        let tried = Deployed::new(tried, program, spec, lines);
        let empty = StateReader::of_nothing().map_err(|error| PortError::Stop(error.to_string()))?;
        try_on((TaskId(0), empty), tried, ports.clock.now_ms(), Waiting::Job).await.map_err(unable)
    }

    /// With nothing ready yet.
    pub(super) fn with(
        job: Incarnation,
        guests: Arc<GuestRuntime>,
        (components, deployments): (Arc<dyn ComponentStore>, Arc<dyn Deployments>),
        (lines, rollout): (Arc<GuestLines>, Rollout),
    ) -> Self {
        Self {
            guests,
            job,
            components,
            deployments,
            lines,
            ready: Mutex::default(),
            rollout: Mutex::new(rollout),
            purse: Mutex::default(),
            refusal: Mutex::default(),
            admitting: tokio::sync::Mutex::default(),
            bringing: tokio::sync::Mutex::default(),
        }
    }

    /// Has ready what the tasks are to run. A host that cannot begin with all of it begins with what it can, and says so: from
    /// there somebody may deploy or roll back. With what was current before it begins only where the current one cannot run, and not where
    /// that is to be seen: tasks fold by what they begin with.
    async fn begin(&self, mut rollout: Rollout, spec: &JobSpec) -> Result<(), PortError> {
        let mut refusal = None;
        if let Some(canary) = rollout.canary.as_ref().map(|canary| canary.deployment)
            && let Err(error) = self.prepare(canary, spec).await
        {
            refusal = Some(format!("canary {canary}: {error}"));
            rollout.canary = None;
        }
        if let Some(shadow) = rollout.shadow.map(|shadow| shadow.deployment)
            && let Err(error) = self.prepare(shadow, spec).await
        {
            refusal = Some(format!("shadow {shadow}: {error}"));
            rollout.shadow = None;
        }
        if let Err(error) = self.prepare_to_begin(rollout.current, spec).await? {
            let current = rollout.current;
            let why = format!("deployment {current}: {error}");
            let previous = rollout.previous.ok_or_else(|| PortError::Stop(why.clone()))?;
            self.prepare_to_begin(previous, spec)
                .await?
                .map_err(|error| PortError::Stop(format!("{why}; deployment {previous}: {error}")))?;
            (rollout.current, refusal) = (previous, Some(why));
        }
        if let Some(why) = &refusal {
            tracing::error!("job {} begins with deployment {}: {why}", spec.meta.name, rollout.current);
            // What stands is looked at again as if it were new.
            rollout.revision -= 1;
        }
        *lock(&self.rollout) = rollout;
        *lock(&self.refusal) = refusal;
        Ok(())
    }

    /// Has a deployment compiled and at hand for the tasks to begin with, or says why it cannot run.
    ///
    /// # Errors
    /// When what may pass does not: it may be able to run, and no other is to run in its place.
    async fn prepare_to_begin(
        &self,
        number: DeploymentNumber,
        spec: &JobSpec,
    ) -> Result<Result<(), DeployError>, PortError> {
        let began = Instant::now();
        loop {
            match self.prepare(number, spec).await {
                Err(error) if !error.may_pass() => return Ok(Err(error)),
                Err(error) if began.elapsed() > BEGIN_LIMIT => {
                    return Err(PortError::Retry(format!("deployment {number}: {error}")));
                }
                Err(error) => tracing::warn!("job {} waits for deployment {number}: {error}", spec.meta.name),
                Ok(_) => return Ok(Ok(())),
            }
            tokio::time::sleep(BEGIN_PAUSE).await;
        }
    }

    pub fn rollout(&self) -> Rollout {
        lock(&self.rollout).clone()
    }

    /// What the tasks are to run, with the deployment that is current.
    pub fn standing_here(&self) -> (Rollout, Arc<Deployed>) {
        loop {
            let rollout = self.rollout();
            // It is forgotten only behind another rollout.
            if let Some(current) = lock(&self.ready).get(&rollout.current) {
                return (rollout, current.clone());
            }
        }
    }

    /// A deployment that some task of this host is to run.
    pub fn deployed(&self, number: DeploymentNumber) -> Arc<Deployed> {
        lock(&self.ready).get(&number).cloned().expect("a task is assigned only what is ready")
    }

    /// What a task that is assigned this runs, and what it may have to go back to.
    pub fn of(&self, assignment: &Assignment) -> Vec<Arc<Deployed>> {
        let back_to = assignment.trial.map(|trial| trial.back_to.0);
        [Some(assignment.deployment), back_to].into_iter().flatten().map(|number| self.deployed(number)).collect()
    }

    /// Has at hand no more than a rollout needs, and what ran before. Tasks keep what they run until they have left it.
    pub(super) fn forget_all_but(&self, rollout: &Rollout) {
        let needed: Vec<DeploymentNumber> = rollout.deployments().chain(rollout.previous).collect();
        lock(&self.ready).retain(|number, _| needed.contains(number));
    }

    /// Keeps the code of what is at hand, and deletes what no job of this host has used for long.
    pub(super) fn keep_code(&self) {
        for deployed in lock(&self.ready).values() {
            self.guests.code_is_used(deployed.program.digest());
        }
        self.guests.delete_unused_code();
    }

    /// Has a deployment compiled and at hand.
    pub(super) async fn prepare(&self, number: DeploymentNumber, spec: &JobSpec) -> Result<Arc<Deployed>, DeployError> {
        if let Some(known) = lock(&self.ready).get(&number) {
            return Ok(known.clone());
        }
        let deployment = self.deployments.get(number).await?.ok_or(DeployError::NoDeployment(number))?;
        let program = self.program(&deployment.content).await?;
        let deployed = Arc::new(Deployed::new(deployment, program, spec, &self.lines));
        lock(&self.ready).insert(number, deployed.clone());
        Ok(deployed)
    }

    /// The component of a deployment, compiled, which is granted what it needs.
    pub(super) async fn program(&self, content: &DeploymentContent) -> Result<Arc<Program>, DeployError> {
        let component = content.component;
        let known = lock(&self.ready).values().find(|known| known.program.digest() == component).cloned();
        if let Some(known) = known {
            let granted = known.program.granted_by(&content.grants);
            return granted.map(|()| known.program.clone()).map_err(|error| DeployError::Component(component, error));
        }
        Self::load(&self.guests, self.components.as_ref(), content).await
    }

    async fn load(
        guests: &Arc<GuestRuntime>,
        components: &dyn ComponentStore,
        content: &DeploymentContent,
    ) -> Result<Arc<Program>, DeployError> {
        let component = content.component;
        let bytes = components.get(component).await?.ok_or(DeployError::NoComponent(component))?;
        let (guests, grants) = (guests.clone(), content.grants.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            let program = guests.load(component, &bytes)?;
            program.granted_by(&grants).map(|()| program)
        });
        let loaded = loaded.await;
        let loaded = loaded.map_err(|error| PortError::Stop(format!("compiling a component failed: {error}")))?;
        loaded.map_err(|error| DeployError::Component(component, error))
    }

    /// What stands in the table.
    pub(super) async fn standing(&self) -> Result<Rollout, DeployError> {
        let gone = || PortError::Stop("what the job runs is gone from the table".into());
        Ok(self.deployments.rollout().await?.ok_or_else(gone)?)
    }

    /// Changes what stands in the table, whoever else does so at the same time.
    pub(super) async fn change(
        &self,
        to: impl Fn(&Rollout) -> Result<Rollout, DeployError>,
    ) -> Result<Rollout, DeployError> {
        for _ in 0..CHANGES_TRIED_MAX {
            let standing = self.standing().await?;
            let next = to(&standing)?;
            self.keep_for(&standing, &next).await?;
            match self.deployments.set_rollout(&next).await? {
                PutOutcome::Applied => return Ok(next),
                // It may be our own, from a request whose reply was lost.
                PutOutcome::Exists if self.standing().await? == next => return Ok(next),
                PutOutcome::Exists => {}
            }
        }
        Err(DeployError::Contended)
    }
}
