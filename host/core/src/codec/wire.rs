//! The protobuf twins of what is stored. Field numbers are the format: they are never reused.

/// A commit's body.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Commit {
    /// Commit number.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub id: bytes::Bytes,
    /// 16 bytes, all zero at number 1.
    #[prost(bytes = "bytes", tag = "3")]
    pub previous_id: bytes::Bytes,
    /// The owner's epoch.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// 0 for a fence.
    #[prost(uint64, tag = "5")]
    pub deployment: u64,
    /// 0: fence, 1: step.
    #[prost(uint32, tag = "6")]
    pub kind: u32,
    /// Number of the commit before which the instance was born.
    #[prost(uint64, tag = "7")]
    pub born: u64,
    /// In order.
    #[prost(message, repeated, tag = "8")]
    pub invocations: Vec<Invocation>,
    /// In key order.
    #[prost(message, repeated, tag = "9")]
    pub writes: Vec<Write>,
}

/// One guest call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Invocation {
    /// Milliseconds since 1970.
    #[prost(fixed64, tag = "1")]
    pub time_ms: u64,
    /// Calls with the same records that failed before.
    #[prost(uint32, tag = "2")]
    pub failed_attempts: u32,
    /// What it was given.
    #[prost(message, repeated, tag = "3")]
    pub runs: Vec<Run>,
}

/// Part of a shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Run {
    /// Index of the input stream.
    #[prost(uint32, tag = "1")]
    pub stream: u32,
    /// Shard id.
    #[prost(string, tag = "2")]
    pub shard: String,
    /// Where it begins.
    #[prost(message, optional, tag = "3")]
    pub after: Option<Position>,
    /// Where it ends.
    #[prost(message, optional, tag = "4")]
    pub up_to: Option<Position>,
    /// Records in it.
    #[prost(uint32, tag = "5")]
    pub records: u32,
}

/// A position.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Position {
    /// 0: trim horizon, 1: at timestamp, 2: after, 3: shard end.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// For 1: milliseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub at_ms: u64,
    /// For 2: the sequence number, 24 bytes big-endian.
    #[prost(bytes = "vec", tag = "3")]
    pub sequence: Vec<u8>,
    /// For 2: the sub-sequence number.
    #[prost(uint64, tag = "4")]
    pub sub_sequence: u64,
}

/// A write.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Write {
    /// Space byte and key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: bytes::Bytes,
    /// None deletes.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub value: Option<bytes::Bytes>,
}

/// What a task keeps of a shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PositionEntry {
    /// How far it has come.
    #[prost(message, optional, tag = "1")]
    pub position: Option<Position>,
    /// Milliseconds since 1970.
    #[prost(fixed64, tag = "2")]
    pub unread_from_ms: u64,
    /// The shard's first hash key, 16 bytes big-endian.
    #[prost(bytes = "vec", tag = "3")]
    pub range_start: Vec<u8>,
    /// The shard's last hash key, 16 bytes big-endian.
    #[prost(bytes = "vec", tag = "4")]
    pub range_end: Vec<u8>,
}

/// What a commit emitted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Outputs {
    /// In the order emitted; an output's index is its place here.
    #[prost(message, repeated, tag = "1")]
    pub outputs: Vec<Output>,
}

/// One output.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Output {
    /// Name of the output.
    #[prost(string, tag = "1")]
    pub output: String,
    /// Its partition key.
    #[prost(string, tag = "2")]
    pub partition_key: String,
    /// Its data.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: bytes::Bytes,
}
