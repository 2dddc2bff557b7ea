//! How old what a task has not read may be, as far as its positions tell: by this a gap is found, and whether a rewind may lead there.

use super::Intake;
use crate::id::{ShardKey, StreamIndex};
use crate::job::JobMeta;
use crate::mutant::{Mutant, wrong};
use crate::position::{Position, PositionEntry};

/// Where the task has not read on.
enum Frontier<'a> {
    /// In a shard, or where that is at its end, in what comes of it.
    Shard(&'a ShardKey, u64),
    /// In a stream of which nothing is begun for some of its hash keys.
    Stream(StreamIndex),
}

impl Intake {
    /// Records that no position passes yet arrived no earlier than this, in milliseconds since 1970.
    pub fn unread_from_ms(&self, meta: &JobMeta) -> u64 {
        let from_ms = |frontier| match frontier {
            Frontier::Shard(_, from_ms) => from_ms,
            Frontier::Stream(stream) => meta.start_ms(stream),
        };
        let from_ms = self.frontiers(meta).into_iter().map(from_ms).min();
        from_ms.or_else(|| meta.streams().map(|stream| meta.start_ms(stream)).min()).unwrap_or(meta.created_ms)
    }

    /// Where the task is among records that are older than the job, of which no gap is told: how old they may be, in milliseconds
    /// since 1970.
    pub fn backlog_from_ms(&self, meta: &JobMeta) -> Option<u64> {
        let from_ms = |frontier| match frontier {
            Frontier::Shard(shard, from_ms) => meta.backlog_of_shard_from_ms(shard, from_ms),
            Frontier::Stream(stream) => meta.backlog_from_ms(stream),
        };
        self.frontiers(meta).into_iter().filter_map(from_ms).min()
    }

    fn frontiers(&self, meta: &JobMeta) -> Vec<Frontier<'_>> {
        let mut frontiers = Vec::new();
        for stream in meta.streams() {
            // Children come behind their parents, so that what is begun of the younger ones is no more to be read of the older.
            let mut not_begun = vec![self.rules.reads];
            let of_stream = self.shards.iter().rev().filter(|(shard, _)| shard.stream == stream);
            for (shard, progress) in of_stream {
                let PositionEntry { position, unread_from_ms, range } = progress.passed;
                let is_at_end = position == Position::ShardEnd;
                let leads_on = not_begun.iter().any(|left| left.touches(&range)) && !wrong(Mutant::ChildrenUnmissed);
                // Of one that was never listed nothing is known; a dead letter tells of it.
                if unread_from_ms > 0 && (!is_at_end || leads_on) {
                    frontiers.push(Frontier::Shard(shard, unread_from_ms));
                }
                not_begun = not_begun.iter().flat_map(|left| left.without(&range)).collect();
            }
            if !not_begun.is_empty() && !wrong(Mutant::ChildrenUnmissed) {
                frontiers.push(Frontier::Stream(stream));
            }
        }
        frontiers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ShardId;
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
        (intake.unread_from_ms(&meta), intake.backlog_from_ms(&meta))
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
        assert_eq!(unread(&[("c", (0, 30), 0, false)]), (100, None), "of one that was never listed nothing is known");
    }
}
