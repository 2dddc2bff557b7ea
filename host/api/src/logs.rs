//! What the guests of a job say on this host, by task, deployment and level.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use pelton_core::id::TaskId;
use pelton_engine::Job;
use pelton_engine::guest::{GuestLine, LineLevel};

use crate::context::Context;
use crate::document::LogProblems;
use crate::jobs::task_of;
use crate::model::log::{LevelView, LineView};
use crate::parameters::Parameters;
use crate::problem::{Kind, Refusal};
use crate::sent::{Reader, json};

/// Lines that come first where a reader does not say how many.
const TAIL: usize = 100;
/// The parameters.
const KNOWN: [&str; 5] = ["task", "deployment", "level", "tail", "follow"];

/// Which lines a reader wants.
#[derive(Clone, Copy, Debug)]
struct Filter {
    task: Option<TaskId>,
    deployment: Option<u64>,
    level: LineLevel,
}

impl Filter {
    fn of(job: &Job, parameters: &Parameters) -> Result<Self, Refusal> {
        let level = parameters.text("level").map(|text| {
            LevelView::named(text).ok_or_else(|| {
                let detail = format!("parameter level is {text:?}; expected one of {}", LevelView::names());
                Refusal::new(Kind::InvalidParameter, detail)
            })
        });
        Ok(Self {
            task: parameters.text("task").map(|text| task_of(job, text)).transpose()?,
            deployment: parameters.whole("deployment")?,
            level: level.transpose()?.map_or(LineLevel::Trace, LineLevel::from),
        })
    }

    fn wants(&self, line: &GuestLine) -> bool {
        self.task.is_none_or(|task| line.task == task)
            && self.deployment.is_none_or(|deployment| line.deployment.0 == deployment)
            && line.level >= self.level
    }
}

/// What the guests of a job say on this host.
///
/// Server-sent events, as those of `/v1/events` are: the data of each `line` is a `LineView`. Lines come through `wasi:logging`,
/// standard output and standard error; the host adds what it refused, calls that failed, and what it left out, for a deployment's `log-lines` bounds
/// the lines of a task in a second. The newest 4 MiB of a job are kept.
#[utoipa::path(
    get,
    path = "/v1/jobs/{job}/logs",
    operation_id = "readLogs",
    tag = "jobs",
    params(
        ("job" = String, Path, description = "Name of the job"),
        ("task" = Option<u16>, Query, description = "Lines of this task only"),
        ("deployment" = Option<u64>, Query, description = "Lines of this deployment only"),
        ("level" = Option<LevelView>, Query, description = "Lines that matter so much at least"),
        ("tail" = Option<usize>, Query, description = "So many of the lines that are kept come first [default: 100]"),
        ("follow" = Option<bool>, Query, description = "Stays for the lines to come [default: false]"),
        ("Last-Event-ID" = Option<String>, Header, description = "Goes on after this one, in place of `tail`")
    ),
    responses(
        (status = 200, description = "Lines", body = String, content_type = "text/event-stream"),
        LogProblems
    )
)]
pub async fn read(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let parameters = Parameters::read(query.as_deref(), &KNOWN)?;
    let job = context.job(&name)?;
    let (filter, follows) = (Filter::of(&job, &parameters)?, parameters.flag("follow")?);
    let tail = parameters.whole("tail")?.unwrap_or(TAIL);
    let lines = job.lines();
    let kept = lines.after(0, usize::MAX).items;
    let wanted = kept.iter().rev().filter(|(_, line)| filter.wants(line));
    // Behind what comes before the first of them.
    let newest = kept.last().map_or(0, |(number, _)| *number);
    let begin = wanted.take(tail).last().map_or(newest, |(number, _)| number - 1);
    let show = move |line: GuestLine| filter.wants(&line).then(|| ("line", json(&LineView::from(line))));
    let reader = Reader::new(lines.clone(), &context.host.id, show).after(begin);
    let reader = if follows { reader } else { reader.until_now() };
    Ok(reader.resumed(&headers).answer())
}
