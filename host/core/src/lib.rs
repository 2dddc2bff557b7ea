pub mod id;
pub mod slice;
pub mod sequence;
pub mod position;

pub mod record;
pub mod shard;

pub mod write_set;
pub mod output;
pub mod commit;
pub mod snapshot;

pub mod job;
