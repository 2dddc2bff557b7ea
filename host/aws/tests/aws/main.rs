//! The AWS crate against servers that speak the real APIs, in this process, with faults put in between.

// The same crate and tests once more, with ways to be wrong: see `tests/adapters`.
#[cfg(feature = "mutants")]
extern crate pelton_aws_mutants as pelton_aws;

#[cfg(feature = "mutants")]
mod mutants;

mod faults;
mod script;
mod servers;

mod changelog;
mod components;
mod deployments;
mod fan_out;
mod jobs;
mod sink;
mod source;
mod strict;

mod parts;
mod replicas;
mod replies;
mod throttling;
