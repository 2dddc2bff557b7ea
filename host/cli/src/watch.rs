//! `pelton dev --watch`: a component's file that changed is deployed at once, on the state that is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use bytes::Bytes;
use pelton_engine::guest::GuestFault;
use pelton_engine::ports::{ComponentStore, PortError};
use pelton_engine::{
    Audience, CompileError, ComponentError, DeployError, DeploymentContent, GuestRuntime, Job, digest_of,
};

use crate::config::JobConfig;

/// How often a file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long after a deployment that a service or a start was in the way of it is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// A job whose component is looked after.
pub struct Watched {
    job: Arc<Job>,
    file: PathBuf,
    config: JobConfig,
    guests: Arc<GuestRuntime>,
    components: Arc<dyn ComponentStore>,
}

/// What a file looks like from outside.
type Look = Option<(SystemTime, u64)>;

fn look(file: &Path) -> Look {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

impl Watched {
    /// A job with the configuration that it was started with.
    pub fn new(
        job: Arc<Job>,
        config: JobConfig,
        guests: Arc<GuestRuntime>,
        components: Arc<dyn ComponentStore>,
    ) -> Self {
        Self { job, file: config.component.clone(), config, guests, components }
    }

    /// Looks after it until dropped. What was built before it began, or while it did, is deployed as what is built later.
    pub async fn keep(self) {
        let mut deployed = None;
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let seen = look(&self.file);
            if seen == deployed || seen.is_none() {
                continue;
            }
            // Whoever writes it may not be done.
            tokio::time::sleep(LOOK_INTERVAL).await;
            if look(&self.file) != seen {
                continue;
            }
            if self.deploy().await {
                deployed = seen;
            } else {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }

    /// Returns whether that is done, and not to be tried again until the file changes.
    async fn deploy(&self) -> bool {
        let (name, file, began) = (&self.job.spec().meta.name, self.file.display(), Instant::now());
        match self.swap().await {
            Ok(Some(number)) => {
                tracing::info!(
                    "{file} changed: job {name} runs it as deployment {number}, {} ms later",
                    began.elapsed().as_millis()
                );
            }
            Ok(None) => {}
            Err(error) if passes(&error) => {
                tracing::debug!("{file} changed: {error:#}; trying again");
                return false;
            }
            Err(error) => tracing::error!("{file} changed, and job {name} goes on with what it runs: {error:#}"),
        }
        true
    }

    /// Deploys the file as it is now, if it is another component. Returns the number.
    async fn swap(&self) -> anyhow::Result<Option<String>> {
        let bytes = Bytes::from(std::fs::read(&self.file).context("reading it")?);
        let component = digest_of(&bytes);
        if self.job.rollout().component == component {
            return Ok(None);
        }
        let (guests, checked) = (self.guests.clone(), bytes.clone());
        tokio::task::spawn_blocking(move || guests.load(component, &checked)).await??;
        self.components.put(component, bytes).await?;
        let JobConfig { config, limits, grants, .. } = self.config.clone();
        let content = DeploymentContent { component, config, limits, grants };
        Ok(Some(self.job.deploy(content, Audience::All).await?.number.to_string()))
    }
}

/// Whether what went wrong has nothing to do with the file.
fn passes(error: &anyhow::Error) -> bool {
    let of_service = |error: &PortError| matches!(error, PortError::Retry(_));
    if let Some(ComponentError::Uncompiled(error)) = error.downcast_ref() {
        return matches!(error, CompileError::Busy);
    }
    match error.downcast_ref::<DeployError>() {
        Some(DeployError::NoTask | DeployError::TimersUnknown { .. } | DeployError::Contended) => true,
        Some(DeployError::Init { fault: GuestFault::NoRoom(_), .. }) => true,
        Some(DeployError::Port(error)) => of_service(error),
        Some(_) => false,
        None => error.downcast_ref().is_some_and(of_service),
    }
}
