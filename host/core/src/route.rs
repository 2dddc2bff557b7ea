//! The router: sorts the records of one fetch by the tasks that own their partition keys, once, keeping their order and
//! sharing their bytes. What is for no task's logic to see is set aside for the shard's home task.

use std::ops::Range;

use crate::id::{ShardKey, TaskId};
use crate::position::RecordPlace;
use crate::record::{Fetch, Record, SetAside};
use crate::slice::{HashRange, TaskCount};

/// First bytes of a KPL aggregate.
const AGGREGATE_MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// A KPL aggregate ends with the MD5 of what is between it and the magic.
const AGGREGATE_DIGEST_BYTES: usize = 16;

/// A fetch sorted by task.
#[derive(Debug)]
pub struct Routed {
    /// The records, in order, and their grouping.
    pub fetch: Fetch,
    /// For each task with records here, in order of tasks, which of the fetch's `order` are its.
    pub spans: Vec<(TaskId, Range<usize>)>,
    /// The first record set aside, and why.
    pub set_aside: Option<(RecordPlace, SetAside)>,
}

/// Sorts records of a shard by task. What is set aside is nobody's: the run of the shard's home task ends before the first
/// of it, and the other tasks go on.
pub fn route(shard: ShardKey, range: HashRange, tasks: TaskCount, records: Vec<Record>) -> Routed {
    let mut owners: Vec<u32> = Vec::with_capacity(records.len());
    let mut counts = vec![0u32; tasks.get() as usize + 1];
    let mut set_aside = None;
    for record in &records {
        let hash = record.hash();
        let aside = if is_aggregate(&record.data) {
            Some(SetAside::Aggregate)
        } else {
            (!range.contains(hash)).then_some(SetAside::Stray)
        };
        if let Some(kind) = aside {
            set_aside = set_aside.or(Some((record.place, kind)));
            owners.push(u32::MAX);
            continue;
        }
        let owner = u32::from(tasks.task_of(hash).0);
        owners.push(owner);
        counts[owner as usize + 1] += 1;
    }
    let mut spans = Vec::new();
    let mut start = 0;
    for (task, count) in tasks.tasks().zip(counts[1..].iter()) {
        if *count > 0 {
            spans.push((task, start..start + *count as usize));
            start += *count as usize;
        }
    }
    let mut next = counts;
    for task in 1..next.len() {
        next[task] += next[task - 1];
    }
    let mut order = vec![0u32; start];
    for (index, owner) in owners.iter().enumerate().filter(|(_, owner)| **owner != u32::MAX) {
        let slot = &mut next[*owner as usize];
        order[*slot as usize] = index as u32;
        *slot += 1;
    }
    Routed { fetch: Fetch { shard, records, order }, spans, set_aside }
}

/// Whether data claims to be a KPL aggregate: the magic, and room for a digest behind it.
fn is_aggregate(data: &[u8]) -> bool {
    data.len() > AGGREGATE_MAGIC.len() + AGGREGATE_DIGEST_BYTES && data.starts_with(&AGGREGATE_MAGIC)
}
