//! Whether the process lives, and whether its tasks do.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::context::Context;
use crate::model::job::PhaseCounts;
use crate::problem::{Kind, Refusal};

/// `GET /healthz`: the process answers.
pub async fn live(State(context): State<Arc<Context>>) -> Json<Value> {
    Json(json!({ "status": "ok", "host": context.host.name, "id": context.host.id, "version": context.host.version }))
}

/// `GET /readyz`: every task of every job has left claiming and restoring.
pub async fn ready(State(context): State<Arc<Context>>) -> Result<Json<Value>, Refusal> {
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
    Ok(Json(json!({ "status": "ready" })))
}
