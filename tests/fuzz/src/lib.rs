//! What must hold of bytes that come from elsewhere, whatever they are: a function a format, which panics where it does not.
//! A fuzzer calls them with what it makes up; plain tests with the corpus and a fixed number of mutations of it.
//!
//! A fuzzer runs from this folder, once it has our versions; what it finds goes to its own corpus, the first folder named:
//!
//! ```text
//! cp ../../Cargo.lock fuzz/ && mkdir -p fuzz/corpus/kpl
//! cargo +nightly fuzz run --fuzz-dir fuzz --sanitizer none kpl fuzz/corpus/kpl corpus/kpl -- -max_total_time=60
//! ```
//!
//! ```
//! // Not an aggregate, so it must be a plain record to all of Pelton.
//! pelton_fuzz::kpl(b"hello");
//! ```

// To panic is what the targets are for.
#![allow(clippy::unwrap_used)]

pub mod entry;
pub mod http;
pub mod packing;

mod commit;
mod component;
mod config;
mod kpl;
mod snapshot;

pub mod corpus;
pub mod mutate;
pub mod seeds;

pub use commit::commit;
pub use component::component;
pub use config::config;
pub use http::http_body;
pub use kpl::kpl;
pub use snapshot::snapshot;

/// A function that takes any bytes, and panics where something does not hold of them.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its folder in the corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("kpl", kpl),
    ("commit", commit),
    ("snapshot", snapshot),
    ("config", config),
    ("http_body", http_body),
    ("component", component),
];
