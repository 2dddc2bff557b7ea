//! Write a task of a Pelton job in Rust: a struct, a trait and one macro.
//!
//! A task folds the records of its slice of a stream into its own key-value state, and may emit messages to the job's
//! outputs. Whatever a call writes and emits is kept together with the positions of its records, or not at all. This
//! crate takes records in flat batches, keeps reads, writes and outputs in memory during a call, and hands them to the
//! host in one piece at its end, because a host call costs about as much as the work on a record.
//!
//! ```
//! use pelton_task::{Call, Context, Failure, Map, Record, Task, testing::Harness};
//!
//! /// How often each partition key was seen.
//! const SEEN: Map<str, u64> = Map::new("seen/");
//!
//! struct Seen;
//!
//! impl Task for Seen {
//!     fn init(_context: &Context) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn process(&mut self, record: &Record<'_>, call: &mut Call) -> Result<(), Failure> {
//!         SEEN.add(call, record.partition_key(), 1)?;
//!         if record.data() == b"tell" {
//!             let seen = SEEN.get(call, record.partition_key())?.unwrap_or(0);
//!             call.emit("seen", record.partition_key(), seen.to_string().as_bytes())?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! pelton_task::export!(Seen);
//!
//! // The same code runs in a plain test, with a host in memory.
//! let mut harness = Harness::<Seen>::new().output("seen");
//! harness.record("clicks", "ada", b"").record("clicks", "ada", b"tell").run()?;
//! assert_eq!(harness.messages("seen")[0].data, b"2");
//! assert_eq!(harness.state()[&b"seen/ada"[..]], 2u64.to_be_bytes());
//! # Ok::<(), Failure>(())
//! ```
//!
//! Build the crate as a `cdylib` for the target `wasm32-wasip2`; the result is a component that exports
//! `pelton:task/batch-processor` and `pelton:task/timer-handler`.

pub mod context;
pub mod record;
pub mod task;

pub mod call;
pub mod codec;
pub mod map;
pub mod scan;
pub mod timer;

pub mod failure;
pub mod limits;

#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

mod host;
mod layer;
mod outbox;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod component;
mod export;

pub use call::Call;
pub use codec::Codec;
#[cfg(feature = "serde")]
pub use codec::Json;
pub use context::Context;
pub use failure::{Failure, FailureKind};
pub use map::{Map, Value};
pub use record::{Batch, Record};
pub use scan::{Direction, Scan};
pub use task::Task;
pub use timer::Timer;
