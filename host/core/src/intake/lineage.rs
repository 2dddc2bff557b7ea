//! Which shards a task reads, and when: those that touch its slice, each once its parents are passed.

use std::collections::BTreeSet;

use super::queue::UNKNOWN_RANGE;
use super::{Intake, Progress, Want};
use crate::id::{ShardId, ShardKey};
use crate::job::JobMeta;
use crate::mutant::{Mutant, wrong};
use crate::position::{Position, PositionEntry};
use crate::shard::{Shard, ShardMap};
use crate::slice::HashRange;

impl Intake {
    /// The shards that need a reader now and had none asked for: those whose parents are all passed.
    pub fn wants(&mut self, map: &ShardMap, meta: &JobMeta) -> Vec<Want> {
        let behind = self.behind(map);
        let mut wants = Vec::new();
        for (key, shard) in map.touching(self.rules.reads) {
            if !self.shards.contains_key(key) {
                let is_behind = behind.contains(key) && !wrong(Mutant::AncestorOpenedAgain);
                // Only an old listing shows one from before the start.
                let is_before = meta.lies_before_start(key) && !wrong(Mutant::BeforeStartOpened);
                if is_behind || is_before || !self.parents_passed(key, shard, &behind, (map, meta)) {
                    continue;
                }
                self.shards.insert(key.clone(), self.opening(key, shard, meta));
            }
            let progress = self.shards.get_mut(key).expect("it was just put there");
            if progress.taken != Position::ShardEnd && !progress.wanted {
                progress.wanted = true;
                wants.push(progress.want(key));
            }
        }
        wants
    }

    /// Every shard that some begun one descends from, as far as listings tell: never opened again.
    fn behind(&self, map: &ShardMap) -> BTreeSet<ShardKey> {
        let mut behind: BTreeSet<ShardKey> = self.outlived(map).cloned().collect();
        let mut open: Vec<ShardKey> = self.shards.keys().chain(&behind).cloned().collect();
        while let Some(key) = open.pop() {
            for parent in map.get(&key).iter().flat_map(|shard| &shard.parents) {
                let parent = ShardKey { stream: key.stream, shard: parent.clone() };
                if behind.insert(parent.clone()) {
                    open.push(parent);
                }
            }
        }
        behind
    }

    /// Shards never begun that share hash keys with a younger one that is begun, and so came before it, though what lies between
    /// was listed and forgotten while nobody looked.
    fn outlived<'a>(&self, map: &'a ShardMap) -> impl Iterator<Item = &'a ShardKey> {
        let reads = self.rules.reads;
        // One that is listed without a parent came of none, whatever its id.
        let came_of_some = move |key: &ShardKey| map.get(key).is_none_or(|shard| !shard.parents.is_empty());
        // One that no listing showed when the task came to it may have been listed since.
        let range = |key: &ShardKey, progress: &Progress| match progress.passed.range {
            UNKNOWN_RANGE => map.get(key).map(|shard| shard.range),
            range => Some(range),
        };
        let came_of_some = self.shards.iter().filter(move |(key, _)| came_of_some(key));
        let begun = came_of_some.filter_map(|(key, progress)| Some((key.clone(), range(key, progress)?)));
        let begun: Vec<_> = begun.collect();
        map.touching(reads).filter(|(key, _)| !self.shards.contains_key(*key)).filter_map(move |(key, shard)| {
            let shared = shard.range.common(&reads)?;
            let outlives = |(begun, range): &(ShardKey, HashRange)| {
                begun.stream == key.stream && begun.shard > key.shard && range.touches(&shared)
            };
            (begun.iter().any(outlives) && !wrong(Mutant::OutlivedOpenedAgain)).then_some(key)
        })
    }

    fn parents_passed(
        &self,
        key: &ShardKey,
        shard: &Shard,
        behind: &BTreeSet<ShardKey>,
        (map, meta): (&ShardMap, &JobMeta),
    ) -> bool {
        wrong(Mutant::ParentsIgnored)
            || shard.parents.iter().all(|parent| {
                let parent = ShardKey { stream: key.stream, shard: parent.clone() };
                match (self.shards.get(&parent), map.get(&parent)) {
                    (None, _) if behind.contains(&parent) => true,
                    (Some(progress), _) => progress.taken == Position::ShardEnd,
                    (None, Some(listed)) => !listed.range.touches(&self.rules.reads) || meta.lies_before_start(&parent),
                    // It expired before the job began, was another task's, or all that this task needed of it came through the other parent.
                    (None, None) => {
                        wrong(Mutant::UnlistedParentIsGone)
                            || self.never_needed(&parent, meta)
                            || self.covered_without(&parent, key, shard, (map, meta))
                    }
                }
            })
    }

    /// Whether a shard that no listing shows held nothing that this task was to read.
    fn never_needed(&self, unlisted: &ShardKey, meta: &JobMeta) -> bool {
        let elsewhere = meta.listed_range(unlisted).is_some_and(|range| !range.touches(&self.rules.reads));
        elsewhere || meta.lies_before_start(unlisted)
    }

    /// Whether a parent whose range is known, begun or not, holds all that the shard and the slice share.
    fn covered_without(
        &self,
        unlisted: &ShardKey,
        key: &ShardKey,
        shard: &Shard,
        (map, meta): (&ShardMap, &JobMeta),
    ) -> bool {
        let start = shard.range.start.max(self.rules.reads.start);
        let end = shard.range.end.min(self.rules.reads.end);
        let others = shard.parents.iter().filter(|parent| **parent != unlisted.shard);
        let range = |parent: &ShardId| {
            let parent = ShardKey { stream: key.stream, shard: parent.clone() };
            let begun = self.shards.get(&parent).map(|progress| progress.passed.range);
            let listed = || map.get(&parent).map(|shard| shard.range);
            begun.or_else(listed).or_else(|| meta.listed_range(&parent))
        };
        others.filter_map(range).any(|range| range.contains(start) && range.contains(end))
    }

    fn opening(&self, key: &ShardKey, shard: &Shard, meta: &JobMeta) -> Progress {
        let (position, mut unread_from_ms) = meta.opening(key);
        for parent in &shard.parents {
            let parent = ShardKey { stream: key.stream, shard: parent.clone() };
            if let Some(progress) = self.shards.get(&parent).filter(|_| !wrong(Mutant::ChildForgetsBound)) {
                unread_from_ms = unread_from_ms.max(progress.untaken_from_ms);
            }
        }
        Progress::at(PositionEntry { position, unread_from_ms, range: shard.range })
    }

    /// Whether a shard that is not begun may come of one that is not read to its end, though the listing lacks what lies
    /// between: of any that is begun and was closed, and of an older one that shares hash keys with it, since one of the two is
    /// the other's ancestor.
    fn may_come_of_unfinished(
        &self,
        key: &ShardKey,
        shard: &Shard,
        behind: &BTreeSet<ShardKey>,
        (map, meta): (&ShardMap, &JobMeta),
    ) -> bool {
        let shared = self.rules.reads.common(&shard.range);
        let waits = shared.is_some_and(|shared| {
            map.touching(shared).any(|(older, _)| {
                let is_older =
                    older.stream == key.stream && older.shard < key.shard && !shard.parents.contains(&older.shard);
                let is_due = !behind.contains(older) && !meta.lies_before_start(older);
                is_older && is_due && !self.shards.contains_key(older)
            })
        });
        if waits {
            return true;
        }
        self.shards.iter().any(|(begun, progress)| {
            let is_unfinished = progress.taken != Position::ShardEnd && !behind.contains(begun);
            let shares = shared.is_some_and(|shared| progress.passed.range.touches(&shared));
            begun.stream == key.stream && is_unfinished && (shares || !map.is_open(begun))
        })
    }

    /// Shards that this task still has to read and no listing shows: those begun and not read to their end, and parents never
    /// begun of what waits for them. Whether they are gone is for Kinesis to say, not for a listing.
    pub fn orphans(&self, map: &ShardMap, meta: &JobMeta) -> BTreeSet<ShardKey> {
        let behind = self.behind(map);
        let unknown = map.touching(self.rules.reads).filter(|(key, shard)| {
            !self.shards.contains_key(key)
                && !behind.contains(key)
                && !self.may_come_of_unfinished(key, shard, &behind, (map, meta))
        });
        let waiting = unknown.flat_map(|(key, shard)| {
            let parents = shard.parents.iter().map(|parent| ShardKey { stream: key.stream, shard: parent.clone() });
            parents.map(move |parent| (key.clone(), parent, shard))
        });
        let never_begun = waiting.filter(|(key, parent, shard)| {
            map.get(parent).is_none()
                && !self.shards.contains_key(parent)
                && !self.never_needed(parent, meta)
                && !self.covered_without(parent, key, shard, (map, meta))
        });
        let begun = self.shards.iter().filter(|(_, progress)| progress.taken != Position::ShardEnd);
        let begun = begun.map(|(key, _)| key).filter(|key| map.get(key).is_none() && !behind.contains(*key));
        never_begun.map(|(_, parent, _)| parent).chain(begun.cloned()).collect()
    }
}
