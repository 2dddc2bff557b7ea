//! Every address of the API, and what holds for all of them: access, problems instead of plain errors, no address
//! without a handler.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::context::Context;
use crate::document::Document;
use crate::problem::{Kind, MEDIA_TYPE, Refusal};
use crate::{
    access, components, dead_letters, deployments, document, events, health, jobs, logs, metrics, shadow, state,
};

/// The API of a host.
pub fn router(context: Arc<Context>) -> Router {
    let guarded = Router::from(guarded())
        .layer(DefaultBodyLimit::max(deployments::DEPLOYMENT_BYTES_MAX))
        .fallback(unknown)
        .layer(from_fn_with_state(context.access.clone(), access::guard));
    guarded.merge(Router::from(open())).layer(from_fn(problems)).with_state(context)
}

/// Every address with what the document says of it. There is no other way to add one.
pub fn documented() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::with_openapi(Document::openapi()).merge(guarded()).merge(open())
}

fn guarded() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::default()
        .routes(routes!(document::show))
        .routes(routes!(metrics::scrape))
        .routes(routes!(events::watch))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::tasks))
        .routes(routes!(jobs::task))
        .routes(routes!(jobs::shards))
        .routes(routes!(logs::read))
        .routes(routes!(state::get))
        .routes(routes!(state::scan))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::show, dead_letters::forget))
        .routes(routes!(dead_letters::redrive))
        .routes(routes!(deployments::deploy, deployments::list))
        .routes(routes!(deployments::rollout))
        .routes(routes!(deployments::drop_canary))
        .routes(routes!(deployments::promote))
        .routes(routes!(deployments::roll_back))
        .routes(routes!(deployments::roll_back_to))
        .routes(routes!(deployments::withdraw))
        .routes(routes!(shadow::show, shadow::end))
        .routes(routes!(components::push, components::list))
        .routes(routes!(components::show))
}

/// Probes bear no token, and these two say nothing of the jobs but whether they run.
fn open() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::default().routes(routes!(health::live)).routes(routes!(health::ready))
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
        Kind::BodyTooLarge => format!("a body may have {} bytes here", deployments::DEPLOYMENT_BYTES_MAX),
        _ => format!("{method} {} was answered with {status}", uri.path()),
    };
    let mut problem = Refusal::new(kind, detail).into_response();
    if let Some(allowed) = response.headers().get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    problem
}
