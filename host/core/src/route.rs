//! The router: takes aggregates apart, judges each record, and sorts those of one fetch by the tasks that own their partition
//! keys, once, keeping their order and sharing their bytes. What no logic is to see goes to the shard's home task.

use std::ops::Range;

use crate::aggregate::{self, AggregatedRecord};
use crate::id::TaskId;
use crate::policy::{Aggregates, Fate, Oddity, OutOfRange, Policies};
use crate::position::RecordPlace;
use crate::record::{Aside, Fetch, Record};
use crate::slice::{HashKey, HashRange, TaskCount};

/// What the records of one shard are judged by.
#[derive(Clone, Copy, Debug)]
pub struct RouteRules {
    /// Of the job.
    pub tasks: TaskCount,
    /// Of the job.
    pub policies: Policies,
    /// Whether the stream carries the outputs of another job, whose names for them are kept.
    pub from_job: bool,
}

/// A fetch sorted by task.
#[derive(Debug)]
pub struct Routed {
    /// The records, in order, and their grouping.
    pub fetch: Fetch,
    /// For each task with records here, in order of tasks, which of the fetch's `order` are its.
    pub spans: Vec<(TaskId, Range<usize>)>,
}

/// In place of an owner.
const NOBODY: u32 = u32::MAX;

/// Judges and sorts the records of a shard, which come as Kinesis keeps them: aggregates whole.
pub fn route(range: HashRange, rules: &RouteRules, records: Vec<Record>) -> Routed {
    let mut sorter = Sorter::new(range, rules, records.len());
    if records.iter().any(|record| aggregate::has_magic(&record.data)) {
        let mut apart = Vec::with_capacity(records.len() * 8);
        for record in records {
            match aggregate::unpack(&record.data) {
                Some(aggregate) => sorter.take_apart(&record, aggregate, &mut apart),
                None => {
                    if aggregate::has_magic(&record.data) {
                        sorter.fetch.malformed.push(apart.len() as u32);
                    }
                    sorter.judge(&record, None);
                    apart.push(record);
                }
            }
        }
        sorter.fetch.records = apart;
    } else {
        records.iter().for_each(|record| sorter.judge(record, None));
        sorter.fetch.records = records;
    }
    sorter.sort()
}

struct Sorter<'r> {
    range: HashRange,
    rules: &'r RouteRules,
    home: u32,
    /// Of each record.
    owners: Vec<u32>,
    /// Records of each task, one place further.
    counts: Vec<u32>,
    fetch: Fetch,
}

impl<'r> Sorter<'r> {
    fn new(range: HashRange, rules: &'r RouteRules, records: usize) -> Self {
        Self {
            range,
            rules,
            home: u32::from(rules.tasks.task_of(range.start).0),
            owners: Vec::with_capacity(records),
            counts: vec![0; rules.tasks.get() as usize + 1],
            fetch: Fetch::default(),
        }
    }

    /// Takes the next record; `oddity` says what the aggregate it came in makes of it.
    fn judge(&mut self, record: &Record, oddity: Option<Fate>) {
        if let Some(fate) = oddity {
            return self.set_aside(fate);
        }
        let hash = record.hash();
        if self.range.contains(hash) {
            return self.own(u32::from(self.rules.tasks.task_of(hash).0));
        }
        match self.rules.policies.out_of_range {
            OutOfRange::DeadLetter => self.set_aside(Fate::DeadLetter(Oddity::OutOfRange)),
            OutOfRange::Drop => self.set_aside(Fate::Drop(Oddity::OutOfRange)),
            OutOfRange::Process => self.own(self.home),
            OutOfRange::ReadAll => self.own(u32::from(self.rules.tasks.task_of(hash).0)),
        }
    }

    fn own(&mut self, owner: u32) {
        self.owners.push(owner);
        self.counts[owner as usize + 1] += 1;
    }

    fn set_aside(&mut self, fate: Fate) {
        self.fetch.asides.push(Aside { index: self.owners.len() as u32, fate });
        self.owners.push(NOBODY);
    }

    /// Takes the records of an aggregate, each at its place within.
    fn take_apart(&mut self, outer: &Record, aggregate: AggregatedRecord, apart: &mut Vec<Record>) {
        let keys = &aggregate.partition_key_table;
        let stray: Vec<bool> =
            aggregate.records.iter().map(|record| !self.effectively_inside(&aggregate, record)).collect();
        let any_stray = stray.contains(&true);
        for (at, (user, stray)) in aggregate.records.iter().zip(stray).enumerate() {
            let fate = match self.rules.policies.aggregates {
                Aggregates::DeadLetter => stray.then_some(Fate::DeadLetter(Oddity::Stray)),
                Aggregates::PerSubRecord => stray.then_some(Fate::Drop(Oddity::Stray)),
                Aggregates::KclCompatible if any_stray => {
                    Some(Fate::Drop(if stray { Oddity::Stray } else { Oddity::WithStray }))
                }
                Aggregates::KclCompatible | Aggregates::AcceptAll => None,
            };
            let record = Record {
                place: RecordPlace { sub_sequence: at as u64, ..outer.place },
                arrived_ms: outer.arrived_ms,
                partition_key: keys[user.partition_key_index as usize].clone(),
                data: user.data.clone(),
                output: if self.rules.from_job { user.output_id().map(Box::new) } else { None },
            };
            self.judge(&record, fate);
            apart.push(record);
        }
    }

    fn effectively_inside(&self, aggregate: &AggregatedRecord, record: &aggregate::UserRecord) -> bool {
        let chosen = aggregate.explicit_hash_key(record);
        let key = || aggregate.partition_key(record).expect("only a whole aggregate is taken apart");
        self.range.contains(chosen.unwrap_or_else(|| HashKey::of(key())))
    }

    /// Groups the records by owner, in their order.
    fn sort(mut self) -> Routed {
        let mut spans = Vec::new();
        let mut start = 0;
        for (task, count) in self.rules.tasks.tasks().zip(self.counts[1..].iter()) {
            if *count > 0 {
                spans.push((task, start..start + *count as usize));
                start += *count as usize;
            }
        }
        let mut next = self.counts;
        for task in 1..next.len() {
            next[task] += next[task - 1];
        }
        let mut order = vec![0u32; start];
        for (index, owner) in self.owners.iter().enumerate().filter(|(_, owner)| **owner != NOBODY) {
            let slot = &mut next[*owner as usize];
            order[*slot as usize] = index as u32;
            *slot += 1;
        }
        self.fetch.order = order;
        Routed { fetch: self.fetch, spans }
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
