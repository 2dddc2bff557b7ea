//! KPL aggregates, put together by a test: with records for any shard, whole or damaged.

use bytes::Bytes;
use md5::{Digest as _, Md5};
use pelton_core::aggregate::{AggregatedRecord, UserRecord};
use pelton_core::slice::HashKey;
use prost::Message as _;

/// One record of an aggregate.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its partition key.
    pub key: String,
    /// The hash key that its producer chose, if it chose one.
    pub chosen: Option<HashKey>,
    /// Its payload.
    pub data: Vec<u8>,
}

/// A record without a hash key of its own.
pub fn part(key: &str, data: &str) -> Part {
    Part { key: key.into(), chosen: None, data: data.into() }
}

/// The aggregate of these records.
pub fn aggregate(parts: &[Part]) -> Vec<u8> {
    let mut message = AggregatedRecord::default();
    for part in parts {
        message.partition_key_table.push(part.key.clone());
        let explicit_hash_key_index = part.chosen.map(|HashKey(chosen)| {
            message.explicit_hash_key_table.push(chosen.to_string());
            message.explicit_hash_key_table.len() as u64 - 1
        });
        let partition_key_index = message.partition_key_table.len() as u64 - 1;
        let data = Bytes::copy_from_slice(&part.data);
        message.records.push(UserRecord { partition_key_index, explicit_hash_key_index, data, tags: Vec::new() });
    }
    let message = message.encode_to_vec();
    [&[0xF3, 0x89, 0x9A, 0xC2][..], &message, &Md5::digest(&message)].concat()
}

/// The same, and no aggregate: its digest is wrong.
pub fn damaged(parts: &[Part]) -> Vec<u8> {
    let mut damaged = aggregate(parts);
    *damaged.last_mut().expect("it ends with a digest") ^= 1;
    damaged
}
