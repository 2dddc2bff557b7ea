//! The HTTP API of a Pelton host: what its tasks and shards are doing, the committed state of its jobs and what they run, its
//! components, its dead letters, its events and metrics, and what its guests log. Nothing here decides anything: what is asked of a task, the task does.
//!
//! Every reply is JSON of [`model`], every error a problem (RFC 9457), and every parameter that is not known is
//! refused, so that a misspelt one never passes for a default.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # async fn example(host: pelton_api::HostInfo, shelf: pelton_api::Shelf, engine: pelton_engine::Host) {
//! let access = pelton_api::Access::loopback();
//! let api = Arc::new(pelton_api::Context::new(host, shelf, access, engine.events().clone()));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:7777").await.expect("a free port");
//! axum::serve(listener, pelton_api::router(api)).await.expect("it serves until it is dropped");
//! # }
//! ```

pub mod model;
mod paging;
mod parameters;
mod problem;

mod access;
mod context;

mod components;
mod dead_letters;
mod deployments;
mod document;
mod events;
mod exposition;
mod health;
mod jobs;
mod logs;
mod metrics;
mod router;
mod sent;
mod shadow;
mod state;

pub use access::{Access, TOKEN_CHARS_MIN, Token};
pub use components::Shelf;
pub use context::{Context, HostInfo};
pub use model::problem::Problem;
pub use router::router;
