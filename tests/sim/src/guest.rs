//! The fake guest: a fold whose result tells loss, repetition and reordering apart from what should have been. The same
//! fold is the model that histories are compared with.

use bytes::Bytes;
use pelton_core::output::Output;
use pelton_core::record::Record;
use pelton_core::task::Call;
use pelton_core::write_set::{WriteSet, user_key};

use crate::rng::{hash, mix};
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

/// Folds one record: counts it, chains it, remembers or forgets it, and emits.
pub fn fold(record: &Record, big: bool, view: &dyn View, writes: &mut WriteSet, outputs: &mut Vec<Output>) {
    let key = record.partition_key.as_str();
    let read = |writes: &WriteSet, stored: &Bytes| match writes.get(stored) {
        Some(written) => written.cloned(),
        None => view.read(stored),
    };
    let number = |value: Option<Bytes>| {
        value.map_or(0, |value| u64::from_be_bytes(value.as_ref().try_into().expect("the guest writes 8 bytes")))
    };
    let record_hash = hash(&record.data);

    let count_key = user_key(key.as_bytes());
    let count = number(read(writes, &count_key)) + 1;
    writes.insert(count_key, Some(Bytes::copy_from_slice(&count.to_be_bytes())));
    let chain_key = user_key(format!("seq:{key}").as_bytes());
    let chain = mix(number(read(writes, &chain_key)) ^ record_hash);
    writes.insert(chain_key, Some(Bytes::copy_from_slice(&chain.to_be_bytes())));
    let odd_key = user_key(format!("odd:{key}").as_bytes());
    writes.insert(odd_key, (count % 2 == 1).then(|| record.data.clone()));
    if big && record_hash.is_multiple_of(12) {
        let noise: Vec<u8> = (0..60_000u64).flat_map(|at| mix(record_hash ^ at).to_be_bytes()).collect();
        writes.insert(user_key(format!("big:{}", record_hash % 2).as_bytes()), Some(noise.into()));
    }

    let output =
        |partition_key: &str, data: Bytes| Output { output: "out".into(), partition_key: partition_key.into(), data };
    outputs.push(output(key, record.data.clone()));
    if record_hash.is_multiple_of(3) {
        outputs.push(output(SHARED_KEY, format!("{}={count}", String::from_utf8_lossy(&record.data)).into()));
    }
}

/// Runs a call.
pub fn call(call: &Call, big: bool, local: &State) -> (WriteSet, Vec<Output>) {
    let (mut writes, mut outputs) = (WriteSet::default(), Vec::new());
    let layers = Layers { call, local };
    for record in call.batch.runs.iter().flat_map(|run| run.records()) {
        fold(record, big, &layers, &mut writes, &mut outputs);
    }
    (writes, outputs)
}
