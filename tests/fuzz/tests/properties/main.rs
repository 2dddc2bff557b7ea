//! Properties of values of every shape, made at random and made smaller until a fault is plain. The same ones in every run, unless
//! `PROPTEST_RNG_SEED` gives another seed.

// A test that fails says where.
#![allow(clippy::unwrap_used)]

mod arbitrary;

mod aggregates;
mod configs;
mod requests;
mod slices;
mod snapshots;
mod stored;

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// Expects a property to hold of so many values.
fn check<T: Debug>(cases: u32, of: impl Strategy<Value = T>, holds: impl Fn(T)) {
    let mut config = Config { cases, failure_persistence: None, ..Config::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(1);
    }
    let ran = TestRunner::new(config).run(&of, |value| {
        holds(value);
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}
