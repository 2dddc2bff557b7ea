//! Records as tasks see them, and runs: the part of one fetch that belongs to one task.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::id::ShardKey;
use crate::output::OutputId;
use crate::policy::Fate;
use crate::position::{Position, RecordPlace};
use crate::slice::HashKey;

/// One record of an input stream, taken out of its aggregate if it came in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where in its shard it stands.
    pub place: RecordPlace,
    /// Approximate arrival at Kinesis, milliseconds since 1970. Not monotonic.
    pub arrived_ms: u64,
    /// Decides the task.
    pub partition_key: String,
    /// The payload, shared with the reply it came in.
    pub data: Bytes,
    /// The name that the job upstream gave it; only where the input says which job that is.
    pub output: Option<Box<OutputId>>,
}

impl Record {
    /// What the record weighs in a mailbox, in bytes.
    pub fn weight(&self) -> usize {
        self.data.len() + self.partition_key.len() + size_of::<Self>()
    }

    /// The place of its partition key in the hash space.
    pub fn hash(&self) -> HashKey {
        HashKey::of(&self.partition_key)
    }
}

/// One reply of Kinesis, its records sorted by task; shared by the runs cut from it.
#[derive(Debug, Default)]
pub struct Fetch {
    /// In the order of the shard.
    pub records: Vec<Record>,
    /// Indexes into `records` of those that logic is to see, grouped by task, in order within each.
    pub order: Vec<u32>,
    /// What no logic is to see, in the order of the shard: the shard's home task answers for it.
    pub asides: Vec<Aside>,
    /// Indexes into `records` of those that begin as an aggregate and are none, rising.
    pub malformed: Vec<u32>,
}

/// A record that no logic is to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Its index in the fetch's `records`.
    pub index: u32,
    /// What becomes of it.
    pub fate: Fate,
}

/// The records of one task between two positions of one shard: all of them, or none if there were none.
#[derive(Clone, Debug)]
pub struct Run {
    /// The run begins right after this position.
    pub after: Position,
    /// And it ends with this one.
    pub up_to: Position,
    /// The next unread record of the shard arrived no earlier than this, in milliseconds since 1970.
    pub unread_from_ms: u64,
    /// Which shard.
    pub shard: ShardKey,
    /// The fetch that holds the records; none where the run has none.
    pub fetch: Option<Arc<Fetch>>,
    /// Which of the fetch's `order` are this run's.
    pub span: Range<usize>,
    /// Which of the fetch's `asides` are this run's.
    pub asides: Range<usize>,
    /// In place of records: those that were here are gone.
    pub gap: Option<Gap>,
}

/// Records of a shard that can no longer be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Some of what arrived before this time, in milliseconds since 1970: the stream keeps it no longer.
    Until(u64),
    /// All up to the shard's end: the shard is gone.
    ToEnd,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Until(ms) => write!(
                f,
                "records that arrived before {ms} ms since 1970 may be gone unread: the stream keeps them no longer, or not for long"
            ),
            Self::ToEnd => f.write_str(
                "the shard is gone, and was not read to its end; nor were shards before it that were never begun, if any"
            ),
        }
    }
}

impl Run {
    /// The records of the run that logic is to see, in the order of the shard.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Record> + ExactSizeIterator {
        let (order, records): (&[u32], &[Record]) = match &self.fetch {
            Some(fetch) => (&fetch.order[self.span.clone()], &fetch.records),
            None => (&[], &[]),
        };
        order.iter().map(move |index| &records[*index as usize])
    }

    /// The records of the run that no logic is to see, with what becomes of them, in the order of the shard.
    pub fn set_aside(&self) -> impl Iterator<Item = (&Record, Fate)> {
        let (asides, records): (&[Aside], &[Record]) = match &self.fetch {
            Some(fetch) => (&fetch.asides[self.asides.clone()], &fetch.records),
            None => (&[], &[]),
        };
        asides.iter().map(move |aside| (&records[aside.index as usize], aside.fate))
    }

    /// How many records of the run logic is to see.
    pub fn len(&self) -> usize {
        self.span.len()
    }

    /// Whether the run has no records of either kind, and only says that there were none.
    pub fn is_empty(&self) -> bool {
        self.span.is_empty() && self.asides.is_empty() && self.gap.is_none()
    }

    /// How many records of the run begin as an aggregate and are none.
    pub fn malformed(&self) -> u64 {
        let any = self.fetch.as_ref().is_some_and(|fetch| !fetch.malformed.is_empty());
        if any { (0..self.len()).filter(|at| self.is_malformed(*at)).count() as u64 } else { 0 }
    }

    /// Whether a record, by its place in the run, begins as an aggregate and is none.
    pub fn is_malformed(&self, at: usize) -> bool {
        let fetch = self.fetch.as_ref().filter(|fetch| !fetch.malformed.is_empty());
        fetch.is_some_and(|fetch| fetch.malformed.binary_search(&fetch.order[self.span.start + at]).is_ok())
    }

    /// What the run weighs in a mailbox, in bytes.
    pub fn weight(&self) -> usize {
        let asides = self.set_aside().map(|(record, _)| record.weight());
        size_of::<Self>() + self.records().map(Record::weight).sum::<usize>() + asides.sum::<usize>()
    }

    /// Forgets what a position covers: it was taken before.
    pub fn skip_to(&mut self, taken: Position) {
        self.span.start += self.records().take_while(|record| taken.covers(record.place)).count();
        self.asides.start += self.set_aside().take_while(|(record, _)| taken.covers(record.place)).count();
        self.after = taken;
    }

    /// Cuts the first `take` records off, with what was set aside before the next; nothing if that is none.
    pub fn split_front(&mut self, take: usize) -> Option<Self> {
        let last = self.records().nth(take.checked_sub(1)?)?.place;
        let next = self.records().nth(take).map(|record| record.place.sequence);
        let mut front = self.clone();
        front.span.end = front.span.start + take;
        // What follows at the same number, if anything, is others'.
        front.up_to = match next == Some(last.sequence) {
            true => Position::After(last),
            false => Position::after_all_of(last.sequence),
        };
        let asides = self.set_aside().take_while(|(record, _)| front.up_to.covers(record.place)).count();
        front.asides.end = front.asides.start + asides;
        // More of the run is unread, so its bound on what follows does not hold in its midst.
        front.unread_from_ms = 0;
        self.span.start = front.span.end;
        self.asides.start = front.asides.end;
        self.after = front.up_to;
        Some(front)
    }
}
