//! Shards as a stream lists them, and what their lineage means to one task: which to read, and which must wait for their
//! parents. A listing may be stale and lacks what has expired; nothing is concluded from a shard's absence alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{ShardId, ShardKey, StreamIndex};
use crate::slice::HashRange;

/// One shard, as a listing describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its id.
    pub id: ShardId,
    /// Its range of the hash space.
    pub range: HashRange,
    /// None for an original shard, one after a split, two after a merge. They may have expired.
    pub parents: Vec<ShardId>,
    /// Whether it takes no more records.
    pub closed: bool,
}

/// Every shard known of a job's inputs. A shard once seen stays: listings lag behind and forget.
#[derive(Clone, Debug, Default)]
pub struct ShardMap {
    shards: BTreeMap<ShardKey, Shard>,
    /// Of each stream, those that its newest listing shows as taking records.
    open: BTreeMap<StreamIndex, BTreeSet<ShardId>>,
}

impl ShardMap {
    /// Takes in a listing of one stream. Returns whether it brought anything new.
    pub fn update(&mut self, stream: StreamIndex, listing: Vec<Shard>) -> bool {
        let open = listing.iter().filter(|shard| !shard.closed).map(|shard| shard.id.clone()).collect();
        let before = self.open.insert(stream, open);
        let mut changed = before.as_ref() != self.open.get(&stream);
        for shard in listing {
            let key = ShardKey { stream, shard: shard.id.clone() };
            let known = self.shards.entry(key).or_insert_with(|| {
                changed = true;
                shard.clone()
            });
            if shard.closed && !known.closed {
                known.closed = true;
                changed = true;
            }
        }
        changed
    }

    /// A shard, if it was ever listed.
    pub fn get(&self, key: &ShardKey) -> Option<&Shard> {
        self.shards.get(key)
    }

    /// Whether the newest listing shows a shard as one that takes records.
    pub fn is_open(&self, key: &ShardKey) -> bool {
        self.open.get(&key.stream).is_some_and(|open| open.contains(&key.shard))
    }

    /// Every shard whose range touches this one, by stream and id, so that parents come before their children.
    pub fn touching(&self, range: HashRange) -> impl Iterator<Item = (&ShardKey, &Shard)> {
        self.shards.iter().filter(move |(_, shard)| shard.range.touches(&range))
    }

    /// Every shard, by stream and id.
    pub fn iter(&self) -> impl Iterator<Item = (&ShardKey, &Shard)> {
        self.shards.iter()
    }
}
