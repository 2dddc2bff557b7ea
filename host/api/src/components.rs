//! Components: checked by the runtime that would run them, then kept under their digest. What does not pass is not
//! kept.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use pelton_core::id::Digest;
use pelton_engine::ports::ComponentStore;
use pelton_engine::{ComponentReport, GuestRuntime};
use tokio::sync::Semaphore;

use crate::context::Context;
use crate::document::{ComponentProblems, PushProblems, ShelfProblems};
use crate::model::component::{ComponentEntry, ComponentList, ComponentView, WasmBytes};
use crate::model::job::digest_text;
use crate::paging::{ListLimit, cut};
use crate::parameters::Parameters;
use crate::problem::{Kind, Refusal};

/// Components taken at a time, each of them in memory.
const TAKEN_AT_ONCE: usize = 4;
/// How long one waits for its turn, and how long it may take to arrive.
const TURN_LIMIT: Duration = Duration::from_secs(5);
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);

static TURNS: Semaphore = Semaphore::const_new(TAKEN_AT_ONCE);

/// Largest component that is taken.
pub const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The media type of a component's bytes.
const WASM: &str = "application/wasm";
/// The media types that are taken for it, beside none at all.
const TAKEN: [&str; 2] = [WASM, "application/octet-stream"];

/// Where components are kept, and what checks them.
#[derive(Clone)]
pub struct Shelf {
    /// Where they are kept.
    pub store: Arc<dyn ComponentStore>,
    /// What would run them.
    pub guests: Arc<GuestRuntime>,
}

impl Shelf {
    /// Has a component compiled, where it is not, and checks it, off the threads that serve requests.
    async fn check(&self, bytes: Bytes) -> Result<ComponentReport, Refusal> {
        let guests = self.guests.clone();
        match tokio::task::spawn_blocking(move || guests.check(&bytes)).await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(error)) => Err(Refusal::new(Kind::of_component(&error), error.to_string())),
            Err(error) => Err(Refusal::new(Kind::Internal, format!("checking the component failed: {error}"))),
        }
    }
}

/// Checks a component and keeps it under its digest.
#[utoipa::path(
    put,
    path = "/v1/components",
    operation_id = "pushComponent",
    tag = "components",
    request_body(content = WasmBytes, content_type = "application/wasm", description = "Its bytes"),
    responses(
        (status = 201, description = "The component is kept", body = ComponentView),
        PushProblems
    )
)]
pub async fn push(
    State(context): State<Arc<Context>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let media_type = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    if let Some(media_type) = media_type.filter(|media_type| !TAKEN.contains(&media_type.as_ref())) {
        let detail = format!("a component's bytes are sent as {WASM}, not as {media_type}");
        return Err(Refusal::new(Kind::UnsupportedMediaType, detail));
    }
    let _turn = match tokio::time::timeout(TURN_LIMIT, TURNS.acquire()).await {
        Ok(turn) => turn,
        Err(_) => {
            let detail = format!("{TAKEN_AT_ONCE} components are being pushed, as many as may be at a time; try again");
            return Err(Refusal::new(Kind::NotReady, detail));
        }
    };
    let bytes = arrived(body).await?;
    let report = context.shelf.check(bytes.clone()).await?;
    // Whoever sent it may go away meanwhile: it is kept with all that goes with it, or not at all.
    let (store, digest) = (context.shelf.store.clone(), report.digest);
    let kept = tokio::spawn(async move { store.put(digest, bytes).await }).await;
    kept.map_err(|error| Refusal::new(Kind::Internal, format!("keeping the component failed: {error}")))??;
    tracing::info!("component {} was pushed", digest_text(report.digest));
    Ok((StatusCode::CREATED, Json(ComponentView::from(report))).into_response())
}

/// The body of a request, whole.
async fn arrived(body: Body) -> Result<Bytes, Refusal> {
    let invalid = |why: String| Refusal::new(Kind::InvalidBody, format!("the component did not arrive whole: {why}"));
    let read = tokio::time::timeout(ARRIVAL_LIMIT, to_bytes(body, COMPONENT_BYTES_MAX)).await;
    let read = read.map_err(|_| invalid(format!("it took more than {} s", ARRIVAL_LIMIT.as_secs())))?;
    read.map_err(|error| {
        let is_long = std::error::Error::source(&error).is_some_and(|source| source.is::<LengthLimitError>());
        match is_long {
            true => Refusal::new(Kind::BodyTooLarge, format!("a component may have {COMPONENT_BYTES_MAX} bytes")),
            false => invalid(error.to_string()),
        }
    })
}

/// The components that are kept, by digest.
#[utoipa::path(
    get,
    path = "/v1/components",
    operation_id = "listComponents",
    tag = "components",
    params(
        ListLimit,
        ("start" = Option<String>, Query, description = "The first component of the page, by its digest")
    ),
    responses(
        (status = 200, description = "A page of components", body = ComponentList),
        ShelfProblems
    )
)]
pub async fn list(
    State(context): State<Arc<Context>>,
    RawQuery(query): RawQuery,
) -> Result<Json<ComponentList>, Refusal> {
    let parameters = Parameters::read(query.as_deref(), &["limit", "start"])?;
    let limit = ListLimit::of(&parameters)?;
    let start = parameters.text("start").map(digest_of).transpose()?;
    let mut kept = context.shelf.store.list().await?;
    kept.sort_unstable_by_key(|(digest, _)| *digest);
    let kept = kept.into_iter().filter(|(digest, _)| start.is_none_or(|start| *digest >= start));
    let (kept, next) = cut(kept, limit);
    let entry = |(digest, size_bytes)| ComponentEntry { digest: digest_text(digest), size_bytes };
    let next = next.map(|(digest, _)| digest_text(digest));
    Ok(Json(ComponentList { components: kept.into_iter().map(entry).collect(), next }))
}

pub(crate) fn digest_of(text: &str) -> Result<Digest, Refusal> {
    text.strip_prefix("sha256:").unwrap_or(text).parse().map_err(|_| {
        Refusal::new(Kind::InvalidParameter, format!("{text:?} is not a digest: sha256: and 64 hexadecimal digits"))
    })
}

/// One component: what it is, or its bytes for those who accept only wasm.
#[utoipa::path(
    get,
    path = "/v1/components/{digest}",
    operation_id = "getComponent",
    tag = "components",
    params(("digest" = String, Path, description = "The digest of its bytes, with or without `sha256:`")),
    responses(
        (
            status = 200,
            description = "The component",
            content((ComponentView = "application/json"), (WasmBytes = "application/wasm"))
        ),
        ComponentProblems
    )
)]
pub async fn show(
    State(context): State<Arc<Context>>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let digest = digest_of(&text)?;
    let bytes = context.shelf.store.get(digest).await?.ok_or_else(|| {
        let detail = format!("no component {} is kept; `pelton component push` keeps one", digest_text(digest));
        Refusal::new(Kind::UnknownComponent, detail)
    })?;
    if headers.get(header::ACCEPT).is_some_and(|accepted| accepted.as_bytes() == WASM.as_bytes()) {
        return Ok(([(header::CONTENT_TYPE, WASM)], bytes).into_response());
    }
    Ok(Json(ComponentView::from(context.shelf.check(bytes).await?)).into_response())
}
