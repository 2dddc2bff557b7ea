//! Many seeds, on every core: each is a world of its own, on one thread.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{available_parallelism, scope};

use crate::mutants::Mutant;
use crate::shape::Coverage;
use crate::verdict::{Failure, run_seed};

/// What many seeds came to.
#[derive(Debug, Default)]
pub struct Found {
    /// Seeds that were run.
    pub seeds: u64,
    /// What happened in those that held.
    pub cover: Coverage,
    /// Those that did not, by seed.
    pub failures: Vec<Failure>,
}

/// Runs seeds until so many failed; says now and then how far it is.
///
/// # Panics
/// When a world panics on a thread outside its own bounds, which is a defect of the simulator.
pub fn search(
    seeds: std::ops::Range<u64>,
    mutant: Option<Mutant>,
    failures_max: usize,
    progress: impl Fn(u64) + Sync,
) -> Found {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(Found::default());
    let threads = available_parallelism().map_or(1, usize::from);
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds.end {
            return;
        }
        let outcome = run_seed(seed, mutant);
        let mut found = found.lock().expect("no thread panics while it counts");
        found.seeds += 1;
        progress(found.seeds);
        match outcome {
            Ok(cover) => found.cover.add(&cover),
            Err(failure) => found.failures.push(failure),
        }
        if found.failures.len() >= failures_max {
            next.store(seeds.end, Ordering::Relaxed);
        }
    };
    scope(|threads_of| {
        for _ in 0..threads {
            threads_of.spawn(work);
        }
    });
    let mut found = found.into_inner().expect("no thread panics while it counts");
    found.failures.sort_by_key(|failure| failure.seed);
    found
}
