//! Whether a host lives and is ready, as its probes tell it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A host that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// `ok`.
    pub status: String,
    /// Name of the host.
    pub host: String,
    /// Id of this process.
    pub id: String,
    /// Version of Pelton.
    pub version: String,
}

/// A host all of whose tasks have left claiming and restoring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyView {
    /// `ready`.
    pub status: String,
}
