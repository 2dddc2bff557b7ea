//! What a feed and whoever reads for it tell each other: what to do next, and what came of it. Nothing here decides.

use crate::id::TaskId;
use crate::position::Position;

/// How fast a shard may be asked. Kinesis allows 5 calls and 2 MiB a second and shard.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Shortest time between two calls, in milliseconds.
    pub call_interval_ms: u64,
    /// Bytes a second.
    pub bytes_per_s: u64,
    /// Longest time between two calls when nothing comes, in milliseconds.
    pub idle_interval_max_ms: u64,
    /// Time until a subscription that was refused is asked for again, in milliseconds.
    pub refusal_holds_ms: u64,
}

impl Pace {
    /// What Kinesis allows.
    pub const KINESIS: Self = Self {
        call_interval_ms: 200,
        bytes_per_s: 2 * 1024 * 1024,
        idle_interval_max_ms: 1_000,
        refusal_holds_ms: 60_000,
    };
    /// For servers without such limits.
    pub const UNLIMITED: Self =
        Self { call_interval_ms: 0, bytes_per_s: u64::MAX, idle_interval_max_ms: 100, refusal_holds_ms: 1_000 };
}

/// Which of a shard's two readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// For all tasks that keep up.
    Shared,
    /// For those that fell behind.
    CatchUp,
}

/// What the feed wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedNext {
    /// Take an iterator after this position.
    Iterate(Lane, Position),
    /// Get records.
    Fetch(Lane),
    /// Take what the subscription pushes; another look at this time, if there is one.
    Listen(Option<u64>),
    /// Nothing before this time, unless a task joins or gets room.
    Wait(u64),
    /// Nothing until a task joins or gets room.
    Idle,
}

/// What went wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedTrouble {
    /// The iterator is too old.
    Expired,
    /// Throttled, or something that passes.
    Passing,
}

/// A reply of the shard, without its records.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// The last record's position, or none where the reply has no records.
    pub up_to: Option<Position>,
    /// Arrival of the last record, milliseconds since 1970.
    pub arrived_ms: Option<u64>,
    /// What the records weigh, in bytes.
    pub bytes: u64,
    /// Whether the closed shard ends here.
    pub end: bool,
    /// Whether the service says there is nothing more yet.
    pub caught_up: bool,
}

/// What part of a reply is whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Ends here for everyone.
    pub up_to: Position,
    /// The next unread record arrived no earlier than this, in milliseconds since 1970.
    pub unread_from_ms: u64,
    /// Who, and after which position. A task without records in the reply is told only if `mark` says so.
    pub members: Vec<(TaskId, Position)>,
    /// Whether to tell also those that have no records in it how far the shard was read.
    pub mark: bool,
}
