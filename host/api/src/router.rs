//! Every address of the API, and what holds for all of them: access, problems instead of plain errors, no address
//! without a handler.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};

use crate::context::Context;
use crate::problem::{Kind, MEDIA_TYPE, Refusal};
use crate::{access, components, dead_letters, health, jobs, metrics, state};

/// The API of a host.
pub fn router(context: Arc<Context>) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(metrics::scrape))
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/{job}", get(jobs::show))
        .route("/v1/jobs/{job}/tasks", get(jobs::tasks))
        .route("/v1/jobs/{job}/tasks/{task}", get(jobs::task))
        .route("/v1/jobs/{job}/shards", get(jobs::shards))
        .route("/v1/jobs/{job}/state", get(state::get))
        .route("/v1/jobs/{job}/tasks/{task}/state", get(state::scan))
        .route("/v1/jobs/{job}/dead-letters", get(dead_letters::list))
        .route("/v1/jobs/{job}/dead-letters/{task}/{number}", get(dead_letters::show).delete(dead_letters::forget))
        .route("/v1/jobs/{job}/dead-letters/{task}/{number}/redrive", post(dead_letters::redrive))
        .route("/v1/components", put(components::push).get(components::list))
        .route("/v1/components/{digest}", get(components::show))
        .layer(DefaultBodyLimit::max(components::COMPONENT_BYTES_MAX))
        .fallback(unknown)
        .layer(from_fn_with_state(context.access.clone(), access::guard));
    // Probes bear no token, and these two say nothing of the jobs but whether they run.
    let open = Router::new().route("/healthz", get(health::live)).route("/readyz", get(health::ready));
    guarded.merge(open).layer(from_fn(problems)).with_state(context)
}

async fn unknown(uri: Uri) -> Refusal {
    Refusal::new(Kind::UnknownRoute, format!("there is nothing at {}", uri.path()))
}

/// Turns what the libraries below refuse in plain text into problems.
async fn problems(method: Method, uri: Uri, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let media_type = response.headers().get(header::CONTENT_TYPE);
    let told = media_type.is_some_and(|value| value.as_bytes() == MEDIA_TYPE.as_bytes());
    if !(status.is_client_error() || status.is_server_error()) || told {
        return response;
    }
    let kind = Kind::of(status);
    let detail = match kind {
        Kind::MethodNotAllowed => format!("{} does not take {method}", uri.path()),
        Kind::BodyTooLarge => format!("a body may have {} bytes", components::COMPONENT_BYTES_MAX),
        _ => format!("{method} {} was answered with {status}", uri.path()),
    };
    let mut problem = Refusal::new(kind, detail).into_response();
    if let Some(allowed) = response.headers().get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    problem
}
