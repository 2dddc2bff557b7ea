//! Jobs, their tasks and their shards.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use pelton_core::id::{ShardId, TaskId};
use pelton_engine::Job;

use crate::context::Context;
use crate::document::{HostProblems, JobProblems, TaskProblems};
use crate::model::job::{JobList, JobView};
use crate::model::shard::ShardList;
use crate::model::task::{TaskList, TaskView};
use crate::paging::{ListLimit, cut};
use crate::parameters::Parameters;
use crate::problem::{Kind, Refusal};

/// The task that a path names.
pub(crate) fn task_of(job: &Job, text: &str) -> Result<TaskId, Refusal> {
    let count = job.spec().meta.tasks.get();
    let task = text.parse::<u32>().map_err(|_| {
        Refusal::new(Kind::InvalidParameter, format!("task {text:?} is not a number from 0 to {}", count - 1))
    })?;
    let known = u16::try_from(task).ok().filter(|_| task < count);
    known.map(TaskId).ok_or_else(|| {
        let name = &job.spec().meta.name;
        Refusal::new(Kind::UnknownTask, format!("job {name} has {count} tasks, 0 to {}; there is no {task}", count - 1))
    })
}

fn view(job: &Job) -> JobView {
    JobView::new(job.spec(), job.rollout(), &job.tasks())
}

pub(crate) fn streams(job: &Job) -> Vec<String> {
    job.spec().meta.inputs.iter().map(|input| input.name.clone()).collect()
}

/// The jobs of this host, by name.
#[utoipa::path(
    get,
    path = "/v1/jobs",
    operation_id = "listJobs",
    tag = "jobs",
    params(
        ListLimit,
        ("start" = Option<String>, Query, description = "The first job of the page")
    ),
    responses(
        (status = 200, description = "A page of jobs", body = JobList),
        HostProblems
    )
)]
pub async fn list(State(context): State<Arc<Context>>, RawQuery(query): RawQuery) -> Result<Json<JobList>, Refusal> {
    let parameters = Parameters::read(query.as_deref(), &["limit", "start"])?;
    let limit = ListLimit::of(&parameters)?;
    let start = parameters.text("start").unwrap_or_default();
    let jobs = context.jobs().into_iter().filter(|job| job.spec().meta.name.as_str() >= start);
    let (jobs, next) = cut(jobs, limit);
    let next = next.map(|job| job.spec().meta.name.clone());
    Ok(Json(JobList { jobs: jobs.iter().map(|job| view(job)).collect(), next }))
}

/// One job.
#[utoipa::path(
    get,
    path = "/v1/jobs/{job}",
    operation_id = "getJob",
    tag = "jobs",
    params(
        ("job" = String, Path, description = "Name of the job")
    ),
    responses(
        (status = 200, description = "The job", body = JobView),
        JobProblems
    )
)]
pub async fn show(
    State(context): State<Arc<Context>>,
    Path(job): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<JobView>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    Ok(Json(view(&*context.job(&job)?)))
}

/// The tasks of a job, in order.
#[utoipa::path(
    get,
    path = "/v1/jobs/{job}/tasks",
    operation_id = "listTasks",
    tag = "jobs",
    params(
        ("job" = String, Path, description = "Name of the job"),
        ListLimit,
        ("start" = Option<u16>, Query, description = "The first task of the page")
    ),
    responses(
        (status = 200, description = "A page of tasks", body = TaskList),
        TaskProblems
    )
)]
pub async fn tasks(
    State(context): State<Arc<Context>>,
    Path(job): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<TaskList>, Refusal> {
    let parameters = Parameters::read(query.as_deref(), &["limit", "start"])?;
    let job = context.job(&job)?;
    let limit = ListLimit::of(&parameters)?;
    let start = parameters.text("start").map_or(Ok(TaskId(0)), |start| task_of(&job, start))?;
    let streams = streams(&job);
    let (tasks, next) = cut(job.tasks().into_iter().filter(|task| task.task >= start), limit);
    let next = next.map(|task| task.task.to_string());
    Ok(Json(TaskList { tasks: tasks.into_iter().map(|task| TaskView::new(task, &streams)).collect(), next }))
}

/// One task.
#[utoipa::path(
    get,
    path = "/v1/jobs/{job}/tasks/{task}",
    operation_id = "getTask",
    tag = "jobs",
    params(
        ("job" = String, Path, description = "Name of the job"),
        ("task" = u16, Path, description = "The task, from 0")
    ),
    responses(
        (status = 200, description = "The task", body = TaskView),
        TaskProblems
    )
)]
pub async fn task(
    State(context): State<Arc<Context>>,
    Path((job, task)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<TaskView>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let job = context.job(&job)?;
    let task = task_of(&job, &task)?;
    let status = job.task(task).ok_or_else(|| Refusal::new(Kind::UnknownTask, format!("there is no task {task}")))?;
    Ok(Json(TaskView::new(status, &streams(&job))))
}

/// The shards of a job's inputs, by stream and id.
#[utoipa::path(
    get,
    path = "/v1/jobs/{job}/shards",
    operation_id = "listShards",
    tag = "jobs",
    params(
        ("job" = String, Path, description = "Name of the job"),
        ListLimit,
        ("start" = Option<String>, Query, description = "The first shard of the page, as STREAM/SHARD")
    ),
    responses(
        (status = 200, description = "A page of shards", body = ShardList),
        JobProblems
    )
)]
pub async fn shards(
    State(context): State<Arc<Context>>,
    Path(job): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<ShardList>, Refusal> {
    let parameters = Parameters::read(query.as_deref(), &["limit", "start"])?;
    let job = context.job(&job)?;
    let limit = ListLimit::of(&parameters)?;
    let streams = streams(&job);
    let index = |name: &str| streams.iter().position(|stream| stream == name);
    let start = parameters.text("start").map(|start| {
        let (stream, shard) = start.split_once('/').unwrap_or((start, ""));
        let detail = || format!("parameter start is {start:?}; expected STREAM/SHARD, with a stream of this job");
        let stream = index(stream).ok_or_else(|| Refusal::new(Kind::InvalidParameter, detail()))?;
        Ok::<_, Refusal>((stream, ShardId::from(shard)))
    });
    let start = start.transpose()?;
    let shards = job.shards().into_iter().filter(|shard| match &start {
        Some((stream, id)) => (index(&shard.stream), &shard.shard) >= (Some(*stream), id),
        None => true,
    });
    let (shards, next) = cut(shards, limit);
    let next = next.map(|shard| format!("{}/{}", shard.stream, shard.shard));
    Ok(Json(ShardList { shards: shards.into_iter().map(Into::into).collect(), next }))
}
