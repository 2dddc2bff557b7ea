//! The OpenAPI document: made from the handlers themselves, so that it has every address the router has, and no other.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::extract::RawQuery;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi};

use crate::model::event::{EventView, MissedView};
use crate::model::log::LineView;
use crate::model::problem::Problem;
use crate::parameters::Parameters;
use crate::problem::{Kind, MEDIA_TYPE, Refusal};

/// What the document says beside its addresses.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pelton",
        description = "The API of a Pelton host. Errors are problem details (RFC 9457), and a parameter that is not \
                       known is an error. Lists come in pages: a page's `next` is the `start` of the next one."
    ),
    components(schemas(Problem, EventView, MissedView, LineView)),
    security(("token" = [])),
    modifiers(&Token),
    tags(
        (name = "jobs", description = "Jobs, their tasks and shards"),
        (name = "state", description = "The committed state of tasks"),
        (name = "dead letters", description = "What tasks set aside"),
        (name = "deployments", description = "What jobs run"),
        (name = "components", description = "Components kept in the table"),
        (name = "host", description = "The host itself")
    )
)]
pub struct Document;

/// How a request shows that it may be made.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let bearer = bearer.description(Some("The host's token. One that listens on loopback only asks for none."));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer.build()));
    }
}

/// The document as text.
static TEXT: LazyLock<Result<String, String>> = LazyLock::new(|| {
    let document = crate::router::documented().into_openapi();
    document.to_pretty_json().map_err(|error| error.to_string())
});

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "getDocument",
    tag = "host",
    responses((status = 200, description = "An OpenAPI document", body = serde_json::Value), HostProblems)
)]
pub async fn show(RawQuery(query): RawQuery) -> Result<impl IntoResponse, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let text = TEXT.as_ref().map_err(|error| Refusal::new(Kind::Internal, format!("writing the document: {error}")))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text.as_str()))
}

/// Problems by their statuses, each told by its name.
fn told(kinds: &[Kind]) -> BTreeMap<String, RefOr<Response>> {
    let mut names: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for kind in kinds {
        let (status, name, title) = kind.parts();
        names.entry(status.as_u16()).or_default().push(format!("`{name}`: {title}"));
    }
    let response = |(status, names): (u16, Vec<String>)| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(names.join("; ")).content(MEDIA_TYPE, content);
        (status.to_string(), response.build().into())
    };
    names.into_iter().map(response).collect()
}

/// Names sets of problems with which operations are answered: those that every operation shares, and more.
macro_rules! problems {
    ($($(#[$docs:meta])* $name:ident: $($kind:ident)*;)*) => {$(
        $(#[$docs])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                use Kind::*;
                told(&[
                    InvalidParameter, InvalidRequest, Unauthorized, ForeignOrigin, UnknownHost, Internal, $($kind),*
                ])
            }
        }
    )*};
}

problems! {
    /// Of operations that concern the host.
    HostProblems:;
    /// Of operations on a job.
    JobProblems: UnknownJob NotReady;
    /// Of reading what guests log.
    LogProblems: UnknownJob NotReady UnknownTask;
    /// Of operations on a task.
    TaskProblems: UnknownJob NotReady UnknownTask;
    /// Of operations on the state of a task.
    StateProblems: UnknownJob NotReady UnknownTask TaskNotRunning;
    /// Of the operation on a key.
    KeyProblems: UnknownJob NotReady UnknownKey TaskNotRunning;
    /// Of operations on a dead letter.
    LetterProblems: UnknownJob NotReady UnknownTask UnknownLetter TaskNotRunning;
    /// Of giving a dead letter to the logic again.
    RedriveProblems: UnknownJob NotReady UnknownTask UnknownLetter TaskNotRunning Conflict;
    /// Of listing deployments.
    DeploymentProblems: UnknownJob NotReady ServiceUnavailable;
    /// Of making a deployment.
    DeployProblems: UnknownJob NotReady InvalidBody BodyTooLarge UnknownComponent UnknownDeployment InvalidComponent InvalidDeployment Conflict ServiceUnavailable;
    /// Of changing which deployment is run.
    RolloutProblems: UnknownJob NotReady UnknownDeployment UnknownComponent InvalidComponent InvalidDeployment Conflict ServiceUnavailable;
    /// Of listing components.
    ShelfProblems: ServiceUnavailable;
    /// Of operations on a component.
    ComponentProblems: UnknownComponent InvalidComponent NotReady ServiceUnavailable;
    /// Of keeping a component.
    PushProblems: InvalidBody BodyTooLarge UnsupportedMediaType InvalidComponent NotReady ServiceUnavailable;
}

/// Of the probe for readiness, which bears no token.
pub struct ReadyProblems;

impl IntoResponses for ReadyProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        told(&[Kind::NotReady])
    }
}
