//! A deterministic simulator over `pelton-core`: the real rules run in a fake world of hosts, streams, a table and a sink,
//! in which everything that can go wrong does, as a seed has it. What comes of it is compared with a single-threaded fold.
//!
//! ```text
//! cargo run -p pelton-sim -- --seed 17 --verbose
//! ```

mod rng;
pub mod shape;

mod dynamo;
mod guest;
mod kinesis;
mod producer;
mod store;
mod upstream;

mod chore;
mod host;
mod reader;
mod service;
mod traffic;
mod world;

mod oracle;
mod verdict;

pub use shape::{Coverage, Sabotage};
pub use verdict::{Failure, run_seed};
