//! A job upstream, by itself: its tasks commit outputs and send them, nothing of a commit before all of the one before is
//! acknowledged, and whole commits again after a crash.

use pelton_core::aggregate;
use pelton_core::id::{CommitNumber, Incarnation, TaskId};
use pelton_core::output::{OutputId, Package};
use pelton_core::slice::HashKey;

use crate::kinesis::{Kinesis, Part, Put};
use crate::rng::Rng;

/// Outputs of one commit under one key, in one Kinesis record.
#[derive(Clone, Debug)]
struct Packed {
    stream: usize,
    put: Put,
    acknowledged: bool,
}

/// A task of the job upstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    task: TaskId,
    /// How many streams it fills, each with an output of its own.
    streams: u64,
    commit: u64,
    /// The newest commit.
    newest: Vec<Packed>,
    /// The one before: its outputs are all acknowledged, which a crash may forget.
    before: Vec<Packed>,
}

/// What became of a package on its way.
#[derive(Debug)]
pub enum Sent {
    /// It is in that stream now.
    Put(usize, Put),
    /// It will be, in some time, whatever is sent until then.
    Late(usize, Put),
    /// It never will be.
    Lost,
    /// There is nothing to send.
    Nothing,
}

impl Upstream {
    /// A task that has committed nothing.
    pub fn new(task: u16, streams: u64) -> Self {
        Self { task: TaskId(task), streams, commit: 0, newest: Vec::new(), before: Vec::new() }
    }

    /// Whether all it committed is acknowledged.
    pub fn is_done(&self) -> bool {
        self.newest.iter().chain(&self.before).all(|packed| packed.acknowledged)
    }

    /// Does the next thing: commits when all is acknowledged and it still may, sends something otherwise.
    pub fn step(&mut self, rng: &mut Rng, kinesis: &mut Kinesis, may_commit: bool) -> Sent {
        if self.is_done() {
            if !may_commit {
                return Sent::Nothing;
            }
            let newest = self.commit(rng, kinesis);
            self.before = std::mem::replace(&mut self.newest, newest);
        } else if may_commit && rng.chance(300) {
            self.crash(rng);
        }
        let unsent = |packed: &&mut Packed| !packed.acknowledged;
        let mut before: Vec<&mut Packed> = self.before.iter_mut().filter(unsent).collect();
        if before.is_empty() {
            before = self.newest.iter_mut().filter(unsent).collect();
        }
        if before.is_empty() {
            return Sent::Nothing;
        }
        let at = rng.below(before.len() as u64) as usize;
        let packed = &mut before[at];
        match rng.below(10) {
            0 => Sent::Lost,
            1 => Sent::Put(packed.stream, packed.put.clone()),
            2 => Sent::Late(packed.stream, packed.put.clone()),
            _ => {
                packed.acknowledged = true;
                Sent::Put(packed.stream, packed.put.clone())
            }
        }
    }

    /// What it knew of acknowledgements is gone; whole commits are sent again.
    fn crash(&mut self, rng: &mut Rng) {
        self.newest.iter_mut().for_each(|packed| packed.acknowledged = false);
        if rng.chance(5_000) {
            self.before.iter_mut().for_each(|packed| packed.acknowledged = false);
        }
    }

    fn commit(&mut self, rng: &mut Rng, kinesis: &mut Kinesis) -> Vec<Packed> {
        self.commit += 1;
        let mut index = 0;
        let keys = (0..3 * self.streams).filter(|_| rng.chance(6_000)).collect::<Vec<_>>();
        let packages = keys.into_iter().map(|key| {
            let stream = (key % self.streams) as usize;
            let key = format!("u{}k{key}", self.task);
            let entries = (0..rng.between(1, 4)).map(|_| {
                let id = OutputId {
                    incarnation: Incarnation([7; 16]),
                    task: self.task,
                    commit: CommitNumber(self.commit),
                    index,
                    rewind: None,
                };
                index += 1;
                (id, kinesis.payload(&key))
            });
            let package = Package { output: "out".into(), partition_key: key.clone(), entries: entries.collect() };
            Packed { stream, put: put(&package), acknowledged: false }
        });
        packages.collect()
    }
}

fn put(package: &Package) -> Put {
    let part = |(id, data): &(OutputId, bytes::Bytes)| Part {
        key: package.partition_key.clone(),
        chosen: None,
        data: data.clone(),
        output: Some(*id),
    };
    Put {
        outer_key: package.partition_key.clone(),
        hash: HashKey::of(&package.partition_key),
        data: aggregate::pack(package),
        parts: package.entries.iter().map(part).collect(),
        is_aggregate: true,
    }
}
