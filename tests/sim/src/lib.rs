//! A deterministic simulator over `pelton-core`: the real rules run in a fake world of hosts, streams, a table and a sink,
//! in which everything that can go wrong does, as a seed has it. What comes of it is compared with a single-threaded fold
//! that shares no code with the rules. The rules, and what hosts do with them, can be broken on purpose: a mutant that no
//! seed catches would be a hole in the proof.
//!
//! ```text
//! cargo run --bin pelton-sim -- --seed 17 --verbose
//! ```

mod rng;
pub mod shape;

mod downstream;
mod dynamo;
mod guest;
mod kinesis;
mod producer;
mod store;
mod upstream;

mod chore;
mod host;
mod reader;
mod rewind;
mod rollout;
mod service;
mod slips;
mod traffic;
mod world;

mod oracle;
mod promise;
mod trace;
mod verdict;

pub mod mutants;
mod search;

pub use mutants::Mutant;
pub use promise::Promise;
pub use search::{Found, search};
pub use shape::Coverage;
pub use verdict::{Failure, run_seed, traced};
