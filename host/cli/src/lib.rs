//! What of the command line can be had without a process: its configuration.

pub mod config;
