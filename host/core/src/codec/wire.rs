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
    /// 0: fence, 1: step, 2: rewind.
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
    /// For 2: the commit whose state and positions are brought back.
    #[prost(uint64, tag = "10")]
    pub rewind_to: u64,
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
    /// Whether it was the first call of a new instance.
    #[prost(bool, tag = "4")]
    pub born: bool,
    /// 0: records; 1: a record or timer that ended as a dead letter, nothing of the call being kept; 2: timers; 3: a dead
    /// letter given again.
    #[prost(uint32, tag = "5")]
    pub kind: u32,
    /// For 2, and for 1 where it was one: the timers fired, in order.
    #[prost(message, repeated, tag = "6")]
    pub timers: Vec<Timer>,
    /// For 3: its number.
    #[prost(uint64, tag = "7")]
    pub letter: u64,
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
    /// Of a record that was folded before: the commit of the rewind.
    #[prost(uint64, optional, tag = "4")]
    pub rewind: Option<u64>,
}

/// The deployments that a task's commits were of.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pins {
    /// Oldest first.
    #[prost(message, repeated, tag = "1")]
    pub pins: Vec<Pin>,
    /// The newest change that brought one kept no longer; 0 for none.
    #[prost(uint64, tag = "2")]
    pub forgotten: u64,
}

/// A deployment that commits were of, from one on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pin {
    /// The change of what the job runs that brought it.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    /// Which.
    #[prost(uint64, tag = "2")]
    pub deployment: u64,
    /// Its first commit.
    #[prost(uint64, tag = "3")]
    pub number: u64,
    /// Id of the commit before that, 16 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub previous_id: bytes::Bytes,
    /// Records unread by the commit before arrived no earlier than this, in milliseconds since 1970.
    #[prost(fixed64, tag = "5")]
    pub unread_from_ms: u64,
    /// When the first was sealed, in milliseconds since 1970.
    #[prost(fixed64, tag = "6")]
    pub sealed_ms: u64,
}

/// What a task had passed before it was rewound.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refold {
    /// The commit of the rewind.
    #[prost(uint64, tag = "1")]
    pub rewind: u64,
    /// Whether outputs of what is folded again are emitted again.
    #[prost(bool, tag = "2")]
    pub again: bool,
    /// Timers due up to this time were due before, in milliseconds since 1970.
    #[prost(fixed64, tag = "3")]
    pub clock_ms: u64,
    /// How far it had come, by stream and shard.
    #[prost(message, repeated, tag = "4")]
    pub passed: Vec<PassedShard>,
    /// Records up to there that were dead letters, each as the position after it.
    #[prost(message, repeated, tag = "5")]
    pub unfolded: Vec<PassedShard>,
    /// Timers due before that had not fired, or were dead letters.
    #[prost(message, repeated, tag = "6")]
    pub unfired: Vec<Timer>,
}

/// Something was folded, and a rewind took that back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FoldedBefore {
    /// The commit of the rewind.
    #[prost(uint64, tag = "1")]
    pub rewind: u64,
    /// Whether outputs are emitted again when it is folded again.
    #[prost(bool, tag = "2")]
    pub again: bool,
    /// Timers that it sets for up to this time were due before too, in milliseconds since 1970.
    #[prost(fixed64, tag = "3")]
    pub clock_ms: u64,
}

/// A dead letter that was forgotten.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ForgottenLetter {
    /// The commit with which it went.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Where its record was, as the position after it, or
    #[prost(message, optional, tag = "2")]
    pub record: Option<PassedShard>,
    /// the timer that it held.
    #[prost(message, optional, tag = "3")]
    pub timer: Option<Timer>,
    /// If what it held was folded before a rewind.
    #[prost(message, optional, tag = "4")]
    pub folded_before: Option<FoldedBefore>,
}

/// How far a task had come in a shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PassedShard {
    /// Index of the input stream.
    #[prost(uint32, tag = "1")]
    pub stream: u32,
    /// Shard id.
    #[prost(string, tag = "2")]
    pub shard: String,
    /// Up to here.
    #[prost(message, optional, tag = "3")]
    pub position: Option<Position>,
}

/// What became of a task's records.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Counts {
    /// Folded from shards.
    #[prost(uint64, tag = "1")]
    pub folded: u64,
    /// Of those, how many begin as an aggregate and are none.
    #[prost(uint64, tag = "2")]
    pub malformed: u64,
    /// Dropped.
    #[prost(message, repeated, tag = "3")]
    pub dropped: Vec<Dropped>,
    /// Dead letters ever written.
    #[prost(uint64, tag = "4")]
    pub dead_letters: u64,
    /// Of those, how many hold a record.
    #[prost(uint64, tag = "5")]
    pub dead_records: u64,
    /// Dead letters folded after all.
    #[prost(uint64, tag = "6")]
    pub redriven: u64,
    /// Timers fired.
    #[prost(uint64, tag = "7")]
    pub timers_fired: u64,
}

/// Records dropped for one reason.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dropped {
    /// 0: out of range, 1: stray, 2: with a stray, 3: repeat.
    #[prost(uint32, tag = "1")]
    pub oddity: u32,
    /// How many.
    #[prost(uint64, tag = "2")]
    pub records: u64,
}

/// A dead letter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeadLetter {
    /// 0 to 3: an oddity as in [`Dropped`]; 8: poison, 9: failed too often, 10: gap.
    #[prost(uint32, tag = "1")]
    pub cause: u32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// How often the logic failed with it.
    #[prost(uint32, tag = "3")]
    pub attempts: u32,
    /// Milliseconds since 1970.
    #[prost(fixed64, tag = "4")]
    pub at_ms: u64,
    /// Index of the input stream; for a timer 0.
    #[prost(uint32, tag = "5")]
    pub stream: u32,
    /// Shard id; empty for a timer.
    #[prost(string, tag = "6")]
    pub shard: String,
    /// A record, or
    #[prost(message, optional, tag = "7")]
    pub record: Option<Record>,
    /// where a gap begins
    #[prost(message, optional, tag = "8")]
    pub gap_from: Option<Position>,
    /// and ends, or
    #[prost(message, optional, tag = "9")]
    pub gap_to: Option<Position>,
    /// a timer.
    #[prost(message, optional, tag = "10")]
    pub timer: Option<Timer>,
    /// If what it holds was folded before a rewind.
    #[prost(message, optional, tag = "11")]
    pub folded_before: Option<FoldedBefore>,
}

/// A record.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Record {
    /// Where it stands, as an after-position.
    #[prost(message, optional, tag = "1")]
    pub place: Option<Position>,
    /// Milliseconds since 1970.
    #[prost(fixed64, tag = "2")]
    pub arrived_ms: u64,
    /// Partition key.
    #[prost(string, tag = "3")]
    pub partition_key: String,
    /// Payload.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: bytes::Bytes,
    /// The name a job upstream gave it, as in its tag; empty for none.
    #[prost(string, tag = "5")]
    pub output: String,
}

/// A timer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Timer {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Milliseconds since 1970.
    #[prost(fixed64, tag = "2")]
    pub due_ms: u64,
}

/// What the logic failed with, and how often.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attempts {
    /// How often.
    #[prost(uint32, tag = "1")]
    pub attempts: u32,
    /// The last failure, for people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Index of the input stream.
    #[prost(uint32, tag = "3")]
    pub stream: u32,
    /// Shard id; empty for a timer.
    #[prost(string, tag = "4")]
    pub shard: String,
    /// The record, as an after-position.
    #[prost(message, optional, tag = "5")]
    pub place: Option<Position>,
    /// The timer.
    #[prost(message, optional, tag = "6")]
    pub timer: Option<Timer>,
}

/// What was seen of an upstream task.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Seen {
    /// The last hash key it holds for, 16 bytes big-endian.
    #[prost(bytes = "vec", tag = "1")]
    pub end: Vec<u8>,
    /// The last commit seen.
    #[prost(uint64, tag = "2")]
    pub commit: u64,
    /// Indexes seen of it: first and last of each range, rising.
    #[prost(uint32, repeated, tag = "3")]
    pub indexes: Vec<u32>,
}
