//! `pelton run`: the jobs of a configuration, until told to stop.

use std::path::Path;
use std::time::Instant;

use clap::Args;

use crate::args::ConfigArgs;
use crate::config::{self, Config, DEFAULT_FILE};
use crate::exit::{FAILED, Outcome, usage};
use crate::launch::Running;
use crate::signals::Signals;

/// Run the jobs of a configuration.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Runs until told to stop.
///
/// # Errors
/// When a job cannot be started.
pub async fn run(args: RunArgs, began: Instant) -> anyhow::Result<Outcome> {
    let file = args.config.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    let config = config::load(file)?;
    if config.jobs.is_empty() {
        return Err(usage(format!("{} has no [jobs.NAME], so there is nothing to run", file.display())));
    }
    serve(config, began, &mut Signals::listen()?, false, |_| Ok(())).await
}

/// Runs the jobs of a configuration until told to stop, and deploys a component that changes if its file is to be watched; `up`
/// is called once the host answers.
///
/// # Errors
/// When a job cannot be started.
pub async fn serve(
    config: Config,
    began: Instant,
    signals: &mut Signals,
    watch: bool,
    up: impl FnOnce(&Running) -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    let limit = humantime::format_duration(config.host.stop_limit).to_string();
    let mut running = tokio::select! {
        running = Running::open(config, began) => running?,
        () = signals.next() => return Ok(Outcome::Done),
    };
    up(&running)?;
    let started = tokio::select! {
        started = running.start_jobs() => started,
        () = signals.next() => return drain(running, &limit, signals).await,
    };
    if let Err(error) = started {
        // The jobs before it may have begun; they are not left in the middle.
        drain(running, &limit, signals).await?;
        return Err(error);
    }
    let news = tokio::spawn(running.tell_ready());
    let watching = watch.then(|| tokio::spawn(running.watch()));
    signals.next().await;
    news.abort();
    watching.iter().for_each(tokio::task::JoinHandle::abort);
    drain(running, &limit, signals).await
}

/// Stops in order; told so once more, at once.
async fn drain(running: Running, limit: &str, signals: &mut Signals) -> anyhow::Result<Outcome> {
    if running.is_idle() {
        running.stop().await;
        return Ok(Outcome::Done);
    }
    tracing::info!(
        "stopping within {limit}: no more is read, what is folded is committed and published; again: at once"
    );
    let undone = tokio::select! {
        undone = running.stop() => undone,
        () = signals.next() => {
            tracing::warn!("stopped at once; what was not committed is folded again at the next start");
            std::process::exit(FAILED.into());
        }
    };
    undone.iter().for_each(|what| tracing::error!("left undone: {what}"));
    if undone.is_empty() {
        tracing::info!("stopped; nothing is left undone");
        return Ok(Outcome::Done);
    }
    Ok(Outcome::Failed)
}
