//! `pelton recover`: a job found in a table that was restored from a backup goes on from there, as another incarnation.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pelton_aws::{DynamoChangelog, DynamoComponents, DynamoDeployments, DynamoTable, JobTable};
use pelton_core::id::{CommitId, HostId, Incarnation};
use pelton_engine::{RecoverError, RecoveredTask, Recovery};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::args::ConfigArgs;
use crate::config::{self, DEFAULT_FILE};
use crate::exit::Outcome;
use crate::lock::DataLock;
use crate::print;

/// Tasks carried over at a time.
const TASKS_AT_ONCE: usize = 4;

/// Have a job go on from what a table holds that was restored from a backup.
///
/// Each task begins with the state and the positions found of it: records after them are folded again. What the job emitted
/// after the backup was made goes out again under new ids, so whoever reads its outputs gets those twice. No host may be
/// running the job. A recovery that was cut short is done again from the beginning.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The job.
    #[arg(value_name = "JOB")]
    pub job: String,
    /// Which configuration; its `[aws] table` names the table.
    #[command(flatten)]
    pub config: ConfigArgs,
}

#[derive(Serialize)]
struct Report {
    job: String,
    table: String,
    incarnation_before: String,
    incarnation: String,
    tasks: Vec<TaskReport>,
}

#[derive(Serialize)]
struct TaskReport {
    task: u16,
    commit: u64,
    entries: u64,
    state_bytes: u64,
}

/// Recovers the job.
///
/// # Errors
/// When the job needs none, or what the table holds of it is not whole. Nothing is changed then.
pub async fn run(args: RecoverArgs, json: bool) -> anyhow::Result<Outcome> {
    let file = args.config.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    let config = config::load(file)?;
    let _lock = DataLock::take(&config.host.data_dir)?;
    let connections = pelton_aws::connect(&config.aws.settings).await;
    let table = DynamoTable::open(connections.dynamodb.clone(), &config.aws.table).await?;
    let jobs = JobTable::new(table.clone(), &connections);
    let lost = jobs.lost(&args.job).await?;
    let scratch = config.host.data_dir.join("recover");
    std::fs::create_dir_all(&scratch).with_context(|| format!("making the folder {}", scratch.display()))?;
    let incarnation = Incarnation(pelton_engine::random()?);
    let changelog = |incarnation| Arc::new(DynamoChangelog::new(table.clone(), incarnation));
    let recovery = Arc::new(Recovery {
        incarnation: lost.meta.incarnation,
        from: changelog(lost.meta.incarnation),
        to: changelog(incarnation),
        host: HostId(pelton_engine::random()?),
        scratch: scratch.clone(),
        runtime: Handle::current(),
    });
    let before = lost.meta.incarnation;
    let tasks = carry_over(&recovery, &lost.meta).await?;
    let deployments = |incarnation| DynamoDeployments::new(table.clone(), incarnation, connections.clock.clone());
    deployments(before).carry_over(&deployments(incarnation)).await?;
    let components = DynamoComponents::new(table.clone(), connections.clock.clone());
    components.carry_over(before, incarnation).await?;
    jobs.recovered(lost, incarnation).await?;
    // The job is recovered. What was before would have its components kept for ever, which does no harm beyond that.
    if let Err(error) = components.forget(before).await {
        tracing::warn!("components that the job used are kept for good: {error}");
    }
    // Each task removed its own file; the folder is empty.
    let _ = std::fs::remove_dir(scratch);
    let report = Report {
        job: args.job,
        table: table.name().into(),
        incarnation_before: before.to_string(),
        incarnation: incarnation.to_string(),
        tasks: tasks.iter().map(task_report).collect(),
    };
    if json {
        print::json(&report)?
    } else {
        tell(&report)?
    }
    Ok(Outcome::Done)
}

async fn carry_over(recovery: &Arc<Recovery>, meta: &pelton_core::job::JobMeta) -> anyhow::Result<Vec<RecoveredTask>> {
    let bar = ProgressBar::with_draw_target(Some(meta.tasks.get().into()), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos} of {len} tasks, {eta} left")?);
    let each = meta.tasks.tasks().map(|task| {
        let (recovery, bar) = (recovery.clone(), bar.clone());
        async move {
            let ids = [CommitId(pelton_engine::random()?), CommitId(pelton_engine::random()?)];
            let recovered = tokio::task::spawn_blocking(move || recovery.task(task, ids)).await;
            bar.inc(1);
            recovered.context("carrying a task over")?.map_err(unused)
        }
    });
    let recovered = futures::stream::iter(each).buffered(TASKS_AT_ONCE).try_collect().await;
    bar.finish_and_clear();
    recovered
}

fn unused(error: RecoverError) -> anyhow::Error {
    anyhow::Error::new(error).context("nothing was changed: the job is not recovered")
}

fn task_report(task: &RecoveredTask) -> TaskReport {
    let RecoveredTask { task, commit, entries, state_bytes } = *task;
    TaskReport { task: task.0, commit: commit.0, entries, state_bytes }
}

fn tell(report: &Report) -> anyhow::Result<()> {
    let entries: u64 = report.tasks.iter().map(|task| task.entries).sum();
    let bytes: u64 = report.tasks.iter().map(|task| task.state_bytes).sum();
    print::line(&format!(
        "job {} goes on in table {} with {} tasks, {entries} entries of {}; start it with `pelton run`",
        report.job,
        report.table,
        report.tasks.len(),
        print::size(bytes),
    ))
}
