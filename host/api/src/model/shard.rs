//! A shard, as a host reads it.

use pelton_core::id::{ShardId, TaskId};
use pelton_engine::spec::Consumer;
use pelton_engine::status::ShardStatus;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::page::Page;
use super::task::RangeView;

/// How a shard is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConsumerView {
    /// It is asked for records.
    Polling,
    /// It pushes them.
    FanOut,
}

impl std::fmt::Display for ConsumerView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Polling => "polling",
            Self::FanOut => "fan-out",
        })
    }
}

impl From<Consumer> for ConsumerView {
    fn from(consumer: Consumer) -> Self {
        match consumer {
            Consumer::Polling => Self::Polling,
            Consumer::FanOut => Self::FanOut,
        }
    }
}

/// A shard of one of a job's inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShardView {
    /// Name of the stream.
    pub stream: String,
    /// Its id.
    pub shard: String,
    /// Its part of the hash space.
    pub range: RangeView,
    /// Shards it came from.
    pub parents: Vec<String>,
    /// Whether it takes no more records.
    pub closed: bool,
    /// The task that owns its first hash key.
    pub home: u16,
    /// Tasks of this host that it feeds now.
    pub feeds: Vec<u16>,
    /// Tasks among them that fell behind and are caught up apart.
    pub catching_up: Vec<u16>,
    /// How it is read now; those that fell behind are always caught up by polling.
    pub consumer: ConsumerView,
    /// Why it is polled, though the job asks for fan-out.
    pub fan_out_refused: Option<String>,
    /// How far the reader is behind the newest record, as Kinesis tells it.
    pub behind_ms: Option<u64>,
    /// Replies taken since this host began to read it.
    pub fetches: u64,
    /// Requests for an iterator or records that failed.
    pub failures: u64,
    /// Records in the replies.
    pub records_read: u64,
    /// What reading it last failed with, until it succeeds again.
    pub error: Option<String>,
}

impl From<ShardStatus> for ShardView {
    fn from(status: ShardStatus) -> Self {
        let numbers = |tasks: Vec<TaskId>| tasks.into_iter().map(|task| task.0).collect();
        Self {
            stream: status.stream,
            shard: status.shard.to_string(),
            range: status.range.into(),
            parents: status.parents.iter().map(ShardId::to_string).collect(),
            closed: status.closed,
            home: status.home.0,
            feeds: numbers(status.feeds),
            catching_up: numbers(status.catching_up),
            consumer: status.consumer.into(),
            fan_out_refused: status.refused,
            behind_ms: status.behind_ms,
            fetches: status.fetches,
            failures: status.failures,
            records_read: status.records_read,
            error: status.error,
        }
    }
}

/// A page of the shards known of a job's inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShardList {
    /// By stream and id.
    pub shards: Vec<ShardView>,
    /// The `start` of the next page; null after the last one.
    #[serde(default)]
    pub next: Option<String>,
}

impl Page for ShardList {
    type Item = ShardView;

    fn parts(self) -> (Vec<ShardView>, Option<String>) {
        (self.shards, self.next)
    }
}
