//! The local copy of a task's state: one redb file per task, a cache of the changelog. Deleting it costs time only. What was
//! applied since the last flush may be lost in a crash, writes and mark together.

mod local;
mod reader;
mod snapshot;

pub use local::{Flusher, LocalStore, Opened};
pub use reader::StateReader;
pub use snapshot::{SnapshotReader, SnapshotTotals, SnapshotWriter};

use redb::TableDefinition;

/// The state: stored keys, with their space byte, and values.
const STATE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("state");
/// What the file is of, and where it stands.
const ABOUT: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("about");

/// Why the local copy could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// redb or the disk failed.
    #[error("{path}: {cause}")]
    Store {
        /// Which file.
        path: String,
        /// What redb said.
        cause: String,
    },
    /// A snapshot's parts are not what was written.
    #[error("{0}")]
    Snapshot(String),
}

#[cfg(test)]
mod tests;
