//! The router: sorts the records of one fetch by the tasks that own their partition keys, once, keeping their order and
//! sharing their bytes. What is for no task's logic to see is set aside for the shard's home task.

use std::ops::Range;

use md5::{Digest as _, Md5};

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

/// Whether data is a KPL aggregate: the magic, a message, and the message's digest. What only begins like one is plain.
fn is_aggregate(data: &[u8]) -> bool {
    let Some(rest) = data.strip_prefix(&AGGREGATE_MAGIC) else { return false };
    let message = rest.len().checked_sub(AGGREGATE_DIGEST_BYTES).filter(|length| *length > 0);
    message.is_some_and(|length| Md5::digest(&rest[..length]).as_slice() == &rest[length..])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::StreamIndex;
    use crate::slice::HashKey;

    const RANGE: HashRange = HashRange { start: HashKey(0), end: HashKey(u128::MAX / 2) };

    fn record(number: u64, key: &str, data: &[u8]) -> Record {
        let place = RecordPlace { sequence: crate::sequence::SequenceNumber([0, 0, number]), sub_sequence: 0 };
        Record { place, arrived_ms: 0, partition_key: key.into(), data: Bytes::copy_from_slice(data) }
    }

    fn routed(records: Vec<Record>) -> Routed {
        let shard = ShardKey { stream: StreamIndex(0), shard: "shardId-000000000000".into() };
        route(shard, RANGE, TaskCount::new(16).unwrap(), records)
    }

    #[test]
    fn records_are_grouped_by_task_in_their_order() {
        let keys: Vec<String> =
            (0..200).map(|key| format!("key{key}")).filter(|key| RANGE.contains(HashKey::of(key))).collect();
        let records = (0..).zip(keys.iter().chain(&keys)).map(|(number, key)| record(number, key, b"data")).collect();
        let routed = routed(records);
        assert_eq!(routed.set_aside, None);
        assert_eq!(routed.fetch.order.len(), 2 * keys.len());
        for (task, span) in &routed.spans {
            let records: Vec<&Record> =
                routed.fetch.order[span.clone()].iter().map(|index| &routed.fetch.records[*index as usize]).collect();
            let tasks = TaskCount::new(16).unwrap();
            assert!(records.iter().all(|record| tasks.task_of(record.hash()) == *task));
            assert!(records.windows(2).all(|pair| pair[0].place < pair[1].place));
        }
    }

    #[test]
    fn strays_and_aggregates_are_nobodys_and_what_only_looks_like_one_is_plain() {
        let inside = (0..).map(|key| format!("in{key}")).find(|key| RANGE.contains(HashKey::of(key))).unwrap();
        let outside = (0..).map(|key| format!("out{key}")).find(|key| !RANGE.contains(HashKey::of(key))).unwrap();
        let mut aggregate = AGGREGATE_MAGIC.to_vec();
        aggregate.extend_from_slice(b"message");
        aggregate.extend_from_slice(&Md5::digest(b"message"));
        let mut damaged = aggregate.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for (data, key, expected) in [
            (&b"plain"[..], &inside, None),
            (&damaged, &inside, None),
            (&aggregate, &inside, Some(SetAside::Aggregate)),
            (&b"plain"[..], &outside, Some(SetAside::Stray)),
        ] {
            let routed = routed(vec![record(1, &inside, b"first"), record(2, key, data)]);
            assert_eq!(routed.set_aside.map(|(_, kind)| kind), expected, "{key}");
            assert_eq!(routed.fetch.order.len(), if expected.is_some() { 1 } else { 2 });
        }
    }
}
