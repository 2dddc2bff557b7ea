//! Whether the process lives, and whether its tasks do.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::context::{Context, HostInfo};
use crate::document::ReadyProblems;
use crate::model::health::{HealthView, ReadyView};
use crate::model::job::PhaseCounts;
use crate::problem::{Kind, Refusal};

/// Whether the process lives: it answers.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "getHealth",
    tag = "host",
    security(()),
    responses((status = 200, description = "It does", body = HealthView))
)]
pub async fn live(State(context): State<Arc<Context>>) -> Json<HealthView> {
    let HostInfo { name, id, version, jobs: _ } = &context.host;
    let (host, id, version) = (name.clone(), id.clone(), (*version).to_owned());
    Json(HealthView { status: "ok".into(), host, id, version })
}

/// Whether every task of every job has left claiming and restoring.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "getReadiness",
    tag = "host",
    security(()),
    responses((status = 200, description = "They have", body = ReadyView), ReadyProblems)
)]
pub async fn ready(State(context): State<Arc<Context>>) -> Result<Json<ReadyView>, Refusal> {
    if context.is_stopping() {
        return Err(Refusal::new(Kind::NotReady, "the host is stopping"));
    }
    let jobs = context.jobs();
    let starting = context.host.jobs.len().saturating_sub(jobs.len());
    if starting > 0 {
        return Err(Refusal::new(Kind::NotReady, format!("{starting} jobs are still being started")));
    }
    for job in jobs {
        let mut phases = PhaseCounts::default();
        job.tasks().iter().for_each(|task| phases.add(task.phase));
        if !phases.ready() {
            let PhaseCounts { claiming, restoring, .. } = phases;
            let detail = format!("job {}: {claiming} tasks are claiming, {restoring} restoring", job.spec().meta.name);
            return Err(Refusal::new(Kind::NotReady, detail));
        }
    }
    Ok(Json(ReadyView { status: "ready".into() }))
}
