//! The parts, each on one core and without a service: routing beside MD5 alone, guests that do nothing, count words or read,
//! beside the same logic native on the same state.

#![allow(missing_docs)] // What criterion's macros make has none.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use md5::{Digest as _, Md5};
use pelton_bench::{RECORD_WORDS, VOCABULARY, records, texts};
use pelton_core::policy::Policies;
use pelton_core::record::{Record, Run};
use pelton_core::route::{RouteRules, route};
use pelton_core::slice::{HashRange, TaskCount};
use pelton_core::snapshot::StateMark;
use pelton_core::write_set::{WriteSet, user_key};
use pelton_e2e::instance::{Instance, SOME, run_of};
use pelton_engine::GuestLimits;
use pelton_engine::guest::{Guest, View};
use pelton_engine::store::StateReader;

/// As in a host.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records routed or processed at a time.
const RECORDS: usize = 10_000;
/// Records counted in one batch.
const WORD_RECORDS: usize = 1_000;
/// Keys of the state that is read.
const STATE_KEYS: u64 = 100_000;
/// Records that read 16 keys each.
const READS: u64 = 500;

fn plain(count: usize) -> Vec<Record> {
    records(texts().take(count).map(Bytes::from))
}

fn routing(criterion: &mut Criterion) {
    let records = plain(RECORDS);
    let rules = RouteRules {
        tasks: TaskCount::new(256).expect("a number of tasks"),
        policies: Policies::default(),
        from_job: false,
    };
    let mut group = criterion.benchmark_group("routing");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("md5", |bencher| {
        bencher.iter(|| {
            for record in &records {
                black_box(Md5::digest(&record.partition_key));
            }
        });
    });
    group.bench_function("route", |bencher| {
        bencher.iter_batched(
            || records.clone(),
            |records| route(HashRange::ALL, &rules, records),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// Has one instance process a run again and again.
struct Caller {
    guest: Option<Guest>,
    streams: Arc<[String]>,
    runs: Vec<Run>,
    view: View,
}

impl Caller {
    fn new(instance: &Instance, run: Run) -> Self {
        let guest = Some(instance.start().expect("the component begins"));
        Self { guest, streams: ["in".to_owned()].into(), runs: vec![run], view: instance.view() }
    }

    fn call(&mut self) -> WriteSet {
        let guest = self.guest.take().expect("every call gives it back");
        let processed = guest.process(&self.runs, &self.streams, SOME, 0, self.view.clone());
        let (guest, effects) = processed.expect("the component does its work");
        self.guest = Some(guest);
        effects.writes
    }
}

fn nothing(criterion: &mut Criterion) {
    let instance = Instance::of("bench_guest", GuestLimits::default()).expect("make guests built it");
    let mut caller = Caller::new(&instance, run_of(plain(RECORDS)));
    let mut group = criterion.benchmark_group("noop");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("guest", |bencher| bencher.iter(|| caller.call()));
    group.finish();
}

fn mark(number: u64) -> StateMark {
    StateMark { number: pelton_core::id::CommitNumber(number), ..StateMark::default() }
}

fn word_count(criterion: &mut Criterion) {
    let mut instance = Instance::of("word_count", GuestLimits::default()).expect("make guests built it");
    let mut counts = WriteSet::default();
    for word in 0..VOCABULARY {
        let count = Bytes::copy_from_slice(&u64::from(word).to_be_bytes());
        counts.insert(user_key(format!("word{word}").as_bytes()), Some(count));
    }
    instance.store().apply(&counts, mark(1)).expect("the disk takes it");
    let records = plain(WORD_RECORDS);
    let local = instance.store().reader();
    let mut caller = Caller::new(&instance, run_of(records.clone()));
    let mut group = criterion.benchmark_group("word-count");
    group.throughput(Throughput::Elements((WORD_RECORDS * RECORD_WORDS) as u64));
    group.bench_function("guest", |bencher| bencher.iter(|| caller.call()));
    group.bench_function("native", |bencher| bencher.iter(|| native(&records, &local)));
    group.finish();
}

/// The logic of the word-count plugin, with the state at hand.
fn native(records: &[Record], local: &StateReader) -> WriteSet {
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    for record in records {
        let text = String::from_utf8_lossy(&record.data).to_ascii_lowercase();
        let words = text.as_bytes().split(|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric());
        for word in words.filter(|word| !word.is_empty()) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(counts.insert(word.to_vec(), 1)),
            }
        }
    }
    let mut writes = WriteSet::default();
    for (word, count) in counts {
        let key = user_key(&word);
        let before = local.get(&key).expect("the disk answers");
        let before = before.map_or(0, |value| u64::from_be_bytes(value[..].try_into().expect("a count has 8 bytes")));
        writes.insert(key, Some(Bytes::copy_from_slice(&(before + count).to_be_bytes())));
    }
    writes
}

fn reads(criterion: &mut Criterion) {
    let mut instance = Instance::of("bench_guest", GuestLimits::default()).expect("make guests built it");
    let mut entries = WriteSet::default();
    for number in 0..STATE_KEYS {
        entries.insert(user_key(&number.to_be_bytes()), Some(Bytes::from(vec![7; 100])));
    }
    instance.store().apply(&entries, mark(1)).expect("the disk takes it");
    let local = instance.store().reader();
    // All over the state, each key once.
    let starts: Vec<u64> = (0..READS).map(|at| (at * 7_919 % (STATE_KEYS / 16)) * 16).collect();
    let run = |how: &str| {
        let texts: Vec<Bytes> = starts.iter().map(|start| Bytes::from(format!("{how} {start}"))).collect();
        run_of(records(texts))
    };
    let mut group = criterion.benchmark_group("state-get");
    group.throughput(Throughput::Elements(READS * 16));
    for (name, how) in [("many", "many"), ("single", "each")] {
        let mut caller = Caller::new(&instance, run(how));
        group.bench_function(name, |bencher| bencher.iter(|| caller.call()));
    }
    group.bench_function("redb", |bencher| {
        bencher.iter(|| {
            for start in &starts {
                for number in *start..start + 16 {
                    let key = user_key(&number.to_be_bytes());
                    black_box(local.get(&key).expect("the disk answers"));
                }
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = parts;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = routing, nothing, word_count, reads
}
criterion_main!(parts);
