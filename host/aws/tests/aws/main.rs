//! The AWS crate against servers that speak the real APIs, in this process, with faults put in between.

mod faults;
mod script;
mod servers;

mod changelog;
mod components;
mod fan_out;
mod jobs;
mod sink;
mod source;
mod strict;

mod parts;
mod replicas;
mod replies;
mod throttling;
