//! Components: checked by the runtime that would run them, then kept under their digest. What does not pass is not
//! kept.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pelton_core::id::Digest;
use pelton_engine::ports::ComponentStore;
use pelton_engine::{ComponentReport, GuestRuntime};

use crate::context::Context;
use crate::document::{ComponentProblems, PushProblems, ShelfProblems};
use crate::model::component::{ComponentEntry, ComponentList, ComponentView, WasmBytes};
use crate::model::job::digest_text;
use crate::paging::{ListLimit, cut};
use crate::parameters::Parameters;
use crate::problem::{Kind, Refusal};

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
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let media_type = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    if let Some(media_type) = media_type.filter(|media_type| !TAKEN.contains(&media_type.as_ref())) {
        let detail = format!("a component's bytes are sent as {WASM}, not as {media_type}");
        return Err(Refusal::new(Kind::UnsupportedMediaType, detail));
    }
    let bytes = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Refusal::new(Kind::BodyTooLarge, format!("a component may have {COMPONENT_BYTES_MAX} bytes"))
        }
        _ => Refusal::new(Kind::InvalidBody, format!("the component did not arrive whole: {}", rejection.body_text())),
    })?;
    let report = context.shelf.check(bytes.clone()).await?;
    context.shelf.store.put(report.digest, bytes).await?;
    tracing::info!("component {} was pushed", digest_text(report.digest));
    Ok((StatusCode::CREATED, Json(ComponentView::from(report))).into_response())
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
