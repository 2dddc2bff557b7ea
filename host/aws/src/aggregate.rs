//! The aggregation format of the Kinesis Producer Library: several user records in one Kinesis record.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `F3 89 9A C2` |
//! | .. | the protobuf message [`AggregatedRecord`] |
//! | 16 | MD5 of the message's bytes |

use bytes::{BufMut as _, Bytes, BytesMut};
use md5::{Digest as _, Md5};
use pelton_core::output::{OutputId, Package};
use prost::Message as _;

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
const DIGEST_BYTES: usize = 16;
/// Key of the tag that carries an output's id.
pub const ID_TAG: &str = "pelton-id";

/// Several user records.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AggregatedRecord {
    /// Partition keys that records refer to.
    #[prost(string, repeated, tag = "1")]
    pub partition_key_table: Vec<String>,
    /// Explicit hash keys that records refer to, in decimal.
    #[prost(string, repeated, tag = "2")]
    pub explicit_hash_key_table: Vec<String>,
    /// In order.
    #[prost(message, repeated, tag = "3")]
    pub records: Vec<UserRecord>,
}

/// One user record.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserRecord {
    /// Index into the partition keys.
    #[prost(uint64, required, tag = "1")]
    pub partition_key_index: u64,
    /// Index into the explicit hash keys.
    #[prost(uint64, optional, tag = "2")]
    pub explicit_hash_key_index: Option<u64>,
    /// The payload.
    #[prost(bytes = "bytes", required, tag = "3")]
    pub data: Bytes,
    /// Words about it.
    #[prost(message, repeated, tag = "4")]
    pub tags: Vec<Tag>,
}

/// A word about a record.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tag {
    /// Its name.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// An output's id as text: incarnation, task, commit and index with slashes between.
pub fn id_text(id: &OutputId) -> String {
    format!("{}/{}/{}/{}", id.incarnation, id.task, id.commit, id.index)
}

/// Packs a package's outputs, each tagged with its id.
pub fn pack(package: &Package) -> Bytes {
    let record = |(id, data): &(OutputId, Bytes)| UserRecord {
        partition_key_index: 0,
        explicit_hash_key_index: None,
        data: data.clone(),
        tags: vec![Tag { key: ID_TAG.into(), value: Some(id_text(id)) }],
    };
    let message = AggregatedRecord {
        partition_key_table: vec![package.partition_key.clone()],
        explicit_hash_key_table: Vec::new(),
        records: package.entries.iter().map(record).collect(),
    };
    let body = message.encode_to_vec();
    let mut packed = BytesMut::with_capacity(MAGIC.len() + body.len() + DIGEST_BYTES);
    packed.put_slice(&MAGIC);
    packed.put_slice(&body);
    packed.put_slice(&Md5::digest(&body));
    packed.freeze()
}

/// Whether data is an aggregate: the magic, and a message whose MD5 is right.
pub fn is_aggregate(data: &[u8]) -> bool {
    message(data).is_some()
}

/// Takes an aggregate apart; none when the data is not one.
pub fn unpack(data: &[u8]) -> Option<AggregatedRecord> {
    AggregatedRecord::decode(message(data)?).ok()
}

/// The protobuf message in an aggregate.
fn message(data: &[u8]) -> Option<&[u8]> {
    let rest = data.strip_prefix(&MAGIC)?;
    let (message, digest) = rest.split_at_checked(rest.len().checked_sub(DIGEST_BYTES)?)?;
    (!message.is_empty() && Md5::digest(message).as_slice() == digest).then_some(message)
}

#[cfg(test)]
mod tests {
    use pelton_core::id::{CommitNumber, Incarnation, TaskId};

    use super::*;

    #[test]
    fn what_is_packed_comes_back_with_its_ids() {
        let id = OutputId { incarnation: Incarnation([7; 16]), task: TaskId(3), commit: CommitNumber(9), index: 1 };
        let entries = vec![(id, Bytes::from("one")), (OutputId { index: 2, ..id }, Bytes::from("two"))];
        let packed = pack(&Package { output: "out".into(), partition_key: "k".into(), entries });
        let record = unpack(&packed).unwrap();
        assert_eq!(record.partition_key_table, ["k"]);
        assert_eq!(record.records[1].data, "two");
        let value = record.records[1].tags[0].value.as_deref();
        assert_eq!(value, Some("07070707070707070707070707070707/3/9/2"));
        let mut damaged = packed.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(is_aggregate(&packed) && !is_aggregate(&damaged) && unpack(&damaged).is_none());
        for short in 0..=MAGIC.len() + DIGEST_BYTES {
            assert!(!is_aggregate(&packed[..short]), "{short} bytes");
        }
    }
}
