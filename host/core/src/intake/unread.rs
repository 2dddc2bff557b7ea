//! How old what a task has not read may be by what its log says, so that whoever goes back to that knows whether it can be read again.

use super::Intake;
use crate::id::ShardKey;
use crate::job::JobMeta;
use crate::mutant::{Mutant, wrong};
use crate::position::{Position, PositionEntry};

/// When unread records arrived at the earliest, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Those of the job's time.
    pub from_ms: u64,
    /// Those that are older than the job, of which no gap is told; none where the task is past them.
    pub backlog_from_ms: Option<u64>,
}

impl Unread {
    fn also(&mut self, from_ms: u64, backlog_from_ms: Option<u64>) {
        self.from_ms = self.from_ms.min(from_ms);
        self.backlog_from_ms = self.backlog_from_ms.into_iter().chain(backlog_from_ms).min();
    }
}

impl Intake {
    /// What no position passes that is in the log, or is about to be sealed.
    pub fn unread(&self, meta: &JobMeta) -> Unread {
        let mut unread = Unread { from_ms: u64::MAX, backlog_from_ms: None };
        for stream in meta.streams() {
            // Children come behind their parents, so that what is begun of the younger ones is no more to be read of the older.
            let mut not_begun = vec![self.rules.reads];
            for (shard, PositionEntry { position, unread_from_ms, range }) in self.logged() {
                // Of one that was never listed nothing is known; a dead letter tells of it.
                if shard.stream != stream || *unread_from_ms == 0 {
                    continue;
                }
                let leads_on = not_begun.iter().any(|left| left.touches(range)) && !wrong(Mutant::ChildrenUnmissed);
                if *position != Position::ShardEnd || leads_on {
                    unread.also(*unread_from_ms, meta.backlog_of_shard_from_ms(shard, *unread_from_ms));
                }
                not_begun = not_begun.iter().flat_map(|left| left.without(range)).collect();
            }
            if !not_begun.is_empty() {
                unread.also(meta.start_ms(stream), meta.backlog_from_ms(stream));
            }
        }
        unread
    }

    /// The positions that are in the log, or about to be, the youngest shard first.
    fn logged(&self) -> impl Iterator<Item = (&ShardKey, &PositionEntry)> {
        let logged = self.shards.iter().rev().filter(|(_, progress)| progress.logged || progress.unsealed);
        logged.map(|(shard, progress)| (shard, &progress.passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ShardId, StreamIndex};
    use crate::intake::IntakeRules;
    use crate::slice::{HashKey, HashRange};

    fn range(start: u128, end: u128) -> HashRange {
        HashRange { start: HashKey(start), end: HashKey(end) }
    }

    /// A task that reads hash keys 10 to 19 and has come so far: each shard, its range, what is unread of it, and whether it is at its end.
    fn unread(begun: &[(&str, (u128, u128), u64, bool)]) -> (u64, Option<u64>) {
        let entry = |(shard, (start, end), unread_from_ms, at_end): &(&str, (u128, u128), u64, bool)| {
            let position = if *at_end { Position::ShardEnd } else { Position::TrimHorizon };
            let shard = ShardKey { stream: StreamIndex(0), shard: ShardId::from(*shard) };
            (shard, PositionEntry { position, unread_from_ms: *unread_from_ms, range: range(*start, *end) })
        };
        let mut meta = JobMeta::of_one_task(ShardId::from("b"), []);
        (meta.created_ms, meta.inputs[0].created_ms) = (100, 1);
        let rules = IntakeRules { slice: range(10, 19), reads: range(10, 19), from_job: vec![false] };
        let intake = Intake::new(rules, begun.iter().map(entry), []);
        let Unread { from_ms, backlog_from_ms } = intake.unread(&meta);
        (from_ms, backlog_from_ms)
    }

    #[test]
    fn what_comes_of_a_shard_at_its_end_is_unread_until_it_is_begun() {
        assert_eq!(unread(&[("c", (0, 30), 200, false)]), (200, None));
        assert_eq!(unread(&[("c", (0, 30), 200, true)]), (200, None));
        assert_eq!(unread(&[("c", (0, 30), 200, true), ("d", (0, 30), 300, false)]), (300, None));
        // Split within the slice, and only one half begun.
        assert_eq!(unread(&[("c", (0, 30), 200, true), ("d", (0, 14), 300, false)]), (200, None));
        assert_eq!(
            unread(&[("c", (0, 30), 200, true), ("d", (0, 14), 300, false), ("e", (15, 30), 250, true)]),
            (250, None)
        );
        // One that is short of its end is unread, whatever is begun behind it.
        assert_eq!(unread(&[("c", (0, 30), 200, false), ("d", (0, 30), 300, false)]), (200, None));
    }

    #[test]
    fn where_nothing_is_begun_it_is_as_old_as_the_job_or_older() {
        assert_eq!(unread(&[]), (100, Some(1)));
        assert_eq!(unread(&[("c", (0, 14), 200, false)]), (100, Some(1)));
        assert_eq!(unread(&[("a", (0, 30), 100, false)]), (100, Some(1)));
        assert_eq!(unread(&[("a", (0, 30), 101, false)]), (101, None));
        assert_eq!(unread(&[("a", (0, 30), 100, true), ("c", (0, 30), 100, false)]), (100, None));
        assert_eq!(unread(&[("c", (0, 30), 0, true)]), (100, Some(1)), "of one that was never listed nothing is known");
    }
}
