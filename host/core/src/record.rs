//! Records as readers deliver them, and runs: the part of one fetch that belongs to one task.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::id::ShardKey;
use crate::position::{Position, RecordPlace};
use crate::slice::HashKey;

/// One record of an input stream.
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
#[derive(Debug)]
pub struct Fetch {
    /// Where the records came from.
    pub shard: ShardKey,
    /// In the order of the shard.
    pub records: Vec<Record>,
    /// Indexes into `records`, grouped by task, in order within each.
    pub order: Vec<u32>,
}

/// Why a record is not for a task's logic to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetAside {
    /// Its partition key hashes outside the shard that delivered it.
    Stray,
    /// It is a KPL aggregate.
    Aggregate,
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
    /// The first record of the run that was set aside, which ends the run just before it.
    pub set_aside: Option<(RecordPlace, SetAside)>,
    /// Which shard.
    pub shard: ShardKey,
    /// The fetch that holds the records; none where the run has none.
    pub fetch: Option<Arc<Fetch>>,
    /// Which of the fetch's `order` are this run's.
    pub span: Range<usize>,
}

impl Run {
    /// The records of the run, in the order of the shard.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Record> + ExactSizeIterator {
        let (order, records): (&[u32], &[Record]) = match &self.fetch {
            Some(fetch) => (&fetch.order[self.span.clone()], &fetch.records),
            None => (&[], &[]),
        };
        order.iter().map(move |index| &records[*index as usize])
    }

    /// How many records the run has.
    pub fn len(&self) -> usize {
        self.span.len()
    }

    /// Whether the run has no records, and only says that there were none.
    pub fn is_empty(&self) -> bool {
        self.span.is_empty()
    }

    /// What the run weighs in a mailbox, in bytes.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.records().map(Record::weight).sum::<usize>()
    }
}
