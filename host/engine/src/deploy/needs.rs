//! Which components a job needs: said in the table before anything relies on one, and taken back once nothing does. What no job needs
//! any more is collected.
//!
//! No component is collected that a rollout names. A change that begins to need one says so between reading the rollout and replacing
//! it, and who says that one is not needed any more first replaces the rollout that it judged by, with the same under a new revision: a
//! change that was decided before begins anew then, and says so anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pelton_core::id::{DeploymentNumber, Digest};
use pelton_core::rollout::Rollout;

use super::{DeployError, Fleet};
use crate::job::JobShared;
use crate::ports::{Collected, ComponentUse, PortError, PutOutcome};

/// When a host looks first, after it began with a job.
const FIRST_ROUND: Duration = Duration::from_secs(60);
/// And how often from then on.
const ROUND_INTERVAL: Duration = Duration::from_secs(3_600);
/// How long a component is kept after it was pushed or deployed last, and after what needed it can no longer be gone back to.
const UNWANTED_MS: u64 = 24 * 3_600_000;

/// What a job is to say of the components that it uses.
#[derive(Debug, Default, PartialEq, Eq)]
struct Account {
    /// These it needs no more.
    over: Vec<Digest>,
    /// Of these it did not say that it needs them.
    unsaid: Vec<Digest>,
}

impl Account {
    fn new(needed: &BTreeSet<Digest>, said: &BTreeMap<Digest, ComponentUse>) -> Self {
        Self {
            over: said.keys().filter(|digest| !needed.contains(digest)).copied().collect(),
            unsaid: needed.iter().filter(|digest| !said.contains_key(digest)).copied().collect(),
        }
    }
}

/// The deployments that a job may begin with at any time: what its tasks are to run, and what ran before.
fn needed(rollout: &Rollout) -> BTreeSet<DeploymentNumber> {
    rollout.deployments().chain(rollout.previous).collect()
}

/// What a change begins to need.
fn needed_anew(standing: &Rollout, next: &Rollout) -> BTreeSet<DeploymentNumber> {
    &needed(next) - &needed(standing)
}

/// When the use ends of what was seen not to be needed any more: it may have been left just now.
fn ends_ms(now_ms: u64, rewind_window_ms: u64) -> u64 {
    now_ms.saturating_add(rewind_window_ms).saturating_add(UNWANTED_MS)
}

impl Fleet {
    /// Has a component kept for the job from now on.
    pub(super) async fn keep(&self, component: Digest) -> Result<(), DeployError> {
        if self.components.keep(component, self.job).await? { Ok(()) } else { Err(DeployError::NoComponent(component)) }
    }

    /// Has kept what a change begins to need. A change that only ends something depends on no component.
    pub(super) async fn keep_for(&self, standing: &Rollout, next: &Rollout) -> Result<(), DeployError> {
        for component in self.components_of(needed_anew(standing, next)).await? {
            self.keep(component).await?;
        }
        Ok(())
    }

    /// Has kept what a job begins with. What is gone all the same is told by who loads it.
    pub(super) async fn keep_standing(&self, standing: &Rollout) -> Result<(), PortError> {
        for component in self.components_of(needed(standing)).await? {
            self.components.keep(component, self.job).await?;
        }
        Ok(())
    }

    async fn components_of(&self, deployments: BTreeSet<DeploymentNumber>) -> Result<BTreeSet<Digest>, PortError> {
        let mut components = BTreeSet::new();
        for number in deployments {
            components.extend(self.deployments.get(number).await?.map(|deployment| deployment.content.component));
        }
        Ok(components)
    }

    /// What the job said that it needs.
    async fn said(&self) -> Result<BTreeMap<Digest, ComponentUse>, PortError> {
        let mut said = BTreeMap::new();
        for (component, _) in self.components.list().await? {
            let uses = self.components.uses(component).await?.into_iter();
            let ours = uses.filter(|used| used.job == self.job && used.until_ms.is_none());
            said.extend(ours.map(|used| (component, used)));
        }
        Ok(said)
    }

    /// Has the table say what the job needs, and no more.
    async fn account(&self, ends_ms: u64) -> Result<(), DeployError> {
        // Before the rollout: a use that was begun anew since is another one, and does not end.
        let said = self.said().await?;
        let standing = self.standing().await?;
        let account = Account::new(&self.components_of(needed(&standing)).await?, &said);
        for component in account.unsaid {
            if !self.components.keep(component, self.job).await? {
                tracing::warn!("a job needs component sha256:{component}, which is not kept; push it again");
            }
        }
        if account.over.is_empty() {
            return Ok(());
        }
        let same = Rollout { revision: standing.revision + 1, ..standing };
        if self.deployments.set_rollout(&same).await? == PutOutcome::Exists {
            // Somebody changes it: what is needed then is seen in the next round.
            return Ok(());
        }
        for component in account.over {
            self.components.release(component, &said[&component], ends_ms).await?;
        }
        Ok(())
    }

    /// Collects the components of the table that nobody needs.
    async fn collect(&self) -> Result<(), PortError> {
        for (component, _) in self.components.list().await? {
            match self.components.collect(component, UNWANTED_MS).await {
                Ok(Collected::Gone) => {
                    tracing::info!("component sha256:{component} was needed by no job and is deleted")
                }
                Ok(Collected::Kept) => {}
                // It is not to hold up the others.
                Err(error) => tracing::warn!("collecting component sha256:{component}: {error}"),
            }
        }
        Ok(())
    }
}

/// Says what the job needs and collects what nobody does, now and then, until the job closes.
pub(crate) async fn keep_accounts(shared: Arc<JobShared>) {
    let mut pause = FIRST_ROUND;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.closed() => return,
        }
        pause = ROUND_INTERVAL;
        let ends_ms = ends_ms(shared.ports.clock.now_ms(), shared.spec.settings.rewind_window_ms);
        if let Err(error) = shared.fleet.account(ends_ms).await {
            tracing::warn!("job {}: saying which components it needs: {error}", shared.spec.meta.name);
        }
        if let Err(error) = shared.fleet.collect().await {
            tracing::warn!("collecting components: {error}");
        }
        shared.fleet.keep_code();
    }
}

#[cfg(test)]
#[path = "needs_tests.rs"]
mod tests;
