//! Dead letters: what tasks set aside, given to the logic after all or forgotten.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use pelton_core::dead_letter::{Content, DeadLetter};
use pelton_core::id::TaskId;
use pelton_engine::Job;
use pelton_engine::status::StateReadError;

use crate::context::Context;
use crate::document::{LetterProblems, RedriveProblems, TaskProblems};
use crate::jobs::{streams, task_of};
use crate::model::dead_letter::{LetterAsked, LetterPage, LetterView};
use crate::paging::DataLimit;
use crate::parameters::Parameters;
use crate::problem::{Kind, Refusal};
use crate::state::blocking;

/// A page takes no further letter past this many bytes of data.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Letters read at a time.
const STEP_LETTERS: usize = 16;

/// The dead letters of a job, by task and number.
#[utoipa::path(
    get,
    path = "/v1/jobs/{job}/dead-letters",
    operation_id = "listDeadLetters",
    tag = "dead letters",
    params(
        ("job" = String, Path, description = "Name of the job"),
        DataLimit,
        ("start" = Option<String>, Query, description = "The first dead letter of the page, as TASK/NUMBER")
    ),
    responses(
        (status = 200, description = "A page of dead letters", body = LetterPage),
        TaskProblems
    )
)]
pub async fn list(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<LetterPage>, Refusal> {
    let parameters = Parameters::read(query.as_deref(), &["limit", "start"])?;
    let job = context.job(&name)?;
    let limit = DataLimit::of(&parameters)?;
    let start = parameters.text("start").unwrap_or("0/0");
    let (task, number) = start.split_once('/').unwrap_or((start, "0"));
    let start = (task_of(&job, task)?, number_of(number)?);
    let (letters, next) = blocking(move || page(&job, start, limit)).await?;
    let next = next.map(|(task, number)| format!("{task}/{number}"));
    Ok(Json(LetterPage { job: name, letters, next }))
}

type Page = (Vec<LetterView>, Option<(TaskId, u64)>);

fn page(job: &Job, start: (TaskId, u64), limit: usize) -> Result<Page, StateReadError> {
    let streams = streams(job);
    let mut letters = Vec::new();
    let mut bytes = 0;
    for task in job.spec().meta.tasks.tasks().filter(|task| *task >= start.0) {
        let mut from = if task == start.0 { start.1 } else { 0 };
        loop {
            let read = match job.dead_letters(task, from, STEP_LETTERS) {
                // A task that does not run here has its letters elsewhere.
                Err(StateReadError::NotRunning(_)) => break,
                read => read?,
            };
            let last = read.len() < STEP_LETTERS;
            for (number, letter) in read {
                if letters.len() == limit || bytes >= PAGE_BYTES {
                    return Ok((letters, Some((task, number))));
                }
                if let Content::Record(_, record) = &letter.content {
                    bytes += record.data.len();
                }
                letters.push(LetterView::new(task, number, &letter, &streams));
                from = number + 1;
            }
            if last {
                break;
            }
        }
    }
    Ok((letters, None))
}

/// One dead letter.
#[utoipa::path(
    get,
    path = "/v1/jobs/{job}/dead-letters/{task}/{number}",
    operation_id = "getDeadLetter",
    tag = "dead letters",
    params(
        ("job" = String, Path, description = "Name of the job"),
        ("task" = u16, Path, description = "The task, from 0"),
        ("number" = u64, Path, description = "The number of the dead letter in its task")
    ),
    responses(
        (status = 200, description = "The dead letter", body = LetterView),
        LetterProblems
    )
)]
pub async fn show(
    State(context): State<Arc<Context>>,
    Path((name, task, number)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<LetterView>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let job = context.job(&name)?;
    let (task, number) = (task_of(&job, &task)?, number_of(&number)?);
    let letter = found(&job, task, number).await?;
    Ok(Json(LetterView::new(task, number, &letter, &streams(&job))))
}

/// Gives a dead letter to the logic after all.
///
/// Soon, and once: when it is folded, the dead letter is gone; when the logic fails with it again, it has one attempt more.
#[utoipa::path(
    post,
    path = "/v1/jobs/{job}/dead-letters/{task}/{number}/redrive",
    operation_id = "redriveDeadLetter",
    tag = "dead letters",
    params(
        ("job" = String, Path, description = "Name of the job"),
        ("task" = u16, Path, description = "The task, from 0"),
        ("number" = u64, Path, description = "The number of the dead letter in its task")
    ),
    responses(
        (status = 202, description = "The task was asked", body = LetterAsked),
        RedriveProblems
    )
)]
pub async fn redrive(
    State(context): State<Arc<Context>>,
    Path((name, task, number)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<(StatusCode, Json<LetterAsked>), Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let job = context.job(&name)?;
    let (task, number) = (task_of(&job, &task)?, number_of(&number)?);
    let letter = found(&job, task, number).await?;
    if matches!(letter.content, Content::Gap { .. }) {
        let detail = format!("dead letter {task}/{number} is a gap: its records are gone, so it can only be dropped");
        return Err(Refusal::new(Kind::Conflict, detail));
    }
    if !blocking(move || job.redrive(task, number)).await? {
        return Err(unknown(task, number));
    }
    Ok((StatusCode::ACCEPTED, Json(LetterAsked { task: task.0, number })))
}

/// Forgets a dead letter, with what is in it: soon.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{job}/dead-letters/{task}/{number}",
    operation_id = "forgetDeadLetter",
    tag = "dead letters",
    params(
        ("job" = String, Path, description = "Name of the job"),
        ("task" = u16, Path, description = "The task, from 0"),
        ("number" = u64, Path, description = "The number of the dead letter in its task")
    ),
    responses(
        (status = 202, description = "The task was asked", body = LetterAsked),
        LetterProblems
    )
)]
pub async fn forget(
    State(context): State<Arc<Context>>,
    Path((name, task, number)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<(StatusCode, Json<LetterAsked>), Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let job = context.job(&name)?;
    let (task, number) = (task_of(&job, &task)?, number_of(&number)?);
    if !blocking(move || job.forget_dead_letter(task, number)).await? {
        return Err(unknown(task, number));
    }
    Ok((StatusCode::ACCEPTED, Json(LetterAsked { task: task.0, number })))
}

async fn found(job: &Arc<Job>, task: TaskId, number: u64) -> Result<DeadLetter, Refusal> {
    let reader = job.clone();
    blocking(move || reader.dead_letter(task, number)).await?.ok_or_else(|| unknown(task, number))
}

fn unknown(task: TaskId, number: u64) -> Refusal {
    Refusal::new(Kind::UnknownLetter, format!("task {task} has no dead letter {number}, or no longer"))
}

fn number_of(text: &str) -> Result<u64, Refusal> {
    let invalid = |_| Refusal::new(Kind::InvalidParameter, format!("{text:?} is not the number of a dead letter"));
    text.parse().map_err(invalid)
}
