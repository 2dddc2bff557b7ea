//! What can go wrong with a request, each with its status and name. The rest of the crate names the kind and says what
//! happened; only this module knows the statuses.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pelton_engine::ports::PortError;
use pelton_engine::status::StateReadError;
use pelton_engine::{CompileError, ComponentError};

use crate::model::problem::Problem;

/// The media type of problems.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Every kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A parameter is missing, unknown, given twice, or has a value that it cannot have.
    InvalidParameter,
    /// An address or a header that cannot be read.
    InvalidRequest,
    /// A body that was cut short or cannot be read.
    InvalidBody,
    /// A component that this host cannot run.
    InvalidComponent,
    /// A deployment of which no instance can begin.
    InvalidDeployment,
    /// A body over the limit.
    BodyTooLarge,
    /// A body of another kind than is taken here.
    UnsupportedMediaType,
    /// No token, or a wrong one.
    Unauthorized,
    /// A request by a name this host does not go by.
    UnknownHost,
    /// A request that a page of another site made a browser send.
    ForeignOrigin,
    /// No such address.
    UnknownRoute,
    /// The address does not take this method.
    MethodNotAllowed,
    /// No such job on this host.
    UnknownJob,
    /// The job has no such task.
    UnknownTask,
    /// The state has no such key.
    UnknownKey,
    /// The table has no such component.
    UnknownComponent,
    /// The job has no such deployment.
    UnknownDeployment,
    /// The task has no such dead letter.
    UnknownLetter,
    /// What is asked for cannot be done with what it is asked of.
    Conflict,
    /// The task does not run here now, so its state cannot be read.
    TaskNotRunning,
    /// The host is not ready.
    NotReady,
    /// A service does not answer now.
    ServiceUnavailable,
    /// The host failed; its log says more.
    Internal,
}

impl Kind {
    /// Its status, its name and the name in words.
    pub fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidParameter => (StatusCode::BAD_REQUEST, "invalid-parameter", "A parameter is not valid"),
            Self::InvalidRequest => (StatusCode::BAD_REQUEST, "invalid-request", "The request is not valid"),
            Self::InvalidBody => (StatusCode::BAD_REQUEST, "invalid-body", "The body is not valid"),
            Self::InvalidComponent => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-component", "The component cannot be run")
            }
            Self::InvalidDeployment => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-deployment", "The deployment cannot be run")
            }
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body is of another kind")
            }
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "A token is needed"),
            Self::UnknownHost => (StatusCode::MISDIRECTED_REQUEST, "unknown-host", "Not a name of this host"),
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign-origin", "Not for pages of other sites"),
            Self::UnknownRoute => (StatusCode::NOT_FOUND, "unknown-route", "No such address"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The address does not take this method")
            }
            Self::UnknownJob => (StatusCode::NOT_FOUND, "unknown-job", "No such job"),
            Self::UnknownTask => (StatusCode::NOT_FOUND, "unknown-task", "No such task"),
            Self::UnknownKey => (StatusCode::NOT_FOUND, "unknown-key", "No such key"),
            Self::UnknownComponent => (StatusCode::NOT_FOUND, "unknown-component", "No such component"),
            Self::UnknownDeployment => (StatusCode::NOT_FOUND, "unknown-deployment", "No such deployment"),
            Self::UnknownLetter => (StatusCode::NOT_FOUND, "unknown-dead-letter", "No such dead letter"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "It cannot be done with this"),
            Self::TaskNotRunning => (StatusCode::SERVICE_UNAVAILABLE, "task-not-running", "The task is not running"),
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not-ready", "The host is not ready"),
            Self::ServiceUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "service-unavailable", "A service does not answer")
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The host failed"),
        }
    }

    /// The kind of what a component came to.
    pub fn of_component(error: &ComponentError) -> Self {
        match error {
            ComponentError::Uncompiled(CompileError::Busy) => Self::NotReady,
            ComponentError::Uncompiled(CompileError::NoCompiler(_)) => Self::Internal,
            ComponentError::Uncompiled(
                CompileError::Invalid(_)
                | CompileError::Time(_)
                | CompileError::CpuTime(_)
                | CompileError::Memory(_)
                | CompileError::Code(_)
                | CompileError::Crashed(_),
            )
            | ComponentError::NotWasm(_)
            | ComponentError::CoreModule
            | ComponentError::Unfit(_)
            | ComponentError::NotGranted(_)
            | ComponentError::Unusable(_) => Self::InvalidComponent,
        }
    }

    /// The kind that stands for a status a library answered with.
    pub fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::UnknownRoute,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Self::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            status if status.is_client_error() => Self::InvalidRequest,
            _ => Self::Internal,
        }
    }
}

/// Why a request was not done.
#[derive(Debug)]
pub struct Refusal {
    kind: Kind,
    detail: String,
}

impl Refusal {
    /// A problem of a kind, with what happened.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, name, title) = self.kind.parts();
        let problem = Problem {
            kind: format!("urn:pelton:problem:{name}"),
            title: title.into(),
            status: status.as_u16(),
            detail: self.detail,
        };
        let mut response = (status, Json(problem)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if self.kind == Kind::Unauthorized {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<PortError> for Refusal {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Retry(detail) => Self::new(Kind::ServiceUnavailable, detail),
            PortError::Stop(detail) => Self::new(Kind::Internal, detail),
        }
    }
}

impl From<StateReadError> for Refusal {
    fn from(error: StateReadError) -> Self {
        let kind = match error {
            StateReadError::NotRunning(_) => Kind::TaskNotRunning,
            StateReadError::Store { .. } => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}
