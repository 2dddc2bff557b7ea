//! The rules of Pelton: what must be true of tasks, positions and commits, whatever crashes, reshards or moves.
//!
//! Kinesis splits and merges its shards; a job's tasks never change. Each of a job's N tasks owns a fixed [`slice`](mod@slice) of the
//! MD5 space, and every record goes to the task that owns the MD5 of its partition key. What a task folds, how far it has
//! come in each shard, and what it emits move as one [`commit`], appended to a changelog in which a number has one author.
//!
//! Nothing here does IO, reads a clock or draws a random number. State machines take events and say what they need done
//! ([`task::Task::step`], [`feed::Feed::next`]); the engine does it for real, and the simulator in a world of its own.
//!
//! ```
//! use pelton_core::slice::{HashKey, TaskCount};
//!
//! let tasks = TaskCount::new(256).expect("1 to 65,536");
//! let owner = tasks.task_of(HashKey::of("customer-17"));
//! assert!(tasks.slice(owner).contains(HashKey::of("customer-17")));
//! ```

pub mod id;
pub mod position;
pub mod sequence;
pub mod slice;

pub mod aggregate;
pub mod feed;
pub mod policy;
pub mod record;
pub mod route;
pub mod shard;

pub mod append;
pub mod codec;
pub mod commit;
pub mod counts;
pub mod dead_letter;
pub mod intake;
pub mod output;
pub mod repeats;
pub mod timers;
pub mod write_set;

pub mod cause;
pub mod claim;
pub mod outbox;
pub mod restore;
pub mod snapshot;
pub mod task;

pub mod job;
pub mod limits;
pub mod rollout;

pub mod mutant;
