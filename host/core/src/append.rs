//! The append of one commit: a conditional put, repeated until it is known whose commit stands at the number. Once sent,
//! the bytes never change. A lost reply is settled by reading; a read that shows nothing means: put again.

use std::sync::Arc;

use crate::commit::{Commit, Outgoing};
use crate::id::{CommitId, Epoch};
use crate::mutant::{Mutant, wrong};

/// What a put came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutReply {
    /// It was applied.
    Applied,
    /// Something stands at the number already.
    Exists,
    /// Throttled, timed out or cut off; it may have been applied.
    Unknown,
}

/// What the append needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendNext {
    /// Put the commit, its parts first, after the pause that [`backoff_ms`](crate::limits::backoff_ms) gives the attempt.
    Put(u32),
    /// Read the id that stands at the number.
    Read,
    /// The commit stands at its number.
    Done,
    /// Another's does.
    Fenced,
}

/// An append under way.
#[derive(Clone, Debug)]
pub struct Append {
    /// What is appended.
    pub commit: Arc<Outgoing>,
    /// In which epoch.
    pub epoch: Epoch,
    attempt: u32,
}

impl Append {
    /// Begins an append; the first thing it needs is `Put(0)`.
    pub fn new(commit: Commit, epoch: Epoch) -> Self {
        Self { commit: Arc::new(Outgoing::new(commit)), epoch, attempt: 0 }
    }

    /// Takes what a put came to.
    pub fn put(&mut self, reply: PutReply) -> AppendNext {
        match reply {
            PutReply::Applied => AppendNext::Done,
            PutReply::Exists => AppendNext::Read,
            PutReply::Unknown if wrong(Mutant::UnknownIsApplied) => AppendNext::Done,
            PutReply::Unknown => self.again(),
        }
    }

    /// Takes the id that stands at the number, if any does.
    pub fn read(&mut self, standing: Option<CommitId>) -> AppendNext {
        match standing {
            Some(id) if id == self.commit.commit().id => AppendNext::Done,
            Some(_) => AppendNext::Fenced,
            None => self.again(),
        }
    }

    fn again(&mut self) -> AppendNext {
        self.attempt += 1;
        AppendNext::Put(self.attempt)
    }
}
