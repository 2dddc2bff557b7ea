//! `pelton status`: the jobs of a running host, with the tasks that stopped and the shards that feed them.

use clap::Args;
use pelton_api::model::job::{JobList, JobView};
use pelton_api::model::shard::{ShardList, ShardView};
use pelton_api::model::task::{PhaseView, TaskList, TaskView};
use serde::Serialize;

use crate::client::{HostArgs, HostClient};
use crate::exit::Outcome;
use crate::print::{self, Table};

/// Most tasks in trouble that are told one by one.
const TROUBLED_TOLD_MAX: usize = 20;

/// Show the jobs, tasks and shards of a running host. Exits with 1 when a task is stopped.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which host.
    #[command(flatten)]
    pub host: HostArgs,
}

/// Everything about a job.
#[derive(Debug, Serialize)]
struct JobStatus {
    #[serde(flatten)]
    job: JobView,
    task_list: Vec<TaskView>,
    shards: Vec<ShardView>,
}

/// Everything about a host.
#[derive(Debug, Serialize)]
struct HostStatus {
    jobs: Vec<JobStatus>,
}

/// Asks, and tells.
///
/// # Errors
/// When the host does not answer.
pub async fn run(args: &StatusArgs, json: bool) -> anyhow::Result<Outcome> {
    let host = HostClient::new(&args.host)?;
    let mut jobs = Vec::new();
    for job in host.list::<JobList>(&["v1", "jobs"], usize::MAX).await? {
        let task_list = host.list::<TaskList>(&["v1", "jobs", &job.job, "tasks"], usize::MAX).await?;
        let shards = host.list::<ShardList>(&["v1", "jobs", &job.job, "shards"], usize::MAX).await?;
        jobs.push(JobStatus { job, task_list, shards });
    }
    let stopped = jobs.iter().flat_map(|job| &job.task_list).any(|task| task.phase == PhaseView::Stopped);
    if json {
        print::json(&HostStatus { jobs })?;
    } else {
        print(&jobs)?;
    }
    Ok(if stopped { Outcome::Failed } else { Outcome::Done })
}

fn print(jobs: &[JobStatus]) -> anyhow::Result<()> {
    if jobs.is_empty() {
        eprintln!("the host has not started any job yet");
        return Ok(());
    }
    let headings = [
        "JOB",
        "TASKS",
        "RUNNING",
        "STARTING",
        "STOPPED",
        "FOLDED",
        "FAILED",
        "PUBLISHED",
        "PENDING",
        "MAILBOX",
        "LAG",
    ];
    let mut table = Table::new(&headings);
    for JobStatus { job, .. } in jobs {
        let phases = job.phases;
        table.row([
            job.job.clone(),
            job.tasks.to_string(),
            (phases.running + phases.draining).to_string(),
            (phases.claiming + phases.restoring).to_string(),
            phases.stopped.to_string(),
            job.records_folded.to_string(),
            job.failed_batches.to_string(),
            job.outputs_published.to_string(),
            job.outputs_pending.to_string(),
            format!("{} ({})", job.mailbox_records, print::size(job.mailbox_bytes)),
            print::ago(job.lag_ms),
        ]);
    }
    table.print()?;
    for job in jobs {
        print_shards(job)?;
        print_troubled(job)?;
    }
    Ok(())
}

fn print_shards(job: &JobStatus) -> anyhow::Result<()> {
    print::line(&format!("\nshards of {}", job.job.job))?;
    let mut table = Table::new(&["STREAM", "SHARD", "STATE", "HOME", "FEEDS", "BY", "BEHIND", "READ", "TROUBLE"]);
    for shard in &job.shards {
        table.row([
            shard.stream.clone(),
            shard.shard.clone(),
            if shard.closed { "closed" } else { "open" }.into(),
            shard.home.to_string(),
            print::ranges(&shard.feeds),
            shard.consumer.to_string(),
            print::ago(shard.behind_ms),
            shard.records_read.to_string(),
            shard.error.clone().or_else(|| shard.fan_out_refused.clone()).unwrap_or_else(|| "-".into()),
        ]);
    }
    table.print()
}

fn print_troubled(job: &JobStatus) -> anyhow::Result<()> {
    let troubled: Vec<(&TaskView, &String)> =
        job.task_list.iter().filter_map(|task| Some((task, task.cause.as_ref()?))).collect();
    if troubled.is_empty() {
        return Ok(());
    }
    print::line(&format!("\ntasks of {} that stopped or are failing", job.job.job))?;
    let mut table = Table::new(&["TASK", "PHASE", "CAUSE"]);
    for (task, cause) in troubled.iter().take(TROUBLED_TOLD_MAX) {
        table.row([task.task.to_string(), format!("{:?}", task.phase).to_lowercase(), (*cause).clone()]);
    }
    table.print()?;
    match troubled.len().saturating_sub(TROUBLED_TOLD_MAX) {
        0 => Ok(()),
        more => print::line(&format!("and {more} more; --json shows all")),
    }
}
