//! `pelton plan`: where keys and shards go. A matter of arithmetic over the job's task count and the shards that are
//! listed, so it needs no running host.

use anyhow::{Context as _, anyhow};
use clap::Args;
use pelton_api::model::job::JobView;
use pelton_api::model::shard::ShardList;
use pelton_api::model::task::RangeView;
use pelton_core::id::TaskId;
use pelton_core::slice::{HashKey, HashRange, TaskCount};
use serde::Serialize;

use crate::aws::{self, AwsArgs};
use crate::client::{HostArgs, HostClient};
use crate::config;
use crate::exit::{Outcome, usage};
use crate::print::{self, Table};

/// Show which task owns a key, and which shards feed it.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The job.
    pub job: String,
    /// Show only the task that owns this partition key.
    #[arg(long, value_name = "K", conflicts_with = "task")]
    pub key: Option<String>,
    /// Show only this task.
    #[arg(long, value_name = "N")]
    pub task: Option<u16>,
    /// Ask a running host instead of the configuration and Kinesis.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// A file with the token of that host.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub token_file: Option<std::path::PathBuf>,
    /// Where Kinesis is.
    #[command(flatten)]
    pub aws: AwsArgs,
}

/// A shard, and the tasks that it feeds.
#[derive(Debug, Serialize)]
struct ShardPlan {
    stream: String,
    shard: String,
    range: RangeView,
    closed: bool,
    home: u16,
    first_task: u16,
    last_task: u16,
}

/// One task.
#[derive(Debug, Serialize)]
struct TaskPlan {
    task: u16,
    slice: RangeView,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

/// What is asked for.
#[derive(Debug, Serialize)]
struct Plan {
    job: String,
    tasks: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskPlan>,
    shards: Vec<ShardPlan>,
}

/// A shard before it is known whom it feeds.
struct Listed {
    stream: String,
    shard: String,
    range: HashRange,
    closed: bool,
}

/// Works it out.
///
/// # Errors
/// When the job is not known or its shards cannot be listed.
pub async fn run(args: &PlanArgs, json: bool) -> anyhow::Result<Outcome> {
    let (tasks, listed) = match &args.url {
        Some(_) => from_host(args).await?,
        None => from_kinesis(args).await?,
    };
    let hash = args.key.as_deref().map(HashKey::of);
    let task = match (hash, args.task) {
        (Some(hash), _) => Some(tasks.task_of(hash)),
        (None, Some(task)) if u32::from(task) < tasks.get() => Some(TaskId(task)),
        (None, Some(task)) => return Err(usage(format!("--task {task}: job {} has {} tasks", args.job, tasks.get()))),
        (None, None) => None,
    };
    let slice = task.map_or(HashRange::ALL, |task| tasks.slice(task));
    let shards = listed.into_iter().filter(|shard| shard.range.touches(&slice)).map(|shard| plan(tasks, shard));
    let task = task.map(|task| TaskPlan {
        task: task.0,
        slice: slice.into(),
        key: args.key.clone(),
        hash: hash.map(|hash| format!("{:032x}", hash.0)),
    });
    let plan = Plan { job: args.job.clone(), tasks: tasks.get(), task, shards: shards.collect() };
    if json {
        print::json(&plan)?
    } else {
        print(&plan)?
    }
    Ok(Outcome::Done)
}

fn plan(tasks: TaskCount, shard: Listed) -> ShardPlan {
    let (first, last) = (tasks.task_of(shard.range.start), tasks.task_of(shard.range.end));
    ShardPlan {
        stream: shard.stream,
        shard: shard.shard,
        range: shard.range.into(),
        closed: shard.closed,
        home: first.0,
        first_task: first.0,
        last_task: last.0,
    }
}

fn print(plan: &Plan) -> anyhow::Result<()> {
    match &plan.task {
        Some(task) => {
            if let (Some(key), Some(hash)) = (&task.key, &task.hash) {
                print::line(&format!("key    {key}\nhash   {hash}"))?;
            }
            print::line(&format!("task   {} of {} ({})", task.task, plan.tasks, plan.job))?;
            print::line(&format!("slice  {} to {}\n", task.slice.start, task.slice.end))?;
        }
        None => print::line(&format!("job {} has {} tasks\n", plan.job, plan.tasks))?,
    }
    let mut table = Table::new(&["STREAM", "SHARD", "STATE", "FEEDS", "HOME", "RANGE"]);
    for shard in &plan.shards {
        table.row([
            shard.stream.clone(),
            shard.shard.clone(),
            if shard.closed { "closed" } else { "open" }.into(),
            if shard.first_task == shard.last_task {
                shard.first_task.to_string()
            } else {
                format!("{}-{}", shard.first_task, shard.last_task)
            },
            shard.home.to_string(),
            format!("{} to {}", shard.range.start, shard.range.end),
        ]);
    }
    table.print()
}

async fn from_host(args: &PlanArgs) -> anyhow::Result<(TaskCount, Vec<Listed>)> {
    let host = HostArgs { url: args.url.clone(), token_file: args.token_file.clone(), config: args.aws.config.clone() };
    let host = HostClient::new(&host)?;
    let job: JobView = host.get(&["v1", "jobs", &args.job], &[]).await?;
    let shards = host.list::<ShardList>(&["v1", "jobs", &args.job, "shards"], usize::MAX).await?;
    let tasks = TaskCount::new(job.tasks).context("the host answers with an impossible number of tasks")?;
    let listed = shards.into_iter().map(|shard| {
        let bound =
            |text: &str| u128::from_str_radix(text, 16).map(HashKey).context("the host answers with no hash key");
        let range = HashRange { start: bound(&shard.range.start)?, end: bound(&shard.range.end)? };
        Ok(Listed { stream: shard.stream, shard: shard.shard, range, closed: shard.closed })
    });
    Ok((tasks, listed.collect::<anyhow::Result<_>>()?))
}

async fn from_kinesis(args: &PlanArgs) -> anyhow::Result<(TaskCount, Vec<Listed>)> {
    let none =
        || usage(format!("no {} here; name a configuration with -c, or a host with --url", config::DEFAULT_FILE));
    let config = config::load_if_any(args.aws.config.config.as_deref())?.ok_or_else(none)?;
    let job = config.jobs.get(&args.job).ok_or_else(|| {
        let known: Vec<&str> = config.jobs.keys().map(String::as_str).collect();
        usage(format!("{} has no job {:?}; it has: {}", config.file.display(), args.job, known.join(", ")))
    })?;
    let settings = aws::settings(&args.aws)?;
    let kinesis = pelton_aws::connect(&settings).await.kinesis;
    let mut listed = Vec::new();
    for stream in &job.inputs {
        let shards = aws::list_shards(&kinesis, stream).await;
        let shards = shards.with_context(|| format!("asking Kinesis ({})", aws::place(&settings)))?;
        for shard in shards {
            let range = shard.hash_key_range.with_context(|| format!("{} has no hash range", shard.shard_id))?;
            let bound = |text: &str| text.parse().map(HashKey).map_err(|_| anyhow!("{text:?} is not a hash key"));
            let range = HashRange { start: bound(&range.starting_hash_key)?, end: bound(&range.ending_hash_key)? };
            let closed = shard.sequence_number_range.is_some_and(|range| range.ending_sequence_number.is_some());
            listed.push(Listed { stream: stream.clone(), shard: shard.shard_id, range, closed });
        }
    }
    Ok((job.tasks, listed))
}
