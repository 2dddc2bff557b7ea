//! Why a call failed, classed by what the host does next.

use std::fmt;

/// What the host does about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Gives the same records again after a pause.
    Retry,
    /// Sets the record aside, as the job's configuration says: it cannot be processed, now or later.
    Poison,
    /// Stops the task, with the message as its cause.
    Fatal,
}

/// What a failure is to be blamed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// Not said: the record being processed, if one is.
    Current,
    /// The record with this index in its batch.
    Record(u32),
    /// No single record.
    Batch,
}

/// Why a call failed. Everything it wrote and emitted is discarded, and so is the instance: its memory is a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    blame: Blame,
    message: String,
}

impl Failure {
    /// Something passing: the same records are given again after a pause.
    pub fn retry(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Retry, blame: Blame::Current, message: message.into() }
    }

    /// The record cannot be processed, now or later.
    pub fn poison(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Poison, blame: Blame::Current, message: message.into() }
    }

    /// The task cannot go on: it stops, alone, with the message as its cause.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Fatal, blame: Blame::Current, message: message.into() }
    }

    /// The same failure, blamed on the record with this index in its batch.
    #[must_use]
    pub fn at(self, index: usize) -> Self {
        let index = u32::try_from(index).expect("a batch has at most 10,000 records");
        Self { blame: Blame::Record(index), ..self }
    }

    /// The same failure, blamed on no single record.
    #[must_use]
    pub fn of_batch(self) -> Self {
        Self { blame: Blame::Batch, ..self }
    }

    /// The same failure, blamed on this record unless it says otherwise.
    #[must_use]
    pub fn or_at(self, index: usize) -> Self {
        match self.blame {
            Blame::Current => self.at(index),
            Blame::Record(_) | Blame::Batch => self,
        }
    }

    /// What the host does about it.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Index, in its batch, of the record to blame, if one is.
    pub fn index(&self) -> Option<u32> {
        match self.blame {
            Blame::Record(index) => Some(index),
            Blame::Current | Blame::Batch => None,
        }
    }

    /// For the people who run the job. The host cuts it at 4 KiB.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            FailureKind::Retry => "retry",
            FailureKind::Poison => "poison",
            FailureKind::Fatal => "fatal",
        };
        match self.index() {
            Some(index) => write!(f, "{kind} at record {index}: {}", self.message),
            None => write!(f, "{kind}: {}", self.message),
        }
    }
}

impl std::error::Error for Failure {}
