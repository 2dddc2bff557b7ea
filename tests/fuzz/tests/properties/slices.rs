//! Every hash key has one task, and whatever a shard delivers goes to one, in its order.

use std::collections::BTreeSet;

use pelton_core::aggregate::unpack;
use pelton_core::id::TaskId;
use pelton_core::policy::{Fate, Oddity, OutOfRange, Policies};
use pelton_core::position::RecordPlace;
use pelton_core::record::Record;
use pelton_core::route::{RouteRules, Routed, route};
use pelton_core::sequence::SequenceNumber;
use pelton_core::slice::{HashRange, TaskCount};
use pelton_fuzz::packing;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use crate::arbitrary::{bytes, hash, policies, range, task_count, text};
use crate::check;

#[test]
fn a_hash_key_has_one_task_and_lies_in_its_slice() {
    check(20_000, (task_count(), hash()), |(tasks, hash)| {
        let owner = tasks.task_of(hash);
        let slice = tasks.slice(owner);
        assert!(slice.contains(hash));
        // Slices follow one another without a hole, so no other has it.
        let before = owner.0.checked_sub(1).map(|task| tasks.slice(TaskId(task)).end.0);
        assert_eq!(before, slice.start.0.checked_sub(1));
        let after = (u32::from(owner.0) + 1 < tasks.get()).then(|| tasks.slice(TaskId(owner.0 + 1)).start.0);
        assert_eq!(after, slice.end.0.checked_add(1));
        for edge in [slice.start, slice.end] {
            assert_eq!(tasks.task_of(edge), owner);
        }
    });
}

/// The home task of a range is the only one that owns its first hash key, so what no logic is to see has one owner.
#[test]
fn a_range_is_shared_by_neighbours_of_which_one_is_its_home() {
    check(2_000, (1..200u32, range()), |(tasks, range)| {
        let tasks = TaskCount::new(tasks).unwrap();
        let touching: Vec<TaskId> = tasks.tasks().filter(|task| tasks.slice(*task).touches(&range)).collect();
        let (first, last) = (tasks.task_of(range.start), tasks.task_of(range.end));
        assert_eq!(touching, (first.0..=last.0).map(TaskId).collect::<Vec<_>>());
        let homes = touching.iter().filter(|task| tasks.slice(**task).contains(range.start));
        assert_eq!(homes.count(), 1);
        let width: u128 = touching
            .iter()
            .map(|task| tasks.slice(*task).common(&range).unwrap())
            .map(|common| common.end.0 - common.start.0)
            .sum();
        assert_eq!(width + (touching.len() - 1) as u128, range.end.0 - range.start.0);
    });
}

/// What a shard delivers: data with their keys, plain or several in an aggregate.
fn delivered() -> impl Strategy<Value = Vec<Record>> {
    let chosen = || proptest::option::of(hash());
    let aggregate = vec((text(), chosen(), bytes(10)), 0..6).prop_map(|parts| {
        let mut message = pelton_core::aggregate::AggregatedRecord::default();
        for (at, (key, chosen, data)) in parts.into_iter().enumerate() {
            message.partition_key_table.push(key);
            message.explicit_hash_key_table.push(chosen.map_or_else(String::new, |hash| hash.0.to_string()));
            message.records.push(pelton_core::aggregate::UserRecord {
                partition_key_index: at as u64,
                explicit_hash_key_index: chosen.map(|_| at as u64),
                data,
                tags: Vec::new(),
            });
        }
        ("a".to_owned(), packing::aggregate(&message.encode_to_vec()).into())
    });
    let malformed = bytes(20).prop_map(|rest| [&[0xF3, 0x89, 0x9A, 0xC2][..], &rest].concat().into());
    let record = prop_oneof![(text(), bytes(10)), aggregate, (text(), malformed)];
    vec(record, 0..30).prop_map(|records| {
        let record = |(number, (partition_key, data))| Record {
            place: RecordPlace { sequence: SequenceNumber([0, 0, number]), sub_sequence: 0 },
            arrived_ms: number,
            partition_key,
            data,
            output: None,
        };
        (1..).zip(records).map(record).collect()
    })
}

/// What should come of these, taken apart in the plainest way: place, key and data of each.
fn apart(records: &[Record]) -> Vec<Record> {
    let mut apart = Vec::new();
    for record in records {
        let Some(aggregate) = unpack(&record.data) else {
            apart.push(record.clone());
            continue;
        };
        for (at, user) in aggregate.records.iter().enumerate() {
            apart.push(Record {
                place: RecordPlace { sub_sequence: at as u64, ..record.place },
                partition_key: aggregate.partition_key(user).unwrap().to_owned(),
                data: user.data.clone(),
                ..record.clone()
            });
        }
    }
    apart
}

fn check_owners(routed: &Routed, range: HashRange, tasks: TaskCount, policies: Policies) {
    let home = tasks.task_of(range.start);
    for (task, span) in &routed.spans {
        for index in &routed.fetch.order[span.clone()] {
            let hash = routed.fetch.records[*index as usize].hash();
            let owner = match policies.out_of_range {
                OutOfRange::Process if !range.contains(hash) => home,
                OutOfRange::DeadLetter | OutOfRange::Drop if !range.contains(hash) => {
                    panic!("a record out of range is given to task {task}")
                }
                OutOfRange::DeadLetter | OutOfRange::Drop | OutOfRange::Process | OutOfRange::ReadAll => {
                    tasks.task_of(hash)
                }
            };
            assert_eq!(*task, owner, "by {policies:?}");
        }
    }
    for aside in &routed.fetch.asides {
        let hash = routed.fetch.records[aside.index as usize].hash();
        let (Fate::DeadLetter(oddity) | Fate::Drop(oddity)) = aside.fate;
        assert!(oddity != Oddity::OutOfRange || !range.contains(hash), "a record in range is set aside as out of it");
    }
}

#[test]
fn routing_keeps_order_and_loses_nothing() {
    let tasks = 1..300u32;
    check(3_000, (delivered(), range(), tasks, policies()), |(records, range, tasks, policies)| {
        let tasks = TaskCount::new(tasks).unwrap();
        let expected = apart(&records);
        let rules = RouteRules { tasks, policies, from_job: false };
        let routed = route(range, &rules, records);
        assert_eq!(routed.fetch.records, expected);
        let mut end = 0;
        for (task, span) in &routed.spans {
            assert_eq!(span.start, end, "task {task} begins elsewhere than the one before ends");
            assert!(!span.is_empty() && routed.fetch.order[span.clone()].is_sorted(), "task {task} is out of order");
            end = span.end;
        }
        assert_eq!(end, routed.fetch.order.len());
        assert!(routed.spans.is_sorted_by(|a, b| a.0 < b.0), "a task has two spans");
        assert!(routed.fetch.asides.is_sorted_by(|a, b| a.index < b.index));
        let asides = routed.fetch.asides.iter().map(|aside| aside.index);
        let all: Vec<u32> = routed.fetch.order.iter().copied().chain(asides).collect();
        assert_eq!(all.len(), expected.len(), "a record is there twice, or lost");
        assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), expected.len());
        check_owners(&routed, range, tasks, policies);
    });
}

#[test]
fn a_sequence_number_comes_back_as_it_came_and_compares_as_a_number() {
    let texts = || "[1-9][0-9]{0,57}";
    check(5_000, (texts(), texts()), |(a, b)| {
        let parsed = |text: &str| text.parse::<SequenceNumber>();
        // 2^192 has 58 digits.
        assert!(a.len() > 57 || parsed(&a).is_ok(), "{a} is refused");
        if let (Ok(first), Ok(second)) = (parsed(&a), parsed(&b)) {
            assert_eq!((first.to_string(), second.to_string()), (a.clone(), b.clone()));
            assert_eq!(first.cmp(&second), a.len().cmp(&b.len()).then(a.cmp(&b)));
        }
    });
    check(5_000, text(), |text| {
        if let Ok(number) = text.parse::<SequenceNumber>() {
            assert_eq!(number.to_string(), text);
        }
    });
}
