//! What must become of each record, by the oracle's own words: never those of the router.

use pelton_core::id::TaskId;
use pelton_core::job::JobMeta;
use pelton_core::policy::{Aggregates, Fate, Oddity, OutOfRange};
use pelton_core::shard::Shard;

use super::space::{hash_of, holds, owner_of};
use crate::kinesis::Meant;

/// Who answers for a record, and what it does: nothing means that its logic is to see it.
pub type Judgement = (TaskId, Option<Fate>);

/// Judges what one Kinesis record of a shard holds.
pub fn judge(meta: &JobMeta, shard: &Shard, meant: &[Meant]) -> Vec<Judgement> {
    let home = owner_of(meta, shard.range.start);
    let by_key = |one: &Meant| hash_of(&one.record.partition_key);
    let is_stray = |one: &Meant| !holds(shard.range, one.chosen.unwrap_or(by_key(one)));
    let any_stray = meant.iter().any(is_stray);
    let one = |one: &Meant| {
        if one.in_aggregate {
            let stray = is_stray(one);
            match meta.policies.aggregates {
                Aggregates::DeadLetter if stray => return (home, Some(Fate::DeadLetter(Oddity::Stray))),
                Aggregates::PerSubRecord if stray => return (home, Some(Fate::Drop(Oddity::Stray))),
                Aggregates::KclCompatible if any_stray => {
                    return (home, Some(Fate::Drop(if stray { Oddity::Stray } else { Oddity::WithStray })));
                }
                _ => {}
            }
        }
        let owner = owner_of(meta, by_key(one));
        if holds(shard.range, by_key(one)) {
            return (owner, None);
        }
        match meta.policies.out_of_range {
            OutOfRange::DeadLetter => (home, Some(Fate::DeadLetter(Oddity::OutOfRange))),
            OutOfRange::Drop => (home, Some(Fate::Drop(Oddity::OutOfRange))),
            OutOfRange::Process => (home, None),
            OutOfRange::ReadAll => (owner, None),
        }
    };
    meant.iter().map(one).collect()
}
