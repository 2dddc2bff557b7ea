//! Stored messages, decoded strictly.

use bytes::Bytes;
use prost::Message;

/// Stored bytes that are not what this version writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

impl DecodeError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Decodes a protobuf message. What it makes of it must pass [`as_written`] once it is whole.
pub(super) fn decode_message<M: Message + Default>(bytes: Bytes) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|error| DecodeError::new(format!("not the expected message: {error}")))
}

/// Makes sure that nothing was dropped on the way from stored bytes to what they mean, be it a field that is not known, a
/// number too wide for us or one of two equal keys: written again, it must be the same bytes.
pub(super) fn as_written(stored: &[u8], again: &[u8]) -> Result<(), DecodeError> {
    if stored == again { Ok(()) } else { Err(dropped()) }
}

/// Stored bytes hold more than was made of them.
pub(super) fn dropped() -> DecodeError {
    DecodeError::new("it holds what this version does not know")
}
