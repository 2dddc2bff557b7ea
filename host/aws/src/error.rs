//! Errors of the SDK, classed by what the caller does next.

use std::future::Future;
use std::time::Duration;

use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use pelton_core::limits::backoff_ms;
use pelton_engine::ports::PortError;

use crate::mutant::{Mutant, wrong};

/// Errors that no repetition cures.
const FINAL: [&str; 14] = [
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "ResourceNotFoundException",
    "ValidationException",
    "InvalidArgumentException",
    "ItemCollectionSizeLimitExceededException",
    "SerializationException",
    "MissingAuthenticationTokenException",
    "KMSAccessDeniedException",
    "KMSDisabledException",
    "KMSInvalidStateException",
    "KMSNotFoundException",
    "KMSOptInRequired",
];

/// Where nobody else asks again, a request that failed in passing is repeated so often: about six seconds of pauses.
const PERSIST_ATTEMPTS: u32 = 8;

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
        (_, Some(code)) if is_final(code) => PortError::Stop(text),
        _ if wrong(Mutant::UnknownAsFailure) => PortError::Stop(text),
        _ => PortError::Retry(text),
    }
}

/// Whether an error of this name comes again, however often one asks.
pub(crate) fn is_final(code: &str) -> bool {
    FINAL.contains(&code)
}

/// Repeats a request that may be applied twice while it fails in passing, a bounded number of times with growing pauses.
pub(crate) async fn persist<T, F>(mut request: impl FnMut() -> F) -> Result<T, PortError>
where
    F: Future<Output = Result<T, PortError>>,
{
    let attempts = if wrong(Mutant::PassingGivenUp) { 1 } else { PERSIST_ATTEMPTS };
    for attempt in 1..attempts {
        match request().await {
            Err(PortError::Retry(text)) => tracing::debug!("attempt {attempt}: {text}"),
            settled => return settled,
        }
        tokio::time::sleep(Duration::from_millis(backoff_ms(attempt))).await;
    }
    request().await
}

/// The service's name for an error.
pub(crate) fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}
