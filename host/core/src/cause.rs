//! Why a task stopped. Each says what happened, where, and what to do.

use crate::id::{CommitNumber, Epoch, ShardKey};
use crate::position::RecordPlace;
use crate::record::SetAside;

/// Why a task stopped on this host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopCause {
    /// The host was told to stop.
    #[error("stopped with its host")]
    Asked,
    /// Another host's commit stands where this one's would have.
    #[error(
        "another host took the task: commit {number} of its changelog is not ours (epoch {epoch}); it runs there now"
    )]
    Fenced {
        /// Where.
        number: CommitNumber,
        /// The epoch of this host.
        epoch: Epoch,
    },
    /// Another host claimed the task while this one was still claiming it.
    #[error("another host claimed the task in epoch {theirs}, after our epoch {ours}; it runs there now")]
    ClaimLost {
        /// Of this host.
        ours: Epoch,
        /// Of the other.
        theirs: Epoch,
    },
    /// The changelog was trimmed past this host's fence while it was being put.
    #[error("the changelog was trimmed to {floor}, past our fence at {fence}: another host owns the task")]
    FenceTrimmed {
        /// Where the fence stands.
        fence: CommitNumber,
        /// Where the history begins.
        floor: CommitNumber,
    },
    /// An item of the changelog cannot be read.
    #[error("commit {number} of the changelog is corrupt: {detail}; restore the item, or the table from a backup")]
    CorruptCommit {
        /// Which.
        number: CommitNumber,
        /// What is wrong with it.
        detail: String,
    },
    /// An item of the changelog is gone.
    #[error(
        "commit {number} of the changelog is missing at or above its floor {floor}; restore the table from a backup"
    )]
    MissingCommit {
        /// Which.
        number: CommitNumber,
        /// Where the history begins.
        floor: CommitNumber,
    },
    /// A snapshot that its manifest calls whole is not.
    #[error("the snapshot at commit {at} is corrupt: {detail}; restore the table from a backup")]
    CorruptSnapshot {
        /// Of which commit.
        at: CommitNumber,
        /// What is wrong with it.
        detail: String,
    },
    /// A batch kept failing.
    #[error("its batch failed {attempts} times, beginning at {first} of {shard}: {fault}")]
    Batch {
        /// How often.
        attempts: u32,
        /// The shard of the first record.
        shard: ShardKey,
        /// The first record of the batch.
        first: String,
        /// What the last attempt failed with.
        fault: String,
    },
    /// The logic says it cannot go on, or could not begin.
    #[error("{0}")]
    Logic(String),
    /// A record that this version has no policy for.
    #[error("{} at {}/{} of {shard}: {}", .kind.what(), .place.sequence, .place.sub_sequence, .kind.consequence())]
    SetAside {
        /// Which shard.
        shard: ShardKey,
        /// Which record.
        place: RecordPlace,
        /// What it is.
        kind: SetAside,
    },
    /// Records that were never read are gone.
    #[error("gap in {shard}: {detail}; the records in it can no longer be read")]
    Gap {
        /// Which shard.
        shard: ShardKey,
        /// What is missing.
        detail: String,
    },
    /// The local store failed.
    #[error("the local state failed: {0}; check the disk of the data folder, then start again")]
    Store(String),
    /// A service refuses for good.
    #[error("{0}")]
    Service(String),
}

impl SetAside {
    fn what(self) -> &'static str {
        match self {
            Self::Stray => "a record whose partition key hashes outside its shard (put with an ExplicitHashKey)",
            Self::Aggregate => "a KPL aggregate",
        }
    }

    fn consequence(self) -> &'static str {
        match self {
            Self::Stray => {
                "this version has no policy for strays, so the task that owns the shard's first hash key stops"
            }
            Self::Aggregate => {
                "this version cannot take aggregates apart, so the task that owns the shard's first hash key stops"
            }
        }
    }
}
