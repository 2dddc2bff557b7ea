//! `pelton dev --watch`: a component's file that changed is deployed at once, on the state that is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use bytes::Bytes;
use pelton_engine::ports::ComponentStore;
use pelton_engine::{Audience, DeploymentContent, Job, digest_of};

use crate::config::JobConfig;

/// How often a file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A job whose component is looked after.
pub struct Watched {
    job: Arc<Job>,
    file: PathBuf,
    config: JobConfig,
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
    pub fn new(job: Arc<Job>, config: JobConfig, components: Arc<dyn ComponentStore>) -> Self {
        Self { job, file: config.component.clone(), config, components }
    }

    /// Looks after it until dropped.
    pub async fn keep(self) {
        let mut deployed = look(&self.file);
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
            deployed = seen;
            self.deploy().await;
        }
    }

    async fn deploy(&self) {
        let (name, file, began) = (&self.job.spec().meta.name, self.file.display(), Instant::now());
        match self.swap().await {
            Ok(Some(number)) => {
                tracing::info!(
                    "{file} changed: job {name} runs it as deployment {number}, {} ms later",
                    began.elapsed().as_millis()
                );
            }
            Ok(None) => {}
            Err(error) => tracing::error!("{file} changed, and job {name} goes on with what it runs: {error:#}"),
        }
    }

    /// Deploys the file as it is now, if it is another component. Returns the number.
    async fn swap(&self) -> anyhow::Result<Option<String>> {
        let bytes = Bytes::from(std::fs::read(&self.file).context("reading it")?);
        let component = digest_of(&bytes);
        if self.job.rollout().component == component {
            return Ok(None);
        }
        self.components.put(component, bytes).await?;
        let JobConfig { config, limits, grants, .. } = self.config.clone();
        let content = DeploymentContent { component, config, limits, grants };
        Ok(Some(self.job.deploy(content, Audience::All).await?.number.to_string()))
    }
}
