//! A problem: why a request was not done, as RFC 9457 has it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request was not done. The media type is `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `urn:pelton:problem:…`, the same for every occurrence.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The status of the reply.
    pub status: u16,
    /// What happened this time, where, and what to do.
    pub detail: String,
}
