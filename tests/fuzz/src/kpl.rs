//! Aggregates: taken apart whole, or plain records. Whatever a shard delivers is accounted for, in its order.

use bytes::Bytes;
use pelton_core::aggregate::{has_magic, id_text, unpack};
use pelton_core::policy::{Aggregates, OutOfRange, Policies};
use pelton_core::position::RecordPlace;
use pelton_core::record::Record;
use pelton_core::route::{RouteRules, route};
use pelton_core::sequence::SequenceNumber;
use pelton_core::slice::{HashKey, HashRange, TaskCount};

use crate::{mutate, packing};

/// The data of a Kinesis record, or the message of an aggregate.
pub fn kpl(data: &[u8]) {
    check(&Bytes::copy_from_slice(data));
    let message = packing::aggregate_message(data).unwrap_or(data);
    check(&packing::aggregate(message).into());
}

fn check(data: &Bytes) {
    let aggregate = unpack(data);
    if let Some(aggregate) = &aggregate {
        let message = packing::aggregate_message(data).expect("only an aggregate is taken apart");
        assert_eq!(Some(aggregate.records.len()), records_in(message), "the message has other records");
        for record in &aggregate.records {
            assert!(aggregate.partition_key(record).is_some(), "{record:?} has no key");
            let chosen = record.explicit_hash_key_index;
            assert!(chosen.is_none() || aggregate.explicit_hash_key(record).is_some(), "{record:?} has no hash key");
            if let Some(id) = record.output_id() {
                let text = id_text(&id);
                assert!(record.tags.iter().any(|tag| tag.value.as_deref() == Some(&text)), "{record:?} is not {text}");
            }
        }
        for at in mutate::places(data, 8) {
            assert!(unpack(&data.slice(..at)).is_none(), "cut to {at} bytes it is an aggregate");
            assert!(unpack(&mutate::flipped(data, at)).is_none(), "with byte {at} changed it is an aggregate");
        }
    }
    let parts: Option<Vec<Bytes>> =
        aggregate.map(|aggregate| aggregate.records.into_iter().map(|user| user.data).collect());
    for policies in [
        Policies::default(),
        Policies { out_of_range: OutOfRange::Process, aggregates: Aggregates::AcceptAll },
        Policies { out_of_range: OutOfRange::Drop, aggregates: Aggregates::KclCompatible },
    ] {
        check_routed(data, parts.as_deref(), policies);
    }
}

/// Routed between two plain records, the data's own records stand between them, each once.
fn check_routed(data: &Bytes, parts: Option<&[Bytes]>, policies: Policies) {
    let record = |number, data: Bytes| Record {
        place: RecordPlace { sequence: SequenceNumber([0, 0, number]), sub_sequence: 0 },
        arrived_ms: 0,
        partition_key: "a".into(),
        data,
        output: None,
    };
    let range = HashRange { start: HashKey(0), end: HashKey(u128::MAX / 2) };
    let tasks = TaskCount::new(7).unwrap();
    let rules = RouteRules { tasks, policies, from_job: true };
    let delivered = vec![record(1, "before".into()), record(2, data.clone()), record(3, "after".into())];
    let routed = route(range, &rules, delivered);
    let expected = match parts {
        Some(parts) => parts.to_vec(),
        None => vec![data.clone()],
    };
    let expected: Vec<Bytes> = [vec!["before".into()], expected, vec!["after".into()]].concat();
    let came: Vec<Bytes> = routed.fetch.records.iter().map(|record| record.data.clone()).collect();
    assert_eq!(came, expected, "other records than were delivered");
    assert!(routed.fetch.records.is_sorted_by(|a, b| a.place < b.place), "out of order");
    let malformed: &[u32] = if parts.is_none() && has_magic(data) { &[1] } else { &[] };
    assert_eq!(routed.fetch.malformed, malformed);
    let asides = routed.fetch.asides.iter().map(|aside| aside.index);
    let mut accounted: Vec<u32> = routed.fetch.order.iter().copied().chain(asides).collect();
    accounted.sort_unstable();
    assert!(accounted.into_iter().eq(0..expected.len() as u32), "a record is lost or there twice");
}

/// How many records a message has, counted apart from what decodes it; none when it does not hang together.
fn records_in(mut message: &[u8]) -> Option<usize> {
    let mut records = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match key & 7 {
            0 => drop(varint(&mut message)?),
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
                records += usize::from(key >> 3 == 3);
            }
            5 => message = message.get(4..)?,
            // Groups, which no writer of aggregates has: their contents are not counted.
            3 => skip_group(&mut message, key >> 3)?,
            _ => return None,
        }
    }
    Some(records)
}

fn skip_group(message: &mut &[u8], field: u64) -> Option<()> {
    loop {
        let key = varint(message)?;
        match key & 7 {
            0 => drop(varint(message)?),
            1 => *message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(message)?).ok()?;
                *message = message.get(length..)?;
            }
            3 => skip_group(message, key >> 3)?,
            4 if key >> 3 == field => return Some(()),
            5 => *message = message.get(4..)?,
            _ => return None,
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
