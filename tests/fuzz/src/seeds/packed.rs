//! Aggregates and snapshots.

use bytes::Bytes;
use pelton_core::aggregate::{AggregatedRecord, ID_TAG, Tag, UserRecord, pack};
use pelton_core::id::{CommitNumber, Incarnation, TaskId};
use pelton_core::output::{OutputId, Package};
use prost::Message as _;

use crate::packing;

fn user(key: u64, chosen: Option<u64>, data: &str) -> UserRecord {
    let data = Bytes::copy_from_slice(data.as_bytes());
    UserRecord { partition_key_index: key, explicit_hash_key_index: chosen, data, tags: Vec::new() }
}

fn aggregate(keys: &[&str], chosen: &[&str], records: Vec<UserRecord>) -> Vec<u8> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let message =
        AggregatedRecord { partition_key_table: texts(keys), explicit_hash_key_table: texts(chosen), records };
    packing::aggregate(&message.encode_to_vec())
}

pub fn aggregates() -> Vec<(&'static str, Vec<u8>)> {
    let id = OutputId {
        incarnation: Incarnation([7; 16]),
        task: TaskId(3),
        commit: CommitNumber(9),
        index: 1,
        rewind: None,
    };
    let entries = vec![(id, "one".into()), (OutputId { index: 2, ..id }, "two".into())];
    let outputs = pack(&Package { output: "out".into(), partition_key: "k".into(), entries }).to_vec();
    let tagged = |key: &str, value: Option<&str>| {
        let tags = vec![Tag { key: key.into(), value: value.map(str::to_owned) }];
        aggregate(&["a"], &[], vec![UserRecord { tags, ..user(0, None, "x") }])
    };
    let mut damaged = outputs.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let all = "340282366920938463463374607431768211455";
    vec![
        ("outputs-of-a-job", outputs.clone()),
        ("wrong-digest", damaged),
        ("cut-short", outputs[..outputs.len() - 3].to_vec()),
        ("magic-alone", outputs[..4].to_vec()),
        ("plain", b"plain data".to_vec()),
        ("one-key-for-many", aggregate(&["a"], &[], (0..20).map(|_| user(0, None, "data")).collect())),
        ("hash-keys", aggregate(&["a", "b"], &["0", all], vec![user(0, Some(1), ""), user(1, Some(0), "x")])),
        ("hash-key-too-large", aggregate(&["a"], &[&format!("{all}0")], vec![user(0, Some(0), "x")])),
        ("hash-key-absent", aggregate(&["a"], &[], vec![user(0, Some(0), "x")])),
        ("partition-key-absent", aggregate(&["a"], &[], vec![user(0, None, "x"), user(1, None, "y")])),
        ("key-index-of-64-bits", aggregate(&["a"], &[], vec![user(u64::MAX, None, "x")])),
        ("no-records", aggregate(&["a"], &[], Vec::new())),
        ("empty-message", packing::aggregate(b"")),
        ("tag-without-value", tagged(ID_TAG, None)),
        ("tag-of-another", tagged("trace", Some("1"))),
        ("id-in-capitals", tagged(ID_TAG, Some(&format!("{}/3/9/1", "AB".repeat(16))))),
        ("id-with-signs", tagged(ID_TAG, Some(&format!("{}/+3/09/1", "+a".repeat(16))))),
        // Field 15 of the message, and a record without its data.
        ("unknown-field", packing::aggregate(b"\x0a\x01a\x1a\x05\x08\x00\x1a\x01x\x78\x01")),
        ("record-without-data", packing::aggregate(b"\x0a\x01a\x1a\x02\x08\x00")),
        ("group", packing::aggregate(b"\x0a\x01a\x7b\x08\x01\x7c\x1a\x05\x08\x00\x1a\x01x")),
        ("key-that-is-no-text", packing::aggregate(b"\x0a\x01\xff\x1a\x05\x08\x00\x1a\x01x")),
    ]
}

pub fn snapshots() -> Vec<(&'static str, Vec<u8>)> {
    let contents = |entries: &[(&[u8], &[u8])]| -> Vec<u8> {
        entries.iter().flat_map(|(key, value)| packing::snapshot_entry(key, value)).collect()
    };
    let three = contents(&[(b"\x00c", &7u64.to_be_bytes()), (b"\x01a", b""), (b"\x01b", b"value")]);
    vec![
        ("three-entries", three.clone()),
        ("a-part", packing::part(&three)),
        ("cut-short", three[..three.len() - 2].to_vec()),
        ("long-value", contents(&[(b"\x01a", &[b'v'; 2_000])])),
        ("falling-keys", contents(&[(b"\x01b", b"1"), (b"\x01a", b"2")])),
        ("key-twice", contents(&[(b"\x01a", b"1"), (b"\x01a", b"2")])),
        ("empty-key", contents(&[(b"", b"1"), (b"\x01a", b"2")])),
        ("length-without-end", [&u32::MAX.to_le_bytes()[..], &u32::MAX.to_le_bytes(), b"key"].concat()),
    ]
}
