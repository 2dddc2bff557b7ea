//! A position: how far one task has come in one shard. All of the task's records up to it are folded, whether there were
//! any or not.

use std::fmt;

use crate::mutant::{Mutant, wrong};
use crate::sequence::SequenceNumber;
use crate::slice::HashRange;

/// Place of a record within its shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordPlace {
    /// Kinesis' number of the record, or of the aggregate it came in.
    pub sequence: SequenceNumber,
    /// Place within a KPL aggregate, from 0; 0 for a plain record; [`WHOLE`] for all there is at the number.
    pub sub_sequence: u64,
}

/// Stands, as a sub-sequence number, behind every record of an aggregate. Written by what passed all of it.
pub const WHOLE: u64 = u64::MAX;

impl fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sub_sequence {
            WHOLE => self.sequence.fmt(f),
            sub_sequence => write!(f, "{}/{sub_sequence}", self.sequence),
        }
    }
}

/// How far a shard is passed. Ordered: a start comes before every record, and the end after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// Nothing yet; begins with the oldest record kept.
    TrimHorizon,
    /// Nothing yet; begins with the first record that arrived at or after this time, in milliseconds since 1970.
    AtTimestamp(u64),
    /// Every record up to and including this one.
    After(RecordPlace),
    /// Every record of a closed shard.
    ShardEnd,
}

impl Position {
    /// Behind everything at a sequence number: a plain record, or all of an aggregate.
    pub fn after_all_of(sequence: SequenceNumber) -> Self {
        Self::After(RecordPlace { sequence, sub_sequence: WHOLE })
    }

    /// Whether a record at this place is already behind the position.
    pub fn covers(&self, place: RecordPlace) -> bool {
        match self {
            Self::TrimHorizon | Self::AtTimestamp(_) => false,
            Self::After(last) if wrong(Mutant::SubSequenceIgnored) => place.sequence <= last.sequence,
            Self::After(last) => place <= *last,
            Self::ShardEnd => true,
        }
    }

    /// Whether nothing of the shard is passed yet.
    pub fn is_start(&self) -> bool {
        match self {
            Self::TrimHorizon | Self::AtTimestamp(_) => true,
            Self::After(_) | Self::ShardEnd => false,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrimHorizon => f.write_str("trim-horizon"),
            Self::AtTimestamp(ms) => write!(f, "at-timestamp {ms}"),
            Self::After(place) => write!(f, "after {place}"),
            Self::ShardEnd => f.write_str("shard-end"),
        }
    }
}

/// What a task keeps of a shard: its position, and what it needs to know when the shard is no longer listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionEntry {
    /// How far the task has come.
    pub position: Position,
    /// The next unread record arrived no earlier than this, in milliseconds since 1970.
    pub unread_from_ms: u64,
    /// The shard's range of the hash space.
    pub range: HashRange,
}
