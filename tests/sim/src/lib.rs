//! A deterministic simulator over `pelton-core`: the real rules run in a fake world of hosts, streams, a table and a sink,
//! in which everything that can go wrong does, as a seed has it. What comes of it is compared with a single-threaded fold.
//!
//! ```text
//! cargo run -p pelton-sim -- --seed 17 --verbose
//! ```

pub mod rng;
pub mod shape;

pub mod dynamo;
pub mod guest;
pub mod kinesis;
pub mod store;

mod host;
mod reader;
mod service;
mod traffic;
pub mod world;

pub mod oracle;
mod verdict;

pub use shape::{Coverage, Sabotage};
pub use verdict::{Failure, run_seed};
