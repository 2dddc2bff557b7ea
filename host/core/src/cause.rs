//! Why a task stopped. Each says what happened, where, and what to do.

use crate::id::{CommitNumber, Epoch, ShardKey};
use crate::position::Position;

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
    /// The logic kept failing with a record or a timer.
    #[error("it failed {attempts} times with {what}: {fault}")]
    Failing {
        /// How often.
        attempts: u32,
        /// With what.
        what: String,
        /// What the last attempt failed with.
        fault: String,
    },
    /// There is no room for another dead letter.
    #[error(
        "it has {letters} dead letters of {bytes} bytes and must set another aside ({what}), past its limit of {letters_max} letters and {bytes_max} bytes: raise limits.dead-letters or limits.dead-letter-bytes, start again, and redrive or drop what is there"
    )]
    DeadLettersFull {
        /// How many there are.
        letters: u64,
        /// Of how many bytes.
        bytes: u64,
        /// How many there may be.
        letters_max: u64,
        /// Of how many bytes.
        bytes_max: u64,
        /// What else was to be set aside.
        what: String,
    },
    /// The logic says it cannot go on, or could not begin.
    #[error("{0}")]
    Logic(String),
    /// Records that were never read are gone, and the job says to stop then.
    #[error(
        "gap in {shard} (position: {from}): {what}; it is kept as a dead letter, and on-gap = \"continue\" goes on behind it"
    )]
    Gap {
        /// Which shard.
        shard: ShardKey,
        /// The last position reached.
        from: Position,
        /// What is gone.
        what: String,
    },
    /// Where it was to be brought back to is no longer in the log.
    #[error(
        "it is to be brought back to commit {to}, and its changelog begins at commit {floor}; `pelton rollback --withdraw` has it keep what it has"
    )]
    RewindOutOfReach {
        /// Which commit.
        to: CommitNumber,
        /// Where the history begins.
        floor: CommitNumber,
    },
    /// Records that it would fold again may be gone.
    #[error(
        "it is to be brought back to commit {to}, and records since then may be {age_ms} ms old, while its streams keep them for {retention_ms} ms, which leaves no time to read them again; `pelton rollback --withdraw` has it keep what it has"
    )]
    RewindRecordsGone {
        /// Which commit.
        to: CommitNumber,
        /// How old, in milliseconds.
        age_ms: u64,
        /// How long they are kept, in milliseconds.
        retention_ms: u64,
    },
    /// The state it was to be brought back to differs in more than a commit holds.
    #[error(
        "the state after commit {to}, that it is to be brought back to, differs from the one now in more than {bytes_max} bytes, or in more dead letters than can be remembered, which is more than a rewind can write; `pelton rollback --withdraw` has it keep what it has"
    )]
    RewindTooLarge {
        /// Which commit.
        to: CommitNumber,
        /// How much it may differ, in bytes.
        bytes_max: usize,
    },
    /// The local store failed.
    #[error("the local state failed: {0}; check the disk of the data folder, then start again")]
    Store(String),
    /// A service refuses for good.
    #[error("{0}")]
    Service(String),
}

impl StopCause {
    /// Whether another assignment may help: it is for the logic, or for what was undone, that the task stopped.
    pub fn is_of_assignment(&self) -> bool {
        match self {
            Self::Failing { .. }
            | Self::DeadLettersFull { .. }
            | Self::Logic(_)
            | Self::RewindOutOfReach { .. }
            | Self::RewindRecordsGone { .. }
            | Self::RewindTooLarge { .. } => true,
            Self::Asked
            | Self::Fenced { .. }
            | Self::ClaimLost { .. }
            | Self::FenceTrimmed { .. }
            | Self::CorruptCommit { .. }
            | Self::MissingCommit { .. }
            | Self::CorruptSnapshot { .. }
            | Self::Gap { .. }
            | Self::Store(_)
            | Self::Service(_) => false,
        }
    }
}
