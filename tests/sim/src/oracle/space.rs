//! The hash space by the oracle's own arithmetic: who owns a key, and which shards a task is to read.

use md5::{Digest as _, Md5};
use pelton_core::id::{ShardKey, TaskId};
use pelton_core::job::{JobMeta, Start};
use pelton_core::policy::OutOfRange;
use pelton_core::position::{Position, RecordPlace};
use pelton_core::slice::{HashKey, HashRange};

/// Where a partition key lies.
pub fn hash_of(partition_key: &str) -> HashKey {
    let digest = Md5::digest(partition_key.as_bytes());
    HashKey(digest.iter().fold(0, |hash, byte| hash << 8 | u128::from(*byte)))
}

/// Whether a range holds a hash key.
pub fn holds(range: HashRange, hash: HashKey) -> bool {
    range.start.0 <= hash.0 && hash.0 <= range.end.0
}

/// The task whose slice holds a hash key: ⌊hash · N / 2^128⌋, summed from the lowest bit on and halved after each.
pub fn owner_of(meta: &JobMeta, hash: HashKey) -> TaskId {
    let tasks = u64::from(meta.tasks.get());
    let owner = (0..128).fold(0, |sum, bit| (sum + if hash.0 >> bit & 1 == 1 { tasks } else { 0 }) >> 1);
    TaskId(owner as u16)
}

/// Whether a task is to read a shard of this range.
pub fn reads(meta: &JobMeta, task: TaskId, range: HashRange) -> bool {
    let (first, last) = (owner_of(meta, range.start), owner_of(meta, range.end));
    meta.policies.out_of_range == OutOfRange::ReadAll || (first..=last).contains(&task)
}

/// Where a task that knows nothing of a shard is to begin with it: the point in time only in shards of the job's start.
pub fn opening(meta: &JobMeta, shard: &ShardKey) -> Position {
    match meta.start {
        Start::At(ms) if shard.shard <= meta.inputs[usize::from(shard.stream.0)].newest_shard => {
            Position::AtTimestamp(ms)
        }
        Start::At(_) | Start::TrimHorizon => Position::TrimHorizon,
    }
}

/// From when on a shard may hold records of the job, in milliseconds since 1970, by the job alone.
pub fn opened_ms(meta: &JobMeta, shard: &ShardKey) -> u64 {
    match opening(meta, shard) {
        Position::AtTimestamp(ms) => ms.max(meta.inputs[usize::from(shard.stream.0)].created_ms),
        _ => meta.created_ms,
    }
}

/// Whether a record is behind a position.
pub fn is_passed(position: Position, place: RecordPlace) -> bool {
    match position {
        Position::TrimHorizon | Position::AtTimestamp(_) => false,
        Position::After(last) => (place.sequence.0, place.sub_sequence) <= (last.sequence.0, last.sub_sequence),
        Position::ShardEnd => true,
    }
}
