//! Undoing: whether every task can be brought back is asked first, and only then does the rollout say so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{StreamExt as _, TryStreamExt as _};
use pelton_core::id::DeploymentNumber;
use pelton_core::rollout::Rollout;
use pelton_core::task::{Reach, RefoldedOutputs, Undone};

use super::DeployError;
use crate::cell::{TaskCell, lock};
use crate::job::Job;
use crate::ports::PortError;

/// How long tasks are waited for to be told of a rewind, and how often it is looked.
const TOLD_LIMIT: Duration = Duration::from_secs(5);
const TOLD_POLL: Duration = Duration::from_millis(5);
/// How many logs are looked at at once for whether they are ours.
const LOOKED_AT_ONCE: usize = 32;

impl Job {
    /// Takes back all that was committed since a deployment was left: the one given, or the one that was left last. Its tasks go
    /// on with the state and the positions from before, and fold the records since then again. Refused, with nothing changed,
    /// where that cannot be had.
    ///
    /// # Errors
    /// When it was never left, a task cannot go back so far, or a service fails.
    pub async fn rewind(
        &self,
        to: Option<DeploymentNumber>,
        outputs: Option<RefoldedOutputs>,
    ) -> Result<DeploymentNumber, DeployError> {
        let shared = &self.shared;
        let outputs = match outputs {
            Some(outputs) => outputs,
            None if shared.spec.outputs.is_empty() => RefoldedOutputs::Withhold,
            None => return Err(DeployError::OutputsUnsaid),
        };
        let undoing = |rollout: &Rollout| {
            rollout.undoing(to, outputs).ok_or(to.map_or(DeployError::NothingLeft, DeployError::NeverLeft))
        };
        let (target, undone) = undoing(&shared.fleet.standing().await?)?;
        shared.fleet.prepare(target, &shared.spec).await?;
        let cells = shared.clone();
        // A turn under way is waited for.
        let reach = tokio::task::spawn_blocking(move || cells.cells().iter().try_for_each(|cell| cell.reaches(undone)));
        reach.await.map_err(|error| PortError::Stop(format!("asking the tasks failed: {error}")))??;
        // What a host knows of tasks that another took may be long past, and nobody has told it.
        let all_ours = futures::stream::iter(shared.cells())
            .map(|cell| async move { cell.is_ours().await?.then_some(()).ok_or(DeployError::TaskElsewhere(cell.id)) });
        all_ours.buffer_unordered(LOOKED_AT_ONCE).try_collect::<()>().await?;
        let change = |rollout: &Rollout| {
            let standing = undoing(rollout)?;
            // Whoever came between has changed what there is to undo.
            if standing != (target, undone) {
                return Err(DeployError::Contended);
            }
            Ok(rollout.rewind(standing))
        };
        self.brought(shared.fleet.change(change).await?).await?;
        // So that whoever looks at a task next sees it on its way, or there.
        let told = |cell: &Arc<TaskCell>| {
            cell.work
                .try_lock()
                .is_ok_and(|work| work.machine.running().is_none_or(|running| running.knows_of(&undone)))
        };
        let began = Instant::now();
        while began.elapsed() < TOLD_LIMIT && !shared.cells().iter().all(told) {
            tokio::time::sleep(TOLD_POLL).await;
        }
        Ok(target)
    }
}

impl Job {
    /// Has tasks that have not taken back what was undone keep it: the way out where one cannot be brought back.
    ///
    /// # Errors
    /// When nothing was undone, or a service fails.
    pub async fn withdraw(&self) -> Result<(), DeployError> {
        let withdrawn = |rollout: &Rollout| rollout.withdraw().ok_or(DeployError::NothingUndone);
        self.brought(self.shared.fleet.change(withdrawn).await?).await
    }
}

impl TaskCell {
    /// Whether what was committed under some revisions can be undone here.
    fn reaches(&self, undone: Undone) -> Result<(), DeployError> {
        let window_ms = self.spec().settings.rewind_window_ms;
        let reach = Reach { now_ms: self.now_ms(), window_ms, retention_ms: self.retention_ms() };
        let task = self.id;
        let reaches = lock(&self.work).machine.reaches(undone, reach).ok_or(DeployError::TaskAway(task))?;
        reaches.map_err(|why| DeployError::OutOfReach { task, why })
    }
}
