//! What is packed is taken apart as it was; what is damaged is a plain record, whole.

use bytes::Bytes;
use pelton_core::aggregate::{AggregatedRecord, Tag, UserRecord, has_magic, id_text, pack, parse_id, unpack};
use pelton_core::output::Package;
use pelton_fuzz::packing;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message as _;

use crate::arbitrary::{bytes, hash, output_id, text};
use crate::check;

fn package() -> impl Strategy<Value = Package> {
    (text(), text(), vec((output_id(), bytes(50)), 1..20)).prop_map(|(output, partition_key, entries)| Package {
        output,
        partition_key,
        entries,
    })
}

/// Records of which some refer to a key that is not there, or to a hash key that is none.
fn aggregated() -> impl Strategy<Value = AggregatedRecord> {
    let hash_key = prop_oneof![hash().prop_map(|hash| hash.0.to_string()), Just(format!("{}0", u128::MAX)), text()];
    let tag = (text(), option::of(text())).prop_map(|(key, value)| Tag { key, value });
    let record = (0..5u64, option::of(0..5u64), bytes(30), vec(tag, 0..3)).prop_map(|(key, chosen, data, tags)| {
        UserRecord { partition_key_index: key, explicit_hash_key_index: chosen, data, tags }
    });
    (vec(text(), 3..6), vec(hash_key, 2..6), vec(record, 0..12)).prop_map(|(keys, hash_keys, records)| {
        AggregatedRecord { partition_key_table: keys, explicit_hash_key_table: hash_keys, records }
    })
}

/// Whether all that a record refers to is there, and a hash key is a number of 128 bits.
fn refers_well(aggregate: &AggregatedRecord, record: &UserRecord) -> bool {
    let hash_key = |index: u64| aggregate.explicit_hash_key_table.get(index as usize);
    let is_hash_key = |text: &String| text.parse::<u128>().is_ok();
    record.partition_key_index < aggregate.partition_key_table.len() as u64
        && record.explicit_hash_key_index.is_none_or(|index| hash_key(index).is_some_and(is_hash_key))
}

#[test]
fn what_is_packed_is_taken_apart_as_it_was() {
    check(2_000, package(), |package| {
        let packed = pack(&package);
        let weight = package.weight();
        assert!(packed.len() <= weight + 64, "{} bytes for a weight of {weight}", packed.len());
        let aggregate = unpack(&packed).expect("it is whole");
        assert!(aggregate.records.iter().all(|user| aggregate.partition_key(user) == Some(&package.partition_key)));
        let came = aggregate.records.iter().map(|user| (user.output_id().expect("it was named"), user.data.clone()));
        assert_eq!(came.collect::<Vec<_>>(), package.entries);
    });
}

#[test]
fn an_aggregate_is_taken_apart_only_if_all_of_it_makes_sense() {
    check(5_000, aggregated(), |aggregate| {
        let packed = Bytes::from(packing::aggregate(&aggregate.encode_to_vec()));
        match aggregate.records.iter().all(|record| refers_well(&aggregate, record)) {
            true => assert_eq!(unpack(&packed), Some(aggregate)),
            false => assert_eq!(unpack(&packed), None),
        }
        pelton_fuzz::kpl(&packed);
    });
}

#[test]
fn a_damaged_aggregate_is_a_plain_record() {
    check(2_000, (package(), any::<Index>(), 0..8u8), |(package, at, bit)| {
        let packed = pack(&package);
        let at = at.index(packed.len());
        let mut damaged = packed.to_vec();
        damaged[at] ^= 1 << bit;
        assert_eq!(unpack(&damaged.clone().into()), None, "bit {bit} of byte {at}");
        assert_eq!(unpack(&packed.slice(..at)), None, "cut to {at} bytes");
        assert_eq!(has_magic(&damaged), at >= 4);
        pelton_fuzz::kpl(&damaged);
    });
}

/// One key of so many bytes, and so many records that have it.
fn of_one_key(key_bytes: usize, records: usize) -> Option<usize> {
    let user = UserRecord { partition_key_index: 0, explicit_hash_key_index: None, data: "x".into(), tags: Vec::new() };
    let aggregate = AggregatedRecord {
        partition_key_table: vec!["k".repeat(key_bytes)],
        explicit_hash_key_table: Vec::new(),
        records: vec![user; records],
    };
    let packed = packing::aggregate(&aggregate.encode_to_vec());
    assert!(packed.len() < 1 << 20, "{} bytes are no record", packed.len());
    unpack(&packed.into()).map(|aggregate| aggregate.records.len())
}

#[test]
fn one_long_key_for_many_records_does_not_take_all_memory() {
    assert_eq!(of_one_key(256, 100_000), Some(100_000));
    assert_eq!(of_one_key(1 << 16, 1 << 10), Some(1 << 10));
    assert_eq!(of_one_key(1 << 16, (1 << 10) + 1), None);
    assert_eq!(of_one_key(500_000, 70_000), None);
}

#[test]
fn any_bytes_are_a_record() {
    check(5_000, bytes(200), |data| pelton_fuzz::kpl(&data));
}

#[test]
fn an_id_has_one_spelling() {
    check(2_000, output_id(), |id| assert_eq!(parse_id(&id_text(&id)), Some(id)));
    let nearly = "[+0-9a-fA-F]{32}/[+0-9]{1,3}/[+0-9]{1,3}/[+0-9]{1,3}";
    check(5_000, nearly, |text| {
        if let Some(id) = parse_id(&text) {
            assert_eq!(id_text(&id), text);
        }
    });
}
