//! How far back a rewind may lead by the oracle's own account: how old what was unread at a commit may be, by the log's positions and
//! by what truly came of which shard.

use pelton_core::id::{CommitNumber, Epoch, ShardKey, TaskId};
use pelton_core::job::Start;
use pelton_core::position::{Position, PositionEntry};
use pelton_core::task::{Item, Undone};

use super::{Oracle, space};
use crate::kinesis::Kinesis;
use crate::promise::{Verdict, ensure};
use crate::world::ARRIVAL_OFF_MS_MAX;

/// When unread records may have arrived at the earliest, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// By what is known least.
    low_ms: u64,
    /// By what is known best.
    high_ms: u64,
}

impl Bounds {
    fn at(ms: u64) -> Self {
        Self { low_ms: ms, high_ms: ms }
    }

    fn earlier(self, other: Self) -> Self {
        Self { low_ms: self.low_ms.min(other.low_ms), high_ms: self.high_ms.min(other.high_ms) }
    }
}

fn parents<'a>(kinesis: &'a Kinesis, shard: &'a ShardKey) -> impl Iterator<Item = ShardKey> + 'a {
    let parents = kinesis.shard(shard).shard.parents.iter();
    parents.map(|parent| ShardKey { stream: shard.stream, shard: parent.clone() })
}

/// What a rewind is to have ahead of the horizon when it is asked for, a 64th of retention and at least a minute, and ten seconds that
/// clocks may differ. In milliseconds.
fn ahead_ms(retention_ms: u64) -> u64 {
    (retention_ms / 64).max(60_000) + 10_000
}

impl Oracle {
    /// A task goes back, or does not because of this, by what the log says of unread records at the commit that it would go back to.
    pub fn goes_back(&self, kinesis: &Kinesis, task: TaskId, to: CommitNumber, now_ms: u64, goes: bool) -> Verdict {
        if !goes {
            return self.may_be_gone(kinesis, task, to, now_ms);
        }
        let Some(retention_ms) = self.retention_ms else { return Ok(()) };
        let Bounds { high_ms, .. } = self.unread_at(kinesis, task, to);
        let kept = high_ms >= now_ms.saturating_sub(retention_ms);
        ensure!(7, kept, "a rewind leads to no gap: to {to} of task {task}, unread from {high_ms}");
        // Of records that are older than the job no gap would be told.
        let begun = &self.befores[usize::from(task.0)][&to].positions;
        let gone = self.accounts[usize::from(task.0)].folded.iter().find(|item| match item {
            Item::Record(shard, place) => {
                let is_behind = begun.get(shard).is_some_and(|entry| space::is_passed(entry.position, *place));
                !is_behind && kinesis.is_gone(shard, *place)
            }
            Item::Timer(_) => false,
        });
        ensure!(7, gone.is_none(), "what a rewind has folded again is there: to {to} of task {task}, but {gone:?}");
        Ok(())
    }

    /// A host says of a task that what was undone cannot be taken back, since the records may be gone by then. Whether it is the one that
    /// knows, its epoch tells.
    pub fn refuses(&self, kinesis: &Kinesis, (task, epoch): (TaskId, Epoch), undone: Undone, now_ms: u64) -> Verdict {
        let newest = self.tasks[usize::from(task.0)].commits.last();
        match self.undoes_by(task, &[undone]) {
            Some((to, _)) if newest.is_some_and(|newest| newest.epoch == epoch) => {
                self.may_be_gone(kinesis, task, to, now_ms)
            }
            _ => Ok(()),
        }
    }

    /// With the first commit of a deployment it is noted how old what was unread before it may be.
    pub(super) fn knows_reach(&self, kinesis: &Kinesis, task: TaskId, before: CommitNumber, noted_ms: u64) -> Verdict {
        let oldest_ms = self.oldest_unread_at(kinesis, task, before);
        ensure!(
            7,
            oldest_ms.is_none_or(|oldest_ms| noted_ms <= oldest_ms + ARRIVAL_OFF_MS_MAX),
            "no unread record is older than noted: {noted_ms}, but {oldest_ms:?}, at {before} of {task}"
        );
        let Bounds { low_ms, high_ms } = self.unread_at(kinesis, task, before);
        ensure!(
            7,
            noted_ms <= high_ms,
            "what is unread is no older than noted: {noted_ms}, but {high_ms}, at {before} of {task}"
        );
        ensure!(
            4,
            noted_ms >= low_ms || self.has_backlog(low_ms),
            "what is unread is as old as noted: {noted_ms}, but {low_ms}, at {before} of {task}"
        );
        Ok(())
    }

    /// When the oldest record arrived that the task was still to read at a commit, in milliseconds since 1970, of those that are there.
    fn oldest_unread_at(&self, kinesis: &Kinesis, task: TaskId, at: CommitNumber) -> Option<u64> {
        let begun = &self.befores[usize::from(task.0)][&at].positions;
        let oldest_of = |(shard, _)| {
            let position = begun.get(&shard).map(|entry| entry.position);
            let is_behind = position.is_none() && begun.keys().any(|begun| kinesis.descends(begun, &shard));
            let position = position.unwrap_or_else(|| space::opening(&self.meta, &shard));
            let unread = kinesis.between(&shard, position, Position::ShardEnd).map(|meant| &meant.record);
            let due = unread.filter(|record| {
                self.judged[&(shard.clone(), record.place)].0 == task && !kinesis.is_gone(&shard, record.place)
            });
            due.filter(|_| !is_behind).map(|record| record.arrived_ms).min()
        };
        kinesis.shards().filter(|(shard, _)| !self.gone_before_start.contains(shard)).filter_map(oldest_of).min()
    }

    /// Whether what is unread may be older than the job, and than anything says.
    fn has_backlog(&self, unread_from_ms: u64) -> bool {
        self.meta.start == Start::TrimHorizon && unread_from_ms <= self.meta.created_ms
    }

    fn may_be_gone(&self, kinesis: &Kinesis, task: TaskId, to: CommitNumber, now_ms: u64) -> Verdict {
        let Some(retention_ms) = self.retention_ms else {
            ensure!(4, false, "where nothing is ever gone a rewind is possible: to {to} of task {task}");
            return Ok(());
        };
        let Bounds { low_ms, .. } = self.unread_at(kinesis, task, to);
        let kept_from_ms = now_ms.saturating_sub(retention_ms) + ahead_ms(retention_ms);
        let may_be = low_ms < kept_from_ms || self.has_backlog(low_ms);
        ensure!(4, may_be, "a rewind is refused for a reason: to {to} of task {task}, unread from {low_ms}");
        Ok(())
    }

    /// How old what was unread at a commit may be.
    fn unread_at(&self, kinesis: &Kinesis, task: TaskId, at: CommitNumber) -> Bounds {
        let begun = &self.befores[usize::from(task.0)][&at].positions;
        let of_task = kinesis.shards().filter(|(_, shard)| space::reads(&self.meta, task, shard.shard.range));
        let bounds = of_task.filter_map(|(shard, _)| match begun.get(&shard) {
            Some(PositionEntry { position: Position::ShardEnd, .. }) => None,
            // Of one that was never listed nothing is known.
            Some(entry) => (entry.unread_from_ms > 0).then(|| Bounds::at(entry.unread_from_ms)),
            None => {
                let is_behind = begun.keys().any(|begun| kinesis.descends(begun, &shard));
                (!is_behind && !self.gone_before_start.contains(&shard))
                    .then(|| self.unread_of(kinesis, task, at, &shard))
            }
        });
        bounds.reduce(Bounds::earlier).unwrap_or(Bounds::at(u64::MAX))
    }

    /// The same of a shard that was not begun: it came when its parents had ended.
    fn unread_of(&self, kinesis: &Kinesis, task: TaskId, at: CommitNumber, shard: &ShardKey) -> Bounds {
        let begun = &self.befores[usize::from(task.0)][&at].positions;
        let opened_ms = space::opened_ms(&self.meta, shard);
        let of_parents = parents(kinesis, shard).map(|parent| match begun.get(&parent) {
            Some(entry) if entry.unread_from_ms > 0 => Bounds::at(entry.unread_from_ms),
            _ => self.unread_of(kinesis, task, at, &parent),
        });
        let known = of_parents.reduce(|one, other| Bounds {
            low_ms: one.low_ms.min(other.low_ms),
            high_ms: one.high_ms.max(other.high_ms),
        });
        known.map_or(Bounds::at(opened_ms), |Bounds { low_ms, high_ms }| Bounds {
            low_ms,
            high_ms: high_ms.max(opened_ms),
        })
    }
}
