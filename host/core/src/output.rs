//! Outputs: what a task's logic emits. An output is part of the commit that holds it, and is published after it.

use bytes::Bytes;

use crate::id::{CommitNumber, Incarnation, TaskId};

/// Longest data of one output, in bytes: a Kinesis record takes 1 MiB, with the partition key and the packing in it.
pub const OUTPUT_BYTES_MAX: usize = 1_000_000;
/// Longest partition key, in characters, as Kinesis limits it.
pub const PARTITION_KEY_CHARS_MAX: usize = 256;

/// What an output takes while it waits, beside its texts and its data, in bytes.
const KEPT_BYTES: usize = 128;

/// One record to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Which of the job's named outputs.
    pub output: String,
    /// Decides the shard of the output stream.
    pub partition_key: String,
    /// The payload.
    pub data: Bytes,
    /// Of a record that was folded before: the rewind after which it was folded again.
    pub rewind: Option<CommitNumber>,
}

impl Output {
    /// What it takes while it waits, in bytes: however small outputs are, so many of them take no more.
    pub fn weight(&self) -> usize {
        self.output.len() + self.partition_key.len() + self.data.len() + KEPT_BYTES
    }
}

/// Names an output for ever: it is the same whenever the output is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputId {
    /// Of the job that emitted it.
    pub incarnation: Incarnation,
    /// The task that emitted it.
    pub task: TaskId,
    /// The commit that holds it.
    pub commit: CommitNumber,
    /// Its place among that commit's outputs, from 0.
    pub index: u32,
    /// Of a record that was folded before: the rewind after which it was folded again.
    pub rewind: Option<CommitNumber>,
}

/// Consecutive outputs of one commit with one partition key: they travel as one Kinesis record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Which of the job's named outputs.
    pub output: String,
    /// The key of every output within, and of the Kinesis record.
    pub partition_key: String,
    /// The outputs, in the order they were emitted.
    pub entries: Vec<(OutputId, Bytes)>,
}
