//! Committed state, read from the local copy of a task that runs here. Reading blocks, so it happens on threads made
//! for that, and a page is bounded by entries and by bytes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use pelton_core::id::TaskId;
use pelton_core::slice::HashKey;
use pelton_engine::Job;
use pelton_engine::status::StateReadError;

use crate::context::Context;
use crate::document::{KeyProblems, StateProblems};
use crate::jobs::task_of;
use crate::model::state::{EntryView, StatePage, ValueView};
use crate::paging::DataLimit;
use crate::parameters::Parameters;
use crate::problem::{Kind, Refusal};

/// A page takes no further entry past this many bytes.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Entries read at a time, so that large values are not all in memory before their size is known.
const STEP_ENTRIES: usize = 64;

/// A page's entries, and the key at which the next page starts.
type Page = (Vec<EntryView>, Option<Vec<u8>>);

pub(crate) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StateReadError> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Refusal::new(Kind::Internal, format!("reading the state failed: {error}"))),
    }
}

/// The committed value of a key, from the task that owns a partition key.
#[utoipa::path(
    get,
    path = "/v1/jobs/{job}/state",
    operation_id = "getState",
    tag = "state",
    params(
        ("job" = String, Path, description = "Name of the job"),
        ("partition-key" = String, Query, description = "The partition key whose task has the key"),
        ("key" = Option<String>, Query, description = "The key, where it is text"),
        ("key-base64" = Option<String>, Query, description = "The key as base64")
    ),
    responses(
        (status = 200, description = "The key and its value", body = ValueView),
        KeyProblems
    )
)]
pub async fn get(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<ValueView>, Refusal> {
    let parameters = Parameters::read(query.as_deref(), &["partition-key", "key", "key-base64"])?;
    let job = context.job(&name)?;
    let partition_key = parameters.required("partition-key")?;
    let key = parameters.bytes("key")?;
    let key = key.ok_or_else(|| Refusal::new(Kind::InvalidParameter, "parameter key (or key-base64) is missing"))?;
    let task = job.spec().meta.tasks.task_of(HashKey::of(partition_key));
    let (reader, wanted) = (job.clone(), key.clone());
    let value = blocking(move || reader.state_get(task, &wanted)).await?;
    let value = value.ok_or_else(|| {
        let key = String::from_utf8_lossy(&key);
        let detail = format!("task {task} of job {name}, which owns {partition_key:?}, has no key {key:?}");
        Refusal::new(Kind::UnknownKey, detail)
    })?;
    Ok(Json(ValueView { job: name, task: task.0, entry: EntryView::new(&key, &value) }))
}

/// The committed keys and values of a task, in key order.
#[utoipa::path(
    get,
    path = "/v1/jobs/{job}/tasks/{task}/state",
    operation_id = "scanState",
    tag = "state",
    params(
        ("job" = String, Path, description = "Name of the job"),
        ("task" = u16, Path, description = "The task, from 0"),
        DataLimit,
        ("start" = Option<String>, Query, description = "The first key of the page, where it is text"),
        ("start-base64" = Option<String>, Query, description = "The first key of the page as base64")
    ),
    responses(
        (status = 200, description = "A page of keys and values", body = StatePage),
        StateProblems
    )
)]
pub async fn scan(
    State(context): State<Arc<Context>>,
    Path((name, task)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<StatePage>, Refusal> {
    let parameters = Parameters::read(query.as_deref(), &["limit", "start", "start-base64"])?;
    let job = context.job(&name)?;
    let task = task_of(&job, &task)?;
    let limit = DataLimit::of(&parameters)?;
    let start = parameters.bytes("start")?.unwrap_or_default();
    let (entries, next) = blocking(move || page(&job, task, start, limit)).await?;
    Ok(Json(StatePage::new(&name, task.0, entries, next.as_deref())))
}

fn page(job: &Job, task: TaskId, mut start: Vec<u8>, limit: usize) -> Result<Page, StateReadError> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    loop {
        let step = STEP_ENTRIES.min(limit + 1 - entries.len());
        let read = job.state_scan(task, &start, step)?;
        let last = read.len() < step;
        for (key, value) in read {
            if entries.len() == limit || bytes >= PAGE_BYTES {
                return Ok((entries, Some(key.to_vec())));
            }
            bytes += key.len() + value.len();
            entries.push(EntryView::new(&key, &value));
            start.clear();
            start.extend_from_slice(&key);
            // The least key after this one.
            start.push(0);
        }
        if last {
            return Ok((entries, None));
        }
    }
}
