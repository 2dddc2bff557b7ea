//! The JSON of the API, as the host writes it and the commands read it. Wire twins of what the engine tells of itself:
//! hash keys are 32 hexadecimal digits, sequence numbers decimal text, times milliseconds since 1970.

pub mod component;
pub mod dead_letter;
pub mod deployment;
pub mod event;
pub mod health;
pub mod job;
pub mod log;
pub mod page;
pub mod problem;
pub mod shadow;
pub mod shard;
pub mod state;
pub mod task;
