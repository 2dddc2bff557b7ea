//! A component, as the runtime that would run it sees it.

use pelton_engine::ComponentReport;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::job::digest_text;
use super::page::Page;

/// The bytes of a component.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct WasmBytes(pub Vec<u8>);

/// A component that can run as a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComponentView {
    /// Digest of its bytes, as `sha256:…`.
    pub digest: String,
    /// How long it is.
    pub size_bytes: u64,
    /// The export by which it takes records.
    pub processor: String,
    /// Interfaces it imports.
    pub imports: Vec<String>,
    /// Interfaces and functions it exports.
    pub exports: Vec<String>,
}

impl From<ComponentReport> for ComponentView {
    fn from(report: ComponentReport) -> Self {
        Self {
            digest: digest_text(report.digest),
            size_bytes: report.size_bytes,
            processor: report.processor.into(),
            imports: report.imports,
            exports: report.exports,
        }
    }
}

/// A component that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComponentEntry {
    /// Digest of its bytes, as `sha256:…`.
    pub digest: String,
    /// How long it is.
    pub size_bytes: u64,
}

/// A page of the components that are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComponentList {
    /// By digest.
    pub components: Vec<ComponentEntry>,
    /// The `start` of the next page; null after the last one.
    #[serde(default)]
    pub next: Option<String>,
}

impl Page for ComponentList {
    type Item = ComponentEntry;

    fn parts(self) -> (Vec<ComponentEntry>, Option<String>) {
        (self.components, self.next)
    }
}
