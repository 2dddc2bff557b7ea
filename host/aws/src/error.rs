//! Errors of the SDK, classed by what the caller does next.

use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use pelton_engine::ports::PortError;

/// Errors that no repetition cures.
const FINAL: [&str; 9] = [
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "ResourceNotFoundException",
    "ValidationException",
    "InvalidArgumentException",
    "ItemCollectionSizeLimitExceededException",
    "SerializationException",
    "MissingAuthenticationTokenException",
];

/// Classes an error of a request that was about `what`.
pub(crate) fn port_error<E, R>(what: &str, error: &SdkError<E, R>) -> PortError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    let text = match (code, error.as_service_error().and_then(ProvideErrorMetadata::message)) {
        (Some(code), Some(message)) => format!("{what}: {code}: {message}"),
        (Some(code), None) => format!("{what}: {code}"),
        (None, _) => format!("{what}: {}", DisplayErrorContext(error)),
    };
    match (error, code) {
        (SdkError::ConstructionFailure(_), _) => PortError::Stop(text),
        (_, Some(code)) if FINAL.contains(&code) => PortError::Stop(text),
        _ => PortError::Retry(text),
    }
}

/// The service's name for an error.
pub(crate) fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}
