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

/// Decodes a protobuf message that must hold nothing unknown: whatever decoding dropped would be missing when encoded.
pub(super) fn decode_message<M: Message + Default>(bytes: Bytes) -> Result<M, DecodeError> {
    let length = bytes.len();
    let message = M::decode(bytes).map_err(|error| DecodeError::new(format!("not the expected message: {error}")))?;
    if message.encoded_len() != length {
        return Err(DecodeError::new("it holds fields that this version does not know"));
    }
    Ok(message)
}
