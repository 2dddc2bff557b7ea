//! The shadow of a job: what came of it, and how it ends.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use pelton_engine::{Audience, DeployError};

use crate::context::Context;
use crate::deployments::view;
use crate::document::RolloutProblems;
use crate::model::deployment::{RolloutView, ShadowRequest};
use crate::model::shadow::FindingsView;
use crate::parameters::Parameters;
use crate::problem::{Kind, Refusal};

/// A deployment that is only compared.
pub(crate) fn audience(request: ShadowRequest) -> Result<Audience, Refusal> {
    let share_percent = request.share_percent;
    if !(1..=100).contains(&share_percent) {
        let detail = format!("shadow.share_percent is {share_percent}; from 1 to 100");
        return Err(Refusal::new(Kind::InvalidBody, detail));
    }
    Ok(Audience::Shadow { share_percent })
}

/// What came of a job's shadow so far.
///
/// It counts from when the shadow began on this host, with the host's start at the latest.
#[utoipa::path(
    get,
    path = "/v1/jobs/{job}/shadow",
    operation_id = "getShadow",
    tag = "deployments",
    params(("job" = String, Path, description = "Name of the job")),
    responses(
        (status = 200, description = "What came of it", body = FindingsView),
        RolloutProblems
    )
)]
pub async fn show(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<FindingsView>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let found = context.job(&name)?.findings().ok_or(DeployError::NoShadow)?;
    Ok(Json(found.into()))
}

/// Ends the shadow. What came of it is forgotten.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{job}/shadow",
    operation_id = "dropShadow",
    tag = "deployments",
    params(("job" = String, Path, description = "Name of the job")),
    responses(
        (status = 200, description = "What the tasks are to run now", body = RolloutView),
        RolloutProblems
    )
)]
pub async fn end(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<RolloutView>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let job = context.job(&name)?;
    job.drop_shadow().await?;
    Ok(view(&job))
}
