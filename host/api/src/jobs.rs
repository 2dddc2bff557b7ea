//! Jobs, their tasks and their shards.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use pelton_core::id::TaskId;
use pelton_engine::Job;

use crate::context::Context;
use crate::model::job::{JobList, JobView};
use crate::model::shard::ShardList;
use crate::model::task::{TaskList, TaskView};
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
    JobView::new(job.spec(), &job.tasks())
}

pub(crate) fn streams(job: &Job) -> Vec<String> {
    job.spec().meta.inputs.iter().map(|input| input.name.clone()).collect()
}

/// `GET /v1/jobs`
pub async fn list(State(context): State<Arc<Context>>, RawQuery(query): RawQuery) -> Result<Json<JobList>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    Ok(Json(JobList { jobs: context.jobs().iter().map(|job| view(job)).collect() }))
}

/// `GET /v1/jobs/{job}`
pub async fn show(
    State(context): State<Arc<Context>>,
    Path(job): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<JobView>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    Ok(Json(view(&*context.job(&job)?)))
}

/// `GET /v1/jobs/{job}/tasks`
pub async fn tasks(
    State(context): State<Arc<Context>>,
    Path(job): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<TaskList>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let job = context.job(&job)?;
    let streams = streams(&job);
    Ok(Json(TaskList { tasks: job.tasks().into_iter().map(|task| TaskView::new(task, &streams)).collect() }))
}

/// `GET /v1/jobs/{job}/tasks/{task}`
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

/// `GET /v1/jobs/{job}/shards`
pub async fn shards(
    State(context): State<Arc<Context>>,
    Path(job): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<ShardList>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let job = context.job(&job)?;
    Ok(Json(ShardList { shards: job.shards().into_iter().map(Into::into).collect() }))
}
