//! A deployment is tried before there is one: an instance of it begins on some task's state, on a thread of its own.

use std::sync::Arc;
use std::time::Duration;

use pelton_core::id::{DeploymentNumber, TaskId};
use pelton_core::task::PhaseName;
use tokio::sync::{Semaphore, oneshot};

use super::{Audience, DeployError, Deployed};
use crate::cell::lock;
use crate::guest::{GuestFault, Identity, Invocation, Program, TRIED_AT_ONCE, View};
use crate::job::Job;
use crate::ports::PortError;
use crate::scheduler::leave_cores_to_others;
use crate::spec::Deployment;
use crate::store::StateReader;

/// Beside a job's tasks an instance is given no longer than this to be made and to begin, each, in milliseconds.
const TRY_MS_MAX: u64 = 30_000;
/// Whoever goes back may be in need, and waits no longer than this.
const GOING_BACK_LIMIT: Duration = Duration::from_secs(10);
/// Seeds an `init` that is only tried.
const SEED: u64 = 0;

static ROOM: Semaphore = Semaphore::const_new(TRIED_AT_ONCE as usize);

/// What waits for a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Somebody who asked, while the job's tasks run on, to which it leaves the cores.
    Somebody,
    /// The job, which starts with it.
    Job,
}

/// Has an instance begin on a task's state.
pub(super) async fn try_on(
    (task, local): (TaskId, StateReader),
    deployed: Deployed,
    time_ms: u64,
    waiting: Waiting,
) -> Result<(), DeployError> {
    let room = ROOM.acquire().await;
    let batch_timeout_ms = deployed.deployment.content.limits.batch_timeout_ms;
    let invocation = Invocation { time_ms, seed: SEED };
    let view = View { over: None, open: Arc::default(), sealed: None, local };
    let (answer, answered) = oneshot::channel();
    let begin = move || {
        let mut identity: Identity = deployed.identity(task).clone();
        if waiting == Waiting::Somebody {
            leave_cores_to_others();
            identity.limits.batch_timeout_ms = identity.limits.batch_timeout_ms.min(TRY_MS_MAX);
        }
        // Whoever asked may be gone.
        let _ = answer.send(deployed.program.start(&identity, view, invocation).map(drop));
        drop(room);
    };
    let failed = |error: &dyn std::fmt::Display| PortError::Stop(format!("trying an instance failed: {error}"));
    std::thread::Builder::new().name("try".into()).spawn(begin).map_err(|error| failed(&error))?;
    let begun = answered.await.map_err(|error| failed(&error))?;
    begun.map_err(|fault| match fault {
        GuestFault::Deadline { limit_ms } if limit_ms < batch_timeout_ms => DeployError::Slow { task, limit_ms },
        fault => DeployError::Init { task, fault },
    })
}

/// Whether an instance would not begin at another time either.
fn is_of_logic(fault: &GuestFault) -> bool {
    match fault {
        GuestFault::Init(_) | GuestFault::TooLarge { .. } | GuestFault::Trap { .. } => true,
        GuestFault::NotGranted(_) | GuestFault::NoRoom(_) | GuestFault::Deadline { .. } | GuestFault::Failed { .. } => {
            false
        }
    }
}

impl Job {
    /// Makes sure that the tasks can go back to a deployment: not that there is time and room for that, but that its logic says nothing
    /// against it.
    pub(super) async fn try_going_back(&self, to: &Deployed) -> Result<(), DeployError> {
        let (spec, fleet) = (&self.shared.spec, &self.shared.fleet);
        let tried = Deployment { number: DeploymentNumber(0), ..to.deployment.clone() };
        let tried = Deployed::new(tried, to.program.clone(), spec, &fleet.lines);
        let standing = fleet.rollout();
        let changes = |task| standing.assignment(task).deployment != to.deployment.number;
        let untried = match tokio::time::timeout(GOING_BACK_LIMIT, self.try_out(tried, changes)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(DeployError::Init { task, fault })) if is_of_logic(&fault) => {
                return Err(DeployError::Init { task, fault });
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it takes more than {} s", GOING_BACK_LIMIT.as_secs()),
        };
        let (job, number) = (&spec.meta.name, to.deployment.number);
        tracing::warn!("job {job} goes back to deployment {number}, which could not be tried before: {untried}");
        Ok(())
    }

    /// Has an instance begin on the state of one of some tasks as it stands.
    pub(super) async fn try_out(&self, deployed: Deployed, of: impl Fn(TaskId) -> bool) -> Result<(), DeployError> {
        let cells = self.shared.cells();
        let found = cells.iter().filter(|cell| of(cell.id)).find_map(|cell| Some((cell.id, cell.reader()?)));
        let task = found.ok_or(DeployError::NoTask)?;
        try_on(task, deployed, self.shared.ports.clock.now_ms(), Waiting::Somebody).await
    }

    /// Makes sure that who is to run a component has no timers, where it cannot fire any: they would become dead letters.
    pub(super) fn check_timers(&self, program: &Program, audience: &Audience) -> Result<(), DeployError> {
        if program.fires_timers() {
            return Ok(());
        }
        let component = program.digest();
        let runs_it = |task: TaskId| match audience {
            Audience::All => true,
            Audience::Canary { tasks, .. } => tasks.contains(&task),
            Audience::Shadow { .. } => false,
        };
        for cell in self.shared.cells().iter().filter(|cell| runs_it(cell.id)) {
            let (task, was_loaded, status) = (cell.id, cell.reader().is_some(), lock(&cell.status));
            match (status.phase, status.timers) {
                // One that is rewound is about to have those of an earlier commit.
                (PhaseName::Claiming | PhaseName::Restoring | PhaseName::Rewinding, _) => {
                    return Err(DeployError::TimersUnknown { component, task });
                }
                (PhaseName::Stopped, _) if !was_loaded => return Err(DeployError::TimersUnread { component, task }),
                (PhaseName::Running | PhaseName::Draining | PhaseName::Stopped, 0) => {}
                (PhaseName::Running | PhaseName::Draining | PhaseName::Stopped, timers) => {
                    return Err(DeployError::FiresNoTimers { component, task, timers });
                }
            }
        }
        Ok(())
    }
}
