//! What the end-to-end tests and the demo stand on: the embedded servers and hosts as real processes, the streams through
//! the ordinary AWS SDK, and folds of the input that share no code with Pelton.

pub mod aggregate;
pub mod host;
pub mod instance;
pub mod process;
pub mod servers;
pub mod stage;
pub mod streams;
pub mod table;

pub mod api;
pub mod contract;
pub mod events;
pub mod fold;
pub mod text;

pub mod account;
pub mod later;
pub mod swapping;

pub mod kinesis_local;
pub mod load;
pub mod web;
