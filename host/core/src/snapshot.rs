//! A snapshot: a task's whole state at one commit. Its manifest is put after its parts, and carries the floor: once it is
//! durable, and only then, the log below the floor may be trimmed.

use crate::id::{CommitId, CommitNumber, Epoch};

/// What says that a snapshot is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Random; the snapshot's parts are kept under it.
    pub id: CommitId,
    /// The commit whose state it is.
    pub at: CommitNumber,
    /// Id of that commit.
    pub at_id: CommitId,
    /// Epoch of that commit.
    pub at_epoch: Epoch,
    /// Id of the newest commit at or below `at` that is not a fence; what idle positions refer to.
    pub last_step_id: CommitId,
    /// When it was taken, milliseconds since 1970 by its host.
    pub taken_ms: u64,
    /// The log below this number is no longer history.
    pub floor: CommitNumber,
    /// How many parts there are.
    pub parts: u32,
    /// How many entries all parts hold.
    pub entries: u64,
    /// Bytes of the state's keys and values.
    pub state_bytes: u64,
}

/// Where a task's local copy of the state stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateMark {
    /// The last commit applied; 0 for an empty state.
    pub number: CommitNumber,
    /// Its id.
    pub id: CommitId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Id of the newest commit applied that is not a fence.
    pub last_step_id: CommitId,
    /// Bytes of log since the last snapshot that the owner knew of.
    pub log_bytes: u64,
}
