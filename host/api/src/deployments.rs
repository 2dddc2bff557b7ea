//! Deployments: made, listed, promoted and gone back from.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use pelton_core::id::{DeploymentNumber, TaskId};
use pelton_core::rollout::{CanaryRule, some_tasks};
use pelton_core::task::RefoldedOutputs;
use pelton_engine::guest::GuestFault;
use pelton_engine::{Audience, DeployError, DeploymentContent, Grants, GuestLimits, Job};

use crate::components::digest_of;
use crate::context::Context;
use crate::document::{DeployProblems, DeploymentProblems, RolloutProblems};
use crate::model::deployment::{
    CanaryRequest, DeploymentList, DeploymentRequest, DeploymentView, GrantsRequest, OutputsView, RolloutView,
};
use crate::paging::{ListLimit, cut};
use crate::parameters::Parameters;
use crate::problem::{Kind, Refusal};

/// Longest body of a request for a deployment: it is kept as one item of DynamoDB, which may have 400 KB, beside what is granted.
pub const DEPLOYMENT_BYTES_MAX: usize = 256 * 1024;
/// Most failed calls that a canary may be borne with.
const FAILURES_MAX: u32 = 1_000;
/// Most that a canary's records may take longer: a hundred times as long.
const SLOWER_PERCENT_MAX: u32 = 10_000;

impl From<DeployError> for Refusal {
    fn from(error: DeployError) -> Self {
        let kind = match error {
            DeployError::Port(error) => return error.into(),
            DeployError::NoComponent(_) => Kind::UnknownComponent,
            DeployError::Component(_, ref error) => Kind::of_component(error),
            DeployError::Init { fault: GuestFault::NoRoom(_), .. } => Kind::NotReady,
            DeployError::Init { .. } | DeployError::Slow { .. } | DeployError::FiresNoTimers { .. } => {
                Kind::InvalidDeployment
            }
            DeployError::NoDeployment(_) => Kind::UnknownDeployment,
            DeployError::NotBrought(_) => Kind::ServiceUnavailable,
            DeployError::NoTask | DeployError::TimersUnknown { .. } => Kind::NotReady,
            DeployError::OutputsUnsaid => Kind::InvalidParameter,
            DeployError::TaskAway(_) => Kind::NotReady,
            DeployError::NoCanary
            | DeployError::NoShadow
            | DeployError::Occupied(_)
            | DeployError::NoPrevious
            | DeployError::NotTried(_)
            | DeployError::NeverLeft(_)
            | DeployError::NothingLeft
            | DeployError::NothingUndone
            | DeployError::OutOfReach { .. }
            | DeployError::TaskElsewhere(_)
            | DeployError::TimersUnread { .. }
            | DeployError::Contended => Kind::Conflict,
        };
        Self::new(kind, error.to_string())
    }
}

fn invalid(detail: String) -> Refusal {
    Refusal::new(Kind::InvalidBody, detail)
}

fn audience(job: &Job, request: &CanaryRequest) -> Result<Audience, Refusal> {
    let count = job.spec().meta.tasks;
    let tasks: BTreeSet<TaskId> = match (request.percent, &request.tasks) {
        (Some(percent @ 1..=100), None) => some_tasks(count, percent),
        (Some(percent), None) => return Err(invalid(format!("canary.percent is {percent}; from 1 to 100"))),
        (None, Some(tasks)) if !tasks.is_empty() => tasks.iter().copied().map(TaskId).collect(),
        _ => return Err(invalid("canary has either a percent or tasks, one at least".into())),
    };
    if let Some(unknown) = tasks.iter().find(|task| u32::from(task.0) >= count.get()) {
        return Err(invalid(format!("canary.tasks has {unknown}; the job has tasks 0 to {}", count.get() - 1)));
    }
    let CanaryRequest { failures_max, errors_percent, slower_percent, .. } = *request;
    if !(1..=FAILURES_MAX).contains(&failures_max) {
        return Err(invalid(format!("canary.failures_max is {failures_max}; from 1 to {FAILURES_MAX}")));
    }
    for (name, percent, max) in
        [("errors_percent", errors_percent, 100), ("slower_percent", slower_percent, SLOWER_PERCENT_MAX)]
    {
        if let Some(percent) = percent.filter(|percent| !(1..=max).contains(percent)) {
            return Err(invalid(format!("canary.{name} is {percent}; from 1 to {max}")));
        }
    }
    if slower_percent.is_some() && tasks.len() as u32 == count.get() {
        return Err(invalid(
            "canary.slower_percent compares with the other tasks, and a canary of all leaves none".into(),
        ));
    }
    let rule = CanaryRule { failures_max, errors_percent, slower_percent };
    Ok(Audience::Canary { tasks, rule })
}

async fn grants(job: &Job, request: GrantsRequest, of: Option<u64>) -> Result<Grants, Refusal> {
    let Some(of) = of.map(DeploymentNumber) else {
        return request.try_into().map_err(|what| invalid(format!("grants: {what}")));
    };
    if request != GrantsRequest::default() {
        return Err(invalid("there are both grants and grants_of".into()));
    }
    let known = job.deployments().await?.into_iter().find(|deployment| deployment.number == of);
    Ok(known.ok_or(DeployError::NoDeployment(of))?.content.grants)
}

/// Makes a deployment and has tasks run it.
///
/// An instance of it is tried first, on the state of one task and without consequence; one that cannot begin is refused, and
/// what runs goes on. The tasks change between two of their commits.
#[utoipa::path(
    post,
    path = "/v1/jobs/{job}/deployments",
    operation_id = "deploy",
    tag = "deployments",
    params(("job" = String, Path, description = "Name of the job")),
    request_body(content = DeploymentRequest, content_type = "application/json"),
    responses(
        (status = 201, description = "The deployment is made", body = DeploymentView),
        DeployProblems
    )
)]
pub async fn deploy(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Result<(StatusCode, Json<DeploymentView>), Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let job = context.job(&name)?;
    let request: DeploymentRequest = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    let limits = GuestLimits::from(request.limits);
    limits.check().map_err(|what| invalid(format!("limits: {what}")))?;
    let component = digest_of(&request.component)?;
    let audience = match (request.canary, request.shadow) {
        (None, None) => Audience::All,
        (Some(canary), None) => audience(&job, &canary)?,
        (None, Some(shadow)) => crate::shadow::audience(shadow)?,
        (Some(_), Some(_)) => {
            return Err(invalid("a deployment is made as a canary or as a shadow, not as both".into()));
        }
    };
    let grants = grants(&job, request.grants, request.grants_of).await?;
    let content = DeploymentContent { component, config: request.config, limits, grants };
    let deployment = job.deploy(content, audience).await?;
    Ok((StatusCode::CREATED, Json(deployment.into())))
}

/// The deployments of a job, by number.
#[utoipa::path(
    get,
    path = "/v1/jobs/{job}/deployments",
    operation_id = "listDeployments",
    tag = "deployments",
    params(
        ("job" = String, Path, description = "Name of the job"),
        ListLimit,
        ("start" = Option<u64>, Query, description = "The first deployment of the page, by its number")
    ),
    responses(
        (status = 200, description = "A page of deployments", body = DeploymentList),
        DeploymentProblems
    )
)]
pub async fn list(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<DeploymentList>, Refusal> {
    let parameters = Parameters::read(query.as_deref(), &["limit", "start"])?;
    let limit = ListLimit::of(&parameters)?;
    let start = parameters.text("start").map(number_of).transpose()?.unwrap_or(DeploymentNumber(0));
    let job = context.job(&name)?;
    let deployments = job.deployments().await?.into_iter().filter(|deployment| deployment.number >= start);
    let (deployments, next) = cut(deployments, limit);
    let next = next.map(|deployment| deployment.number.to_string());
    Ok(Json(DeploymentList { deployments: deployments.into_iter().map(Into::into).collect(), next }))
}

/// What the tasks of a job are to run.
#[utoipa::path(
    get,
    path = "/v1/jobs/{job}/rollout",
    operation_id = "getRollout",
    tag = "deployments",
    params(("job" = String, Path, description = "Name of the job")),
    responses(
        (status = 200, description = "What they are to run", body = RolloutView),
        DeploymentProblems
    )
)]
pub async fn rollout(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<RolloutView>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    Ok(view(context.job(&name)?.as_ref()))
}

/// Has every task run what is the canary, or the shadow.
#[utoipa::path(
    post,
    path = "/v1/jobs/{job}/deployments/{deployment}/promote",
    operation_id = "promote",
    tag = "deployments",
    params(
        ("job" = String, Path, description = "Name of the job"),
        ("deployment" = u64, Path, description = "Number of the canary or the shadow")
    ),
    responses(
        (status = 200, description = "What the tasks are to run now", body = RolloutView),
        RolloutProblems
    )
)]
pub async fn promote(
    State(context): State<Arc<Context>>,
    Path((name, number)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<RolloutView>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let job = context.job(&name)?;
    job.promote(number_of(&number)?).await?;
    Ok(view(&job))
}

/// Has the canary's tasks go back to what all others run.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{job}/canary",
    operation_id = "dropCanary",
    tag = "deployments",
    params(("job" = String, Path, description = "Name of the job")),
    responses(
        (status = 200, description = "What the tasks are to run now", body = RolloutView),
        RolloutProblems
    )
)]
pub async fn drop_canary(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<RolloutView>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let job = context.job(&name)?;
    job.drop_canary().await?;
    Ok(view(&job))
}

/// Has every task run an earlier deployment from now on. What later ones did stays done, or is undone: with `rewind` each task
/// goes back to its state and positions from before, and folds the records since then again.
#[utoipa::path(
    post,
    path = "/v1/jobs/{job}/deployments/{deployment}/rollback",
    operation_id = "rollBackTo",
    tag = "deployments",
    params(
        ("job" = String, Path, description = "Name of the job"),
        ("deployment" = u64, Path, description = "Number of the deployment that they are to run"),
        Rewinding
    ),
    responses(
        (status = 200, description = "What the tasks are to run now", body = RolloutView),
        RolloutProblems
    )
)]
pub async fn roll_back_to(
    State(context): State<Arc<Context>>,
    Path((name, number)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<RolloutView>, Refusal> {
    go_back(&context, &name, Some(&number), query.as_deref()).await
}

/// Has every task run what ran before: what all others run, where there is a canary, or else the deployment before the current one.
/// Whoever asks for it twice has gone back once. As for a named deployment, what was done since stays, or is undone.
#[utoipa::path(
    post,
    path = "/v1/jobs/{job}/rollback",
    operation_id = "rollBack",
    tag = "deployments",
    params(("job" = String, Path, description = "Name of the job"), Rewinding),
    responses(
        (status = 200, description = "What the tasks are to run now", body = RolloutView),
        RolloutProblems
    )
)]
pub async fn roll_back(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<RolloutView>, Refusal> {
    go_back(&context, &name, None, query.as_deref()).await
}

/// Whether and how a rollback undoes.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is for the document; `Parameters` reads them")]
struct Rewinding {
    /// Whether what was committed since is undone; false where this is left out.
    rewind: Option<bool>,
    /// With rewind, what becomes of outputs of records that are folded again; a job with outputs must be told.
    outputs: Option<OutputsView>,
}

async fn go_back(
    context: &Context,
    name: &str,
    to: Option<&str>,
    query: Option<&str>,
) -> Result<Json<RolloutView>, Refusal> {
    let parameters = Parameters::read(query, &["rewind", "outputs"])?;
    let to = to.map(number_of).transpose()?;
    let outputs = parameters.text("outputs").map(outputs_of).transpose()?;
    let rewinds = match parameters.text("rewind") {
        None | Some("false") => false,
        Some("true") => true,
        Some(text) => return Err(parameter(format!("rewind is {text:?}; true or false"))),
    };
    let job = context.job(name)?;
    match (rewinds, outputs) {
        (true, outputs) => drop(job.rewind(to, outputs).await?),
        (false, None) => job.roll_back(to).await?,
        (false, Some(_)) => return Err(parameter("outputs is given without rewind=true".into())),
    }
    Ok(view(&job))
}

/// Has tasks that have not taken back yet what a rewind undid keep it. Those that have are as they are.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{job}/rewind",
    operation_id = "withdrawRewind",
    tag = "deployments",
    params(("job" = String, Path, description = "Name of the job")),
    responses(
        (status = 200, description = "What the tasks are to run now", body = RolloutView),
        RolloutProblems
    )
)]
pub async fn withdraw(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<RolloutView>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let job = context.job(&name)?;
    job.withdraw().await?;
    Ok(view(&job))
}

pub(crate) fn view(job: &Job) -> Json<RolloutView> {
    Json((&job.rollout().rollout).into())
}

fn parameter(detail: String) -> Refusal {
    Refusal::new(Kind::InvalidParameter, detail)
}

fn outputs_of(text: &str) -> Result<RefoldedOutputs, Refusal> {
    match text {
        "withhold" => Ok(RefoldedOutputs::Withhold),
        "again" => Ok(RefoldedOutputs::Again),
        _ => Err(parameter(format!("outputs is {text:?}; withhold or again"))),
    }
}

fn number_of(text: &str) -> Result<DeploymentNumber, Refusal> {
    let invalid = |_| Refusal::new(Kind::InvalidParameter, format!("{text:?} is not the number of a deployment"));
    text.parse().map(DeploymentNumber).map_err(invalid)
}
