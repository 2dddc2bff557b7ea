//! A deployment as a shadow: brought to the tasks, asked about, made what all run, or ended.

use std::sync::Arc;

use pelton_core::rollout::{Rollout, Shadow};

use super::{Audience, DeployError};
use crate::cell::{TaskCell, lock};
use crate::job::{Job, JobShared};
use crate::mailbox::Message;
use crate::shadow::Purse;
use crate::shadow::findings::Findings;

/// Whether what stands leaves room for a deployment as it is to be made.
pub(super) fn check(standing: &Rollout, audience: &Audience) -> Result<(), DeployError> {
    match (audience, &standing.canary, standing.shadow) {
        (Audience::Shadow { .. }, Some(canary), _) => {
            Err(DeployError::Occupied(format!("deployment {} as a canary", canary.deployment)))
        }
        (Audience::Canary { .. }, _, Some(shadow)) => {
            Err(DeployError::Occupied(format!("deployment {} as a shadow", shadow.deployment)))
        }
        _ => Ok(()),
    }
}

/// Has every task compare a deployment with what it runs.
pub(super) fn compare(standing: &Rollout, shadow: Shadow) -> Result<Rollout, DeployError> {
    check(standing, &Audience::Shadow { share_percent: shadow.share_percent })?;
    Ok(standing.compare(shadow))
}

/// Gives the tasks the shadow of a rollout, where it is another than before.
pub(super) fn bring(shared: &Arc<JobShared>, before: &Rollout, rollout: &Rollout) {
    // What is compared with is another then too.
    if (before.shadow, before.current) == (rollout.shadow, rollout.current) {
        return;
    }
    *lock(&shared.fleet.purse) = Purse::default();
    shared.cells().iter().for_each(|cell| give(cell, rollout));
}

fn give(cell: &TaskCell, rollout: &Rollout) {
    let fleet = &cell.job.fleet;
    let deployed = |shadow: Shadow| (fleet.deployed(shadow.deployment), shadow, lock(&fleet.purse).clone());
    let shadowing = cell.set_shadow(rollout.shadow.map(deployed));
    cell.send(Message::Shadow(shadowing));
}

/// Gives a task that begins anew the shadow that its job has, with what came of it so far.
pub(crate) fn give_anew(cell: &TaskCell, before: &TaskCell, rollout: &Rollout) {
    give(cell, rollout);
    let found = lock(&before.findings).take();
    let mut findings = lock(&cell.findings);
    let same = |found: &Findings| findings.as_ref().is_some_and(|new| new.deployment == found.deployment);
    if let Some(found) = found.filter(same) {
        *findings = Some(found);
    }
}

/// Gives the tasks of a job that starts the shadow that it has.
pub(crate) fn begin(shared: &Arc<JobShared>) {
    let rollout = shared.fleet.rollout();
    bring(shared, &Rollout { shadow: None, ..rollout.clone() }, &rollout);
}

impl Job {
    /// What came of the shadow so far, on this host; none where there is none.
    pub fn findings(&self) -> Option<Findings> {
        let found = self.shared.cells().into_iter().filter_map(|cell| lock(&cell.findings).clone());
        found.reduce(|mut all, one| {
            all.merge(one);
            all
        })
    }

    /// Ends the shadow.
    ///
    /// # Errors
    /// When there is none, or a service fails.
    pub async fn drop_shadow(&self) -> Result<(), DeployError> {
        let without = |rollout: &Rollout| rollout.without_shadow().ok_or(DeployError::NoShadow);
        self.brought(self.shared.fleet.change(without).await?).await
    }
}
