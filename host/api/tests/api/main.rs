//! What the API answers that needs no running job: refusals, components, probes, the document, events and metrics.

// A test that fails says where.
#![allow(clippy::unwrap_used)]

mod fixture;

mod document;
mod events;
mod metrics;
mod refusals;
