//! What a job's meta item holds, as a protobuf message. Unknown fields are an error of the reader.

use pelton_core::id::{Incarnation, ShardId};
use pelton_core::job::{Input, JobMeta, Start};
use pelton_core::policy::{Aggregates, OutOfRange, Policies};
use pelton_core::shard::Shard;
use pelton_core::slice::{HashKey, HashRange, TaskCount};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MetaWire {
    #[prost(bytes = "vec", tag = "1")]
    pub incarnation: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub tasks: u32,
    #[prost(message, repeated, tag = "3")]
    pub inputs: Vec<InputWire>,
    /// None: the trim horizon.
    #[prost(uint64, optional, tag = "4")]
    pub start_ms: Option<u64>,
    #[prost(uint64, tag = "5")]
    pub created_ms: u64,
    #[prost(string, tag = "6")]
    pub table_id: String,
    #[prost(bytes = "vec", tag = "7")]
    pub component: Vec<u8>,
    /// As configuration names them.
    #[prost(string, tag = "8")]
    pub out_of_range: String,
    #[prost(string, tag = "9")]
    pub aggregates: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InputWire {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub arn: String,
    #[prost(uint64, tag = "3")]
    pub created_ms: u64,
    #[prost(string, tag = "4")]
    pub newest_shard: String,
    /// Shards listed at the job's creation that may hold records of it.
    #[prost(message, repeated, tag = "5")]
    pub listed: Vec<ListedWire>,
}

/// A shard and its range, both ends inclusive, each 16 bytes big-endian.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListedWire {
    #[prost(string, tag = "1")]
    pub shard: String,
    #[prost(bytes = "vec", tag = "2")]
    pub start: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub end: Vec<u8>,
}

impl ListedWire {
    pub fn from_shard(shard: &Shard) -> Self {
        let HashRange { start, end } = shard.range;
        let [start, end] = [start, end].map(|key| key.0.to_be_bytes().to_vec());
        Self { shard: shard.id.to_string(), start, end }
    }

    fn shard(self) -> Option<(ShardId, HashRange)> {
        let key = |bytes: Vec<u8>| Some(HashKey(u128::from_be_bytes(bytes.try_into().ok()?)));
        Some((ShardId::from(self.shard.as_str()), HashRange { start: key(self.start)?, end: key(self.end)? }))
    }
}

/// The job that a meta item describes; none when the item is damaged.
pub(crate) fn from_wire(name: &str, wire: MetaWire) -> Option<JobMeta> {
    let input = |input: InputWire| {
        Some(Input {
            name: input.name,
            arn: input.arn,
            created_ms: input.created_ms,
            newest_shard: ShardId::from(input.newest_shard.as_str()),
            listed: input.listed.into_iter().map(ListedWire::shard).collect::<Option<_>>()?,
        })
    };
    Some(JobMeta {
        name: name.into(),
        incarnation: Incarnation(wire.incarnation.try_into().ok()?),
        tasks: TaskCount::new(wire.tasks)?,
        inputs: wire.inputs.into_iter().map(input).collect::<Option<_>>()?,
        start: wire.start_ms.map_or(Start::TrimHorizon, Start::At),
        created_ms: wire.created_ms,
        policies: Policies {
            out_of_range: named(OutOfRange::NAMES, &wire.out_of_range)?,
            aggregates: named(Aggregates::NAMES, &wire.aggregates)?,
        },
    })
}

fn named<T: Copy>(names: &[(&str, T)], name: &str) -> Option<T> {
    names.iter().find(|(known, _)| *known == name).map(|(_, choice)| *choice)
}
