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
use crate::model::component::{ComponentEntry, ComponentList, ComponentView};
use crate::model::job::digest_text;
use crate::parameters::Parameters;
use crate::problem::{Kind, Refusal};

/// Largest component that is taken.
pub const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The media type of a component's bytes.
const WASM: &str = "application/wasm";

/// Where components are kept, and what checks them.
#[derive(Clone)]
pub struct Shelf {
    /// Where they are kept.
    pub store: Arc<dyn ComponentStore>,
    /// What would run them.
    pub guests: Arc<GuestRuntime>,
}

impl Shelf {
    /// Compiles a component, off the threads that serve requests.
    async fn check(&self, bytes: Bytes) -> Result<ComponentReport, Refusal> {
        let guests = self.guests.clone();
        match tokio::task::spawn_blocking(move || guests.check(&bytes)).await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(error)) => Err(Refusal::new(Kind::InvalidComponent, error.to_string())),
            Err(error) => Err(Refusal::new(Kind::Internal, format!("checking the component failed: {error}"))),
        }
    }
}

/// `PUT /v1/components`
pub async fn push(
    State(context): State<Arc<Context>>,
    RawQuery(query): RawQuery,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
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

/// `GET /v1/components`
pub async fn list(
    State(context): State<Arc<Context>>,
    RawQuery(query): RawQuery,
) -> Result<Json<ComponentList>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let kept = context.shelf.store.list().await?.into_iter();
    let components = kept.map(|(digest, size_bytes)| ComponentEntry { digest: digest_text(digest), size_bytes });
    Ok(Json(ComponentList { components: components.collect() }))
}

/// `GET /v1/components/{digest}`: what it is, or its bytes for those who accept only wasm.
pub async fn show(
    State(context): State<Arc<Context>>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let digest: Digest = text.strip_prefix("sha256:").unwrap_or(&text).parse().map_err(|_| {
        Refusal::new(Kind::InvalidParameter, format!("{text:?} is not a digest: sha256: and 64 hexadecimal digits"))
    })?;
    let bytes = context.shelf.store.get(digest).await?.ok_or_else(|| {
        let detail = format!("no component {} is kept; `pelton component push` keeps one", digest_text(digest));
        Refusal::new(Kind::UnknownComponent, detail)
    })?;
    if headers.get(header::ACCEPT).is_some_and(|accepted| accepted.as_bytes() == WASM.as_bytes()) {
        return Ok(([(header::CONTENT_TYPE, WASM)], bytes).into_response());
    }
    Ok(Json(ComponentView::from(context.shelf.check(bytes).await?)).into_response())
}
