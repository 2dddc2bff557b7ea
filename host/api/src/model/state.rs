//! Committed state: keys and values as base64, and as text where they are text.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Reads base64 with its padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes as base64 with padding.
pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of base64, with padding or without.
///
/// # Errors
/// Says where the text is not base64.
pub fn from_base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    LENIENT.decode(text)
}

/// The bytes as text, where they are UTF-8.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// A key and its committed value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntryView {
    /// The key.
    pub key_base64: String,
    /// The key, where it is UTF-8.
    pub key_text: Option<String>,
    /// The value.
    pub value_base64: String,
    /// The value, where it is UTF-8.
    pub value_text: Option<String>,
}

impl EntryView {
    /// The view of an entry.
    pub fn new(key: &[u8], value: &[u8]) -> Self {
        Self {
            key_base64: to_base64(key),
            key_text: text(key),
            value_base64: to_base64(value),
            value_text: text(value),
        }
    }
}

/// The committed value of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ValueView {
    /// Name of the job.
    pub job: String,
    /// The task that owns the partition key.
    pub task: u16,
    /// The key and its value.
    #[serde(flatten)]
    pub entry: EntryView,
}

/// A page of a task's committed state, in key order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatePage {
    /// Name of the job.
    pub job: String,
    /// Whose state.
    pub task: u16,
    /// Keys and values.
    pub entries: Vec<EntryView>,
    /// Where the next page starts; null after the last one.
    pub next_base64: Option<String>,
    /// The same, where it is UTF-8.
    pub next_text: Option<String>,
}

impl StatePage {
    /// A page that goes on at `next`.
    pub fn new(job: &str, task: u16, entries: Vec<EntryView>, next: Option<&[u8]>) -> Self {
        let (next_base64, next_text) = (next.map(to_base64), next.and_then(text));
        Self { job: job.into(), task, entries, next_base64, next_text }
    }
}
