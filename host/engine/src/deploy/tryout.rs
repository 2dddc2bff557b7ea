//! A deployment is tried before there is one: an instance of it begins on some task's state, on a thread of its own.

use std::sync::Arc;

use pelton_core::id::TaskId;
use tokio::sync::{Semaphore, oneshot};

use super::{Audience, DeployError, Deployed};
use crate::cell::lock;
use crate::guest::{GuestFault, Identity, Invocation, Program, TRIED_AT_ONCE, View};
use crate::job::Job;
use crate::ports::PortError;
use crate::scheduler::leave_cores_to_others;
use crate::store::StateReader;

/// Beside a job's tasks an instance is given no longer than this to be made and to begin, each, in milliseconds.
const TRY_MS_MAX: u64 = 30_000;
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
    deployed: Arc<Deployed>,
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

impl Job {
    /// Has an instance begin on some task's state as it stands.
    pub(super) async fn try_out(&self, deployed: Arc<Deployed>) -> Result<(), DeployError> {
        let found = self.shared.cells().iter().find_map(|cell| Some((cell.id, cell.reader()?)));
        let task = found.ok_or(DeployError::NoTask)?;
        try_on(task, deployed, self.shared.ports.clock.now_ms(), Waiting::Somebody).await
    }

    /// Makes sure that who is to run a component has no timers, where it cannot fire any: they would become dead letters.
    pub(super) fn check_timers(&self, program: &Program, audience: &Audience) -> Result<(), DeployError> {
        let runs_it = |task: TaskId| match audience {
            Audience::All => true,
            Audience::Canary { tasks, .. } => tasks.contains(&task),
            Audience::Shadow { .. } => false,
        };
        let cells = self.shared.cells();
        let timers = cells.iter().filter(|cell| runs_it(cell.id)).map(|cell| (cell.id, lock(&cell.status).timers));
        match timers.filter(|(_, timers)| *timers > 0).find(|_| !program.fires_timers()) {
            Some((task, timers)) => Err(DeployError::FiresNoTimers { component: program.digest(), task, timers }),
            None => Ok(()),
        }
    }
}
