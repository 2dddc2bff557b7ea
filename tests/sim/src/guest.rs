//! The fake guest: a fold whose result tells loss, repetition and reordering apart from what should have been. The same
//! fold is the model that histories are compared with.

use std::collections::BTreeMap;

use bytes::Bytes;
use pelton_core::dead_letter::Timer;
use pelton_core::id::DeploymentNumber;
use pelton_core::output::Output;
use pelton_core::record::Record;
use pelton_core::task::{Call, FailureKind, Given};
use pelton_core::timers::TimerChange;
use pelton_core::write_set::user_key;

use crate::rng::{hash, mix};
use crate::rollout::is_flawed;
use crate::store::State;

/// Keys emit to themselves and, now and then, to one key for all.
pub const SHARED_KEY: &str = "all";

/// What a fold reads of the state before it.
pub trait View {
    /// The value of a stored key.
    fn read(&self, key: &Bytes) -> Option<Bytes>;
}

impl View for State {
    fn read(&self, key: &Bytes) -> Option<Bytes> {
        self.get(key).cloned()
    }
}

/// A call's view: the open write set over the sealed one over the local copy.
pub struct Layers<'a> {
    /// Says what is open and sealed.
    pub call: &'a Call,
    /// The local copy.
    pub local: &'a State,
}

impl View for Layers<'_> {
    fn read(&self, key: &Bytes) -> Option<Bytes> {
        let sealed = || self.call.sealed.as_ref().and_then(|sealed| sealed.get(key));
        match self.call.open.get(key).or_else(sealed) {
            Some(written) => written.cloned(),
            None => self.local.get(key).cloned(),
        }
    }
}

/// What calls did: the writes over the state below, outputs, and timers as they stand, each with its last change.
#[derive(Debug, Default)]
pub struct Done {
    /// Keys written.
    pub writes: BTreeMap<Bytes, Option<Bytes>>,
    /// In order.
    pub outputs: Vec<Output>,
    /// By name.
    pub timers: BTreeMap<String, Option<u64>>,
}

fn read(done: &Done, view: &dyn View, stored: &Bytes) -> u64 {
    let value = match done.writes.get(stored) {
        Some(written) => written.clone(),
        None => view.read(stored),
    };
    value.map_or(0, |value| u64::from_be_bytes(value.as_ref().try_into().expect("the guest writes 8 bytes")))
}

/// Whether the guest cannot take a record, now or later.
pub fn is_poison(record: &Record) -> bool {
    hash(&record.data).is_multiple_of(31)
}

/// Whether the guest fails with a record whenever it is given it, though it does not say that it always will.
pub fn is_stubborn(record: &Record) -> bool {
    hash(&record.data) % 41 == 1
}

/// The logic of a task.
#[derive(Clone, Copy, Debug)]
pub struct Logic {
    /// The deployment it is of: each folds a little differently.
    pub deployment: DeploymentNumber,
    /// Whether it writes values too large for one item.
    pub big: bool,
}

/// Where logic says of which deployment it is.
pub fn deployment_key() -> Bytes {
    user_key(b"logic")
}

impl Logic {
    fn sign(&self, done: &mut Done) {
        done.writes.insert(deployment_key(), Some(Bytes::copy_from_slice(&self.deployment.0.to_be_bytes())));
    }

    /// Fires a timer: counts it, tells of it, and sets it anew now and then.
    pub fn fire(&self, timer: &Timer, view: &dyn View, done: &mut Done) {
        self.sign(done);
        let key = user_key(format!("fired:{}", timer.name).as_bytes());
        let count = read(done, view, &key) + 1;
        done.writes.insert(key, Some(Bytes::copy_from_slice(&count.to_be_bytes())));
        let data = format!("{}@{}", timer.name, timer.due_ms).into();
        done.outputs.push(Output { output: "out".into(), partition_key: timer.name.clone(), data, rewind: None });
        if !count.is_multiple_of(3) {
            done.timers.insert(timer.name.clone(), Some(timer.due_ms + 3_000));
        }
    }

    /// Folds one record at a time: counts it, chains it, remembers or forgets it, emits, and sets or cancels a timer.
    pub fn fold(&self, record: &Record, time_ms: u64, view: &dyn View, done: &mut Done) {
        self.sign(done);
        let key = record.partition_key.as_str();
        let record_hash = hash(&record.data);

        let count_key = user_key(key.as_bytes());
        let count = read(done, view, &count_key) + 1;
        let chain_key = user_key(format!("seq:{key}").as_bytes());
        let chain = mix(read(done, view, &chain_key) ^ record_hash ^ self.deployment.0);
        let Done { writes, outputs, timers } = done;
        writes.insert(count_key, Some(Bytes::copy_from_slice(&count.to_be_bytes())));
        writes.insert(chain_key, Some(Bytes::copy_from_slice(&chain.to_be_bytes())));
        match record_hash % 7 {
            0 | 1 => drop(timers.insert(format!("t{}", record_hash % 3), Some(time_ms + record_hash % 20_000))),
            2 => drop(timers.insert(format!("t{}", record_hash % 3), None)),
            _ => {}
        }
        let odd_key = user_key(format!("odd:{key}").as_bytes());
        writes.insert(odd_key, (count % 2 == 1).then(|| record.data.clone()));
        if self.big && record_hash.is_multiple_of(12) {
            let noise: Vec<u8> = (0..60_000u64).flat_map(|at| mix(record_hash ^ at).to_be_bytes()).collect();
            writes.insert(user_key(format!("big:{}", record_hash % 2).as_bytes()), Some(noise.into()));
        }

        let output = |partition_key: &str, data: Bytes| Output {
            output: "out".into(),
            partition_key: partition_key.into(),
            data,
            rewind: None,
        };
        outputs.push(output(key, record.data.clone()));
        if record_hash.is_multiple_of(3) {
            outputs.push(output(SHARED_KEY, format!("{}={count}", String::from_utf8_lossy(&record.data)).into()));
        }
    }

    /// Runs a call; says which of what it was given it cannot take, if there is one.
    pub fn call(&self, call: &Call, poison: bool, local: &State) -> Result<Done, (FailureKind, usize)> {
        let layers = Layers { call, local };
        let mut done = Done::default();
        match call.work.given() {
            Given::Runs(runs) => {
                for (at, record) in runs.iter().flat_map(|run| run.records()).enumerate() {
                    if is_flawed(self.deployment) && hash(&record.data).is_multiple_of(4) {
                        return Err((FailureKind::Retry, at));
                    }
                    if poison && is_poison(record) {
                        return Err((FailureKind::Poison, at));
                    }
                    if poison && is_stubborn(record) {
                        return Err((FailureKind::Retry, at));
                    }
                    self.fold(record, call.time_ms, &layers, &mut done);
                }
            }
            Given::Timers(timers) if is_flawed(self.deployment) && timers.len() % 2 == 1 => {
                return Err((FailureKind::Retry, 0));
            }
            Given::Timers(timers) => timers.iter().for_each(|timer| self.fire(timer, &layers, &mut done)),
        }
        Ok(done)
    }
}

impl Done {
    /// The timers as a call gives them back.
    pub fn timer_changes(&self) -> Vec<TimerChange> {
        self.timers.iter().map(|(name, due_ms)| (name.clone(), *due_ms)).collect()
    }
}
