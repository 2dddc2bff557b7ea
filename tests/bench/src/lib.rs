//! What the parts and the whole are measured with: the same records for all.

use bytes::Bytes;
use pelton_core::position::RecordPlace;
use pelton_core::record::Record;
use pelton_core::sequence::SequenceNumber;

/// Different words there are.
pub const VOCABULARY: u32 = 20_000;
/// Words in a record: about 200 bytes.
pub const RECORD_WORDS: usize = 22;
/// Different partition keys.
pub const KEYS: usize = 5_000;

/// Texts of 22 words, the same at every run.
pub fn texts() -> impl Iterator<Item = String> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as u32 % VOCABULARY
    };
    std::iter::repeat_with(move || {
        let words: Vec<String> = (0..RECORD_WORDS).map(|_| format!("word{}", next())).collect();
        words.join(" ")
    })
}

/// A partition key.
pub fn key(index: usize) -> String {
    format!("key{}", index % KEYS)
}

/// Records as a shard delivers them, with these payloads.
pub fn records(payloads: impl IntoIterator<Item = Bytes>) -> Vec<Record> {
    let record = |(index, data): (usize, Bytes)| Record {
        place: RecordPlace { sequence: SequenceNumber([0, 0, index as u64 + 1]), sub_sequence: 0 },
        arrived_ms: 1_700_000_000_000,
        partition_key: key(index),
        data,
        output: None,
    };
    payloads.into_iter().enumerate().map(record).collect()
}
