//! The aggregation format of the Kinesis Producer Library: several user records in one Kinesis record.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `F3 89 9A C2` |
//! | .. | the protobuf message [`AggregatedRecord`] |
//! | 16 | MD5 of the message's bytes |

use bytes::{BufMut as _, Bytes, BytesMut};
use md5::{Digest as _, Md5};
use prost::Message as _;

use crate::id::{CommitNumber, TaskId};
use crate::limits::AGGREGATE_KEY_BYTES_MAX;
use crate::output::{OutputId, Package};
use crate::slice::HashKey;

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

/// An output's id as text: incarnation, task, commit and index with slashes between, and behind them, where a record was folded
/// again, the commit of the rewind.
pub fn id_text(id: &OutputId) -> String {
    let rewind = id.rewind.map_or(String::new(), |rewind| format!("/{rewind}"));
    format!("{}/{}/{}/{}{rewind}", id.incarnation, id.task, id.commit, id.index)
}

/// Reads what [`id_text`] wrote; none for anything else.
pub fn parse_id(text: &str) -> Option<OutputId> {
    let mut fields = text.split('/');
    let incarnation = fields.next().filter(|hex| !hex.bytes().any(|byte| byte.is_ascii_uppercase()))?.parse().ok()?;
    // Numbers have other spellings, with signs and zeros, and an id has one.
    let number =
        |text: &str| (text == "0" || text.starts_with(|c: char| ('1'..='9').contains(&c))).then(|| text.to_owned());
    let task = TaskId(number(fields.next()?)?.parse().ok()?);
    let commit = CommitNumber(number(fields.next()?)?.parse().ok()?);
    let index = number(fields.next()?)?.parse().ok()?;
    let rewind = match fields.next() {
        Some(text) => Some(CommitNumber(number(text)?.parse().ok()?)),
        None => None,
    };
    fields.next().is_none().then_some(OutputId { incarnation, task, commit, index, rewind })
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

/// Whether data begins as an aggregate does. Most records are told apart by this alone.
pub fn has_magic(data: &[u8]) -> bool {
    data.starts_with(&MAGIC)
}

/// Takes an aggregate apart, its data shared with the original; none when it is not whole: wrong digest, not the message,
/// a record that refers to a key that is not there, or more keys than [`AGGREGATE_KEY_BYTES_MAX`].
pub fn unpack(data: &Bytes) -> Option<AggregatedRecord> {
    let rest = data.strip_prefix(&MAGIC)?;
    let (message, digest) = rest.split_at_checked(rest.len().checked_sub(DIGEST_BYTES)?)?;
    if message.is_empty() || Md5::digest(message).as_slice() != digest {
        return None;
    }
    let aggregate = AggregatedRecord::decode(data.slice(MAGIC.len()..data.len() - DIGEST_BYTES)).ok()?;
    let whole = aggregate.records.iter().all(|record| aggregate.refers_well(record));
    (whole && aggregate.key_bytes() <= AGGREGATE_KEY_BYTES_MAX).then_some(aggregate)
}

impl AggregatedRecord {
    fn refers_well(&self, record: &UserRecord) -> bool {
        let hash_key = record.explicit_hash_key_index;
        self.partition_key(record).is_some() && (hash_key.is_none() || self.explicit_hash_key(record).is_some())
    }

    /// Bytes of the partition keys of all records.
    fn key_bytes(&self) -> usize {
        self.records.iter().filter_map(|record| self.partition_key(record)).map(str::len).sum()
    }

    /// The partition key of one of the records.
    pub fn partition_key(&self, record: &UserRecord) -> Option<&str> {
        self.partition_key_table.get(usize::try_from(record.partition_key_index).ok()?).map(String::as_str)
    }

    /// The hash key that the producer chose for one of the records, if it chose one.
    pub fn explicit_hash_key(&self, record: &UserRecord) -> Option<HashKey> {
        let index = usize::try_from(record.explicit_hash_key_index?).ok()?;
        self.explicit_hash_key_table.get(index)?.parse().ok().map(HashKey)
    }
}

impl UserRecord {
    /// The name that a Pelton job gave the record, if it came from one.
    pub fn output_id(&self) -> Option<OutputId> {
        let tag = self.tags.iter().find(|tag| tag.key == ID_TAG)?;
        parse_id(tag.value.as_deref()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;

    #[test]
    fn what_is_packed_comes_back_with_its_ids() {
        let id = OutputId {
            incarnation: Incarnation([7; 16]),
            task: TaskId(3),
            commit: CommitNumber(9),
            index: 1,
            rewind: None,
        };
        let entries = vec![(id, Bytes::from("one")), (OutputId { index: 2, ..id }, Bytes::from("two"))];
        let packed = pack(&Package { output: "out".into(), partition_key: "k".into(), entries });
        let record = unpack(&packed).unwrap();
        assert_eq!(record.partition_key_table, ["k"]);
        assert_eq!(record.records[1].data, "two");
        let value = record.records[1].tags[0].value.as_deref();
        assert_eq!(value, Some("07070707070707070707070707070707/3/9/2"));
        assert_eq!(record.records[1].output_id(), Some(OutputId { index: 2, ..id }));
        let again = OutputId { rewind: Some(CommitNumber(8)), ..id };
        assert_eq!(id_text(&again), "07070707070707070707070707070707/3/9/1/8");
        assert_eq!(parse_id(&id_text(&again)), Some(again));
        assert_eq!(parse_id("07070707070707070707070707070707/3/9/2/08"), None);
        assert_eq!(parse_id("07070707070707070707070707070707/3/9/2/1/1"), None);
        let mut damaged = packed.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(has_magic(&damaged) && unpack(&damaged.into()).is_none());
        for short in 0..=MAGIC.len() + DIGEST_BYTES {
            assert!(unpack(&packed.slice(..short)).is_none(), "{short} bytes");
        }
    }
}
