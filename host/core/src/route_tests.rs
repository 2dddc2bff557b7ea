//! Records judged and sorted, of a shard that holds the lower half of the hash space, for 16 tasks.

use bytes::Bytes;

use super::*;
use crate::aggregate::UserRecord;
use crate::sequence::SequenceNumber;

const RANGE: HashRange = HashRange { start: HashKey(0), end: HashKey(u128::MAX / 2) };
const UPPER: u128 = 1 << 127;

fn place(number: u64) -> RecordPlace {
    RecordPlace { sequence: SequenceNumber([0, 0, number]), sub_sequence: 0 }
}

fn record(number: u64, key: &str, data: impl Into<Bytes>) -> Record {
    Record { place: place(number), arrived_ms: 0, partition_key: key.into(), data: data.into(), output: None }
}

fn routed(policies: Policies, records: Vec<Record>) -> Routed {
    let rules = RouteRules { tasks: TaskCount::new(16).unwrap(), policies, from_job: false };
    route(RANGE, &rules, records)
}

/// A key of the shard, or one of the other.
fn key(inside: bool, nth: usize) -> String {
    let mut keys = (0..).map(|key| format!("key{key}")).filter(|key| RANGE.contains(HashKey::of(key)) == inside);
    keys.nth(nth).unwrap()
}

/// An aggregate of keys, each with a chosen hash key or none.
fn packed(parts: &[(String, Option<u128>)]) -> Bytes {
    use md5::{Digest as _, Md5};
    use prost::Message as _;

    let mut aggregate = AggregatedRecord::default();
    for (at, (key, chosen)) in parts.iter().enumerate() {
        aggregate.partition_key_table.push(key.clone());
        aggregate.explicit_hash_key_table.push(chosen.unwrap_or_default().to_string());
        aggregate.records.push(UserRecord {
            partition_key_index: at as u64,
            explicit_hash_key_index: chosen.map(|_| at as u64),
            data: Bytes::from(vec![at as u8]),
            tags: Vec::new(),
        });
    }
    let message = aggregate.encode_to_vec();
    [&[0xF3, 0x89, 0x9A, 0xC2][..], &message, &Md5::digest(&message)].concat().into()
}

#[test]
fn records_are_grouped_by_task_in_their_order() {
    let keys: Vec<String> = (0..100).map(|nth| key(true, nth)).collect();
    let records = (0..).zip(keys.iter().chain(&keys)).map(|(number, key)| record(number, key, "data")).collect();
    let routed = routed(Policies::default(), records);
    assert!(routed.fetch.asides.is_empty() && routed.fetch.malformed.is_empty());
    assert_eq!(routed.fetch.order.len(), 2 * keys.len());
    for (task, span) in &routed.spans {
        let records: Vec<&Record> =
            routed.fetch.order[span.clone()].iter().map(|index| &routed.fetch.records[*index as usize]).collect();
        let tasks = TaskCount::new(16).unwrap();
        assert!(records.iter().all(|record| tasks.task_of(record.hash()) == *task));
        assert!(records.windows(2).all(|pair| pair[0].place < pair[1].place));
    }
}

/// Says of each record which task has it, or what becomes of it: of a plain record of the shard, one of the other, then an
/// aggregate of one of the shard, one with a hash chosen outside, one of another shard, one of another with a hash inside.
fn check(out_of_range: OutOfRange, aggregates: Aggregates, expected: &str) {
    let parts = [(key(true, 1), None), (key(true, 2), Some(UPPER)), (key(false, 1), None), (key(false, 2), Some(0))];
    let records = vec![record(1, &key(true, 0), "p"), record(2, &key(false, 0), "p"), record(3, "a", packed(&parts))];
    let routed = routed(Policies { out_of_range, aggregates }, records);
    let tasks = TaskCount::new(16).unwrap();
    let says = |(index, record): (usize, &Record)| {
        let aside = routed.fetch.asides.iter().find(|aside| aside.index as usize == index);
        let owner = routed.spans.iter().find(|(_, span)| routed.fetch.order[span.clone()].contains(&(index as u32)));
        match (aside.map(|aside| aside.fate), owner) {
            (Some(Fate::DeadLetter(oddity)), None) => format!("dead:{}", oddity.name()),
            (Some(Fate::Drop(oddity)), None) => format!("drop:{}", oddity.name()),
            (None, Some((owner, _))) if *owner == tasks.task_of(record.hash()) => "own".into(),
            (None, Some((TaskId(0), _))) => "home".into(),
            both => panic!("{both:?}"),
        }
    };
    let said: Vec<String> = routed.fetch.records.iter().enumerate().map(says).collect();
    assert_eq!(said.join(" "), expected, "{out_of_range} {aggregates}");
}

#[test]
fn each_policy_says_what_becomes_of_what_is_odd() {
    use {Aggregates as A, OutOfRange as O};
    let stray = "dead:out-of-range";
    check(O::DeadLetter, A::DeadLetter, &format!("own {stray} own dead:stray dead:stray {stray}"));
    check(O::DeadLetter, A::PerSubRecord, &format!("own {stray} own drop:stray drop:stray {stray}"));
    let dropped = "drop:with-stray drop:stray drop:stray drop:with-stray";
    check(O::DeadLetter, A::KclCompatible, &format!("own {stray} {dropped}"));
    check(O::DeadLetter, A::AcceptAll, &format!("own {stray} own own {stray} {stray}"));
    let dropped = "drop:out-of-range";
    check(O::Drop, A::AcceptAll, &format!("own {dropped} own own {dropped} {dropped}"));
    check(O::Process, A::AcceptAll, "own home own own home home");
    check(O::Process, A::PerSubRecord, "own home own drop:stray drop:stray home");
    check(O::ReadAll, A::AcceptAll, "own own own own own own");
    check(O::ReadAll, A::DeadLetter, "own own own dead:stray dead:stray own");
}

#[test]
fn records_of_an_aggregate_stand_at_their_places_and_a_damaged_one_is_plain() {
    let parts: Vec<_> = (0..3).map(|nth| (key(true, nth), None)).collect();
    let mut damaged = packed(&parts).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let inside = key(true, 0);
    let records = vec![record(1, &inside, damaged), record(2, "a", packed(&parts)), record(3, &inside, "p")];
    let routed = routed(Policies::default(), records);
    let places: Vec<String> = routed.fetch.records.iter().map(|record| record.place.to_string()).collect();
    assert_eq!(places, ["1/0", "2/0", "2/1", "2/2", "3/0"]);
    assert_eq!(routed.fetch.malformed, [0]);
    assert_eq!(routed.fetch.order.len(), 5);
}
