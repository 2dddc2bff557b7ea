//! Producers that put what is odd: hash keys chosen by hand, aggregates good, stale and damaged.

use bytes::Bytes;
use md5::{Digest as _, Md5};
use pelton_core::aggregate::{AggregatedRecord, UserRecord};
use pelton_core::slice::{HashKey, HashRange};
use prost::Message as _;

use crate::kinesis::{Kinesis, Part, Put};
use crate::rng::Rng;

/// A record that a plain `PutRecord` would not make.
pub fn odd(rng: &mut Rng, kinesis: &mut Kinesis, stream: usize, keys: u64) -> Put {
    let range = kinesis.some_range(rng, stream);
    match rng.below(10) {
        0..=2 => {
            // The key is never used again: where it is folded, and when, is for the policies to say.
            let part = part(rng, kinesis, stream, keys, range, false);
            let hash = point(rng, range);
            Put { outer_key: part.key.clone(), hash, data: part.data.clone(), parts: vec![part], is_aggregate: false }
        }
        3 => damaged(rng, kinesis, range),
        _ => {
            let parts = rng.between(0, 6);
            let parts: Vec<Part> = (0..parts)
                .map(|_| {
                    let inside = rng.chance(7_000);
                    part(rng, kinesis, stream, keys, range, inside)
                })
                .collect();
            Put { outer_key: "a".into(), hash: point(rng, range), data: packed(&parts), parts, is_aggregate: true }
        }
    }
}

/// An aggregate sent again, as by a producer that knows of no reshard since: the same keys under the same outer hash key. What
/// is in it counts as new, under a name of its own, since nothing tells Kinesis or a job that it came before.
pub fn again(rng: &mut Rng, kinesis: &mut Kinesis, put: &Put) -> Put {
    let mut part = |part: &Part| {
        let data = kinesis.payload(&format!("{}~{}", part.key, rng.next()));
        Part { data, ..part.clone() }
    };
    let parts: Vec<Part> = put.parts.iter().map(&mut part).collect();
    Put { data: packed(&parts), parts, ..put.clone() }
}

/// A hash key of a range.
fn point(rng: &mut Rng, range: HashRange) -> HashKey {
    let random = u128::from(rng.next()) << 64 | u128::from(rng.next());
    let width = range.end.0 - range.start.0;
    HashKey(if width == u128::MAX { random } else { range.start.0 + random % (width + 1) })
}

/// A record of a range, of a key that others use too; or of a key of its own, anywhere. Now and then with a chosen hash key.
fn part(rng: &mut Rng, kinesis: &mut Kinesis, stream: usize, keys: u64, range: HashRange, inside: bool) -> Part {
    let usual: Vec<String> = (0..keys).map(|key| format!("s{stream}k{key}")).collect();
    let usual: Vec<&String> = usual.iter().filter(|key| range.contains(HashKey::of(key))).collect();
    let key = match usual.is_empty() || !inside {
        true => format!("x{}", rng.next()),
        false => usual[rng.below(usual.len() as u64) as usize].clone(),
    };
    let chosen = match rng.below(6) {
        0 => Some(point(rng, range)),
        1 => Some(point(rng, HashRange::ALL)),
        _ => None,
    };
    let data = kinesis.payload(&key);
    Part { key, chosen, data, output: None }
}

fn packed(parts: &[Part]) -> Bytes {
    let mut aggregate = AggregatedRecord::default();
    for part in parts {
        let (keys, chosen) = (&mut aggregate.partition_key_table, &mut aggregate.explicit_hash_key_table);
        keys.push(part.key.clone());
        chosen.extend(part.chosen.map(|HashKey(hash)| hash.to_string()));
        aggregate.records.push(UserRecord {
            partition_key_index: keys.len() as u64 - 1,
            explicit_hash_key_index: part.chosen.map(|_| chosen.len() as u64 - 1),
            data: part.data.clone(),
            tags: Vec::new(),
        });
    }
    if parts.is_empty() {
        // An aggregate of nothing still names a key.
        aggregate.partition_key_table.push("a".into());
    }
    let message = aggregate.encode_to_vec();
    [&MAGIC[..], &message, &Md5::digest(&message)].concat().into()
}

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];

/// What begins as an aggregate and is none: a plain record of a key of its own.
fn damaged(rng: &mut Rng, kinesis: &mut Kinesis, range: HashRange) -> Put {
    let key = format!("x{}", rng.next());
    let data: Bytes = [&MAGIC[..], &kinesis.payload(&key)].concat().into();
    let part = Part { key: key.clone(), chosen: None, data: data.clone(), output: None };
    Put { outer_key: key, hash: point(rng, range), data, parts: vec![part], is_aggregate: false }
}
