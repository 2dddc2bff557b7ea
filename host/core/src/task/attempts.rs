//! What the logic is failing with, and how often it did: kept in the changelog, so that a restart forgets no attempt.

use std::fmt;

use crate::dead_letter::Timer;
use crate::id::ShardKey;
use crate::position::RecordPlace;

/// One thing that logic is given, by what tells it from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A record.
    Record(ShardKey, RecordPlace),
    /// A timer.
    Timer(Timer),
}

/// Failed attempts at one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// At what.
    pub suspect: Item,
    /// How many.
    pub attempts: u32,
    /// What the last one failed with.
    pub message: String,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(shard, place) => write!(f, "the record at {place} of {shard}"),
            Self::Timer(timer) => write!(f, "the timer {:?} due at {}", timer.name, timer.due_ms),
        }
    }
}
