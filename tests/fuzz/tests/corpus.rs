//! Every target holds for its corpus, and for a fixed number of mutations of it: the same ones in every run.

// A test that fails says where.
#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use pelton_fuzz::mutate::{Rng, mutated};
use pelton_fuzz::{TARGETS, corpus, seeds};

/// Runs a target over its corpus and so many mutations; whatever it panics over is kept as a file, and named.
fn check(target: &str, mutations: u64) {
    let (_, run) = TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    let inputs = corpus::inputs(target).unwrap();
    assert!(inputs.len() > 5, "the corpus of {target} has {} inputs", inputs.len());
    let attempt = |what: &str, bytes: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| run(bytes))).is_err() {
            let file = std::env::temp_dir().join(format!("pelton-{target}-{}", std::process::id()));
            std::fs::write(&file, bytes).unwrap();
            panic!("{target} does not hold for {what}, which is kept as {}", file.display());
        }
    };
    inputs.iter().for_each(|input| attempt(&input.name, &input.bytes));
    for seed in 0..mutations {
        let mut rng = Rng::new(seed);
        let (input, other) = (&inputs[rng.below(inputs.len())], &inputs[rng.below(inputs.len())]);
        let bytes = mutated(&mut rng, &input.bytes, &other.bytes);
        attempt(&format!("mutation {seed}, made of {}", input.name), &bytes);
    }
}

#[test]
fn kpl() {
    check("kpl", 100_000);
}

#[test]
fn commit() {
    check("commit", 100_000);
}

#[test]
fn snapshot() {
    check("snapshot", 5_000);
}

#[test]
fn config() {
    check("config", 50_000);
}

#[test]
fn http_body() {
    check("http_body", 10_000);
}

#[test]
fn component() {
    check("component", 5_000);
}

#[test]
fn seeds_are_what_the_corpus_has() {
    for seed in seeds::all() {
        let inputs = corpus::inputs(seed.target).unwrap();
        let kept = inputs.iter().find(|input| input.name == seed.name);
        let same = kept.is_some_and(|input| input.bytes == seed.bytes);
        assert!(same, "{}/{} is another: has a format changed? cargo run --bin pelton-seeds", seed.target, seed.name);
    }
}
