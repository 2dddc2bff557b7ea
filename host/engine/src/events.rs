//! The event log: what happened on a host, for those who watch it. It keeps the newest events and numbers all of them without a
//! gap, so that whoever reads too slowly knows how many were dropped. Nothing is decided from it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use pelton_core::id::{CommitNumber, DeploymentNumber, Epoch, ShardId, ShardKey, TaskId};
use pelton_core::position::Position;
use pelton_core::rollout::Rollout;
use pelton_core::task::PhaseName;
use tokio::sync::watch;

use crate::cell::lock;

/// Events kept for readers; the oldest make room for the newest.
pub const EVENTS_KEPT_MAX: usize = 4_096;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEvent {
    /// Its number: 1 for the first of this process, then rising by 1.
    pub number: u64,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Name of the job.
    pub job: Arc<str>,
    /// What it was.
    pub what: Happening,
}

/// A shard by the name of its stream, for those who do not know the job's inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedShard {
    /// Name of the stream.
    pub stream: String,
    /// Its id there.
    pub shard: ShardId,
}

impl NamedShard {
    /// A shard of a job that reads these streams.
    pub fn new(key: &ShardKey, streams: &[String]) -> Self {
        Self { stream: streams[usize::from(key.stream.0)].clone(), shard: key.shard.clone() }
    }
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A task went on to another phase of its life.
    Phase {
        /// Which task.
        task: TaskId,
        /// The phase it is in now.
        phase: PhaseName,
        /// Its epoch on this host.
        epoch: Epoch,
        /// Its newest durable commit.
        commit: CommitNumber,
        /// Why it stopped, if it did.
        cause: Option<String>,
    },
    /// A commit wrote dead letters.
    DeadLetters {
        /// Which task.
        task: TaskId,
        /// The number of the first of them; those that follow have the next ones.
        first: u64,
        /// How many of each cause.
        causes: BTreeMap<&'static str, u64>,
    },
    /// A part of a shard is gone before it was read. Its dead letter has this number.
    Gap {
        /// Which task.
        task: TaskId,
        /// The dead letter.
        letter: u64,
        /// Which shard.
        shard: NamedShard,
        /// The last position reached.
        from: Position,
        /// The first from which records can be read.
        to: Position,
    },
    /// The tasks are to run something else.
    Rollout {
        /// What.
        rollout: Rollout,
    },
    /// A canary failed in a task as often as it may.
    CanaryFailed {
        /// In which.
        task: TaskId,
        /// The canary.
        deployment: DeploymentNumber,
        /// What it failed with last.
        cause: String,
    },
    /// A task runs another deployment.
    Swapped {
        /// Which task.
        task: TaskId,
        /// What it runs.
        deployment: DeploymentNumber,
    },
    /// A snapshot is stored.
    SnapshotTaken {
        /// Which task.
        task: TaskId,
        /// Of which commit.
        at: CommitNumber,
        /// Keys in it.
        entries: u64,
        /// Bytes of state in it.
        state_bytes: u64,
    },
    /// A local state was loaded from a snapshot.
    SnapshotLoaded {
        /// Which task.
        task: TaskId,
        /// Of which commit.
        at: CommitNumber,
        /// Keys in it.
        entries: u64,
        /// Bytes of state in it.
        state_bytes: u64,
    },
    /// A shard is read from now on.
    ShardOpened(NamedShard),
    /// A closed shard was read to its end.
    ShardEnded(NamedShard),
}

/// What a reader finds after the last event it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many events after that one are kept no more.
    pub missed: u64,
    /// The next ones, in order.
    pub events: Vec<HostEvent>,
}

/// The newest number, and whether it stays so.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    number: u64,
    closed: bool,
}

/// The newest events of a host.
#[derive(Debug)]
pub struct EventLog {
    kept: Mutex<VecDeque<HostEvent>>,
    kept_max: usize,
    newest: watch::Sender<Newest>,
}

impl EventLog {
    /// An empty log that keeps so many events.
    pub fn new(kept_max: usize) -> Self {
        Self { kept: Mutex::default(), kept_max, newest: watch::Sender::default() }
    }

    /// Adds an event.
    pub fn tell(&self, at_ms: u64, job: &Arc<str>, what: Happening) {
        let mut kept = lock(&self.kept);
        let number = kept.back().map_or(1, |newest| newest.number + 1);
        if kept.len() >= self.kept_max {
            kept.pop_front();
        }
        kept.push_back(HostEvent { number, at_ms, job: job.clone(), what });
        // While the events are locked, so that the newest number never falls.
        self.newest.send_modify(|newest| newest.number = number);
    }

    /// The number of the newest event; 0 before the first.
    pub fn newest(&self) -> u64 {
        self.newest.borrow().number
    }

    /// Up to `limit` events after the one of a number.
    pub fn after(&self, number: u64, limit: usize) -> Found {
        let kept = lock(&self.kept);
        let Some(oldest) = kept.front().map(|oldest| oldest.number) else { return Found::default() };
        let missed = oldest.saturating_sub(number.saturating_add(1));
        let skipped = usize::try_from((number + 1).saturating_sub(oldest)).unwrap_or(usize::MAX);
        Found { missed, events: kept.iter().skip(skipped).take(limit).cloned().collect() }
    }

    /// Returns when there are events after the one of a number: true; or when there will never be any: false.
    pub async fn more_than(&self, number: u64) -> bool {
        let mut newest = self.newest.subscribe();
        // The sender lives as long as the log.
        let found = newest.wait_for(|newest| newest.number > number || newest.closed).await;
        found.is_ok_and(|newest| newest.number > number)
    }

    /// Ends the log: readers get what is kept and then the end.
    pub fn close(&self) {
        self.newest.send_modify(|newest| newest.closed = true);
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new(EVENTS_KEPT_MAX)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Expects these numbers after one, having missed so many.
    fn check(log: &EventLog, after: u64, limit: usize, missed: u64, expected: &[u64]) {
        let found = log.after(after, limit);
        let numbers: Vec<u64> = found.events.iter().map(|event| event.number).collect();
        assert_eq!((found.missed, numbers.as_slice()), (missed, expected), "after {after}");
    }

    #[tokio::test]
    async fn the_oldest_make_room_and_are_counted() {
        let (log, job) = (EventLog::new(3), Arc::from("orders"));
        check(&log, 0, 10, 0, &[]);
        for task in 0..5 {
            let what = Happening::SnapshotTaken { task: TaskId(task), at: CommitNumber(1), entries: 1, state_bytes: 1 };
            log.tell(7, &job, what);
        }
        check(&log, 0, 10, 2, &[3, 4, 5]);
        check(&log, 1, 10, 1, &[3, 4, 5]);
        check(&log, 2, 2, 0, &[3, 4]);
        check(&log, 4, 10, 0, &[5]);
        check(&log, 5, 10, 0, &[]);
        assert_eq!(log.newest(), 5);
        assert!(log.more_than(4).await);
        log.close();
        assert!(log.more_than(4).await, "what is kept can be read after the end");
        assert!(!log.more_than(5).await);
    }
}
