//! A job downstream: it reads what the job under test publishes, from a stream that splits and merges too, and drops what was
//! sent again by the rules' own filter. Each output must reach its state once, and in its key's order.

use std::collections::BTreeSet;

use pelton_core::id::StreamIndex;
use pelton_core::output::{OutputId, Package};
use pelton_core::repeats::{Mark, Repeats, Upstream};
use pelton_core::slice::{HashKey, HashRange, TaskCount};

use crate::rng::Rng;

/// One task's filter, and what of it is in that task's state.
#[derive(Debug, Default)]
struct Filter {
    repeats: Repeats,
    stored: Vec<(Upstream, HashKey, Mark)>,
}

/// The job downstream.
#[derive(Debug)]
pub struct Downstream {
    tasks: TaskCount,
    filters: Vec<Filter>,
    /// First hash keys of the open shards of its input, rising.
    shards: BTreeSet<u128>,
}

impl Downstream {
    /// A job that has read nothing.
    pub fn new(rng: &mut Rng) -> Self {
        let tasks = TaskCount::new(rng.between(1, 4) as u32).expect("it has tasks");
        let filters = tasks.tasks().map(|_| Filter::default()).collect();
        Self { tasks, filters, shards: BTreeSet::from([0]) }
    }

    /// Its input splits or merges, or one of its tasks begins again from its state.
    pub fn change(&mut self, rng: &mut Rng) {
        match rng.below(3) {
            0 => drop(self.shards.insert(u128::from(rng.next()) << 64)),
            1 => {
                let later: Vec<u128> = self.shards.range(1..).copied().collect();
                if !later.is_empty() {
                    self.shards.remove(&rng.pick(&later));
                }
            }
            _ => {
                let at = rng.below(self.filters.len() as u64) as usize;
                let filter = &mut self.filters[at];
                filter.repeats = Repeats::default();
                for (upstream, start, mark) in &filter.stored {
                    filter.repeats.restore(*upstream, *start, mark.clone());
                }
            }
        }
    }

    /// The outputs of a package that came for the first time.
    pub fn take(&mut self, package: &Package) -> Vec<OutputId> {
        let hash = HashKey::of(&package.partition_key);
        let task = self.tasks.task_of(hash);
        let start = *self.shards.range(..=hash.0).next_back().expect("the first shard begins at 0");
        let end = self.shards.range(hash.0..).find(|next| **next > hash.0).map_or(u128::MAX, |next| next - 1);
        let shard = HashRange { start: HashKey(start), end: HashKey(end) };
        let delivered = shard.common(&self.tasks.slice(task)).expect("both hold the key");
        let filter = &mut self.filters[usize::from(task.0)];
        let ids = package.entries.iter().map(|(id, _)| *id);
        let first = ids.filter(|id| filter.repeats.take(StreamIndex(0), id, hash, delivered)).collect();
        for (upstream, start, mark) in filter.repeats.take_changes() {
            filter.stored.retain(|(of, at, _)| (*of, *at) != (upstream, start));
            filter.stored.extend(mark.map(|mark| (upstream, start, mark.clone())));
        }
        first
    }
}
