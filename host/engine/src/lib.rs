//! Runs Pelton's tasks: each an isolated wasm instance with its own redb state, on plain OS threads.
//!
//! The rules are `pelton-core`'s: a task's machine says what it needs, and this crate does it. Records come in and commits
//! and outputs go out through the [`ports`], which the outside implements.
//!
//! ```no_run
//! # async fn example(spec: pelton_engine::JobSpec, ports: pelton_engine::Ports, wasm: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
//! use pelton_engine::{Compiler, GuestRuntime, Host, Room};
//!
//! let guests = GuestRuntime::new("cache".as_ref(), Room::for_tasks(256), Compiler::Here)?;
//! println!("{}", guests.check(&wasm)?.digest);
//! let host = Host::new(2, "data".into())?;
//! let job = host.start_job(spec, ports, guests).await?;
//! println!("{} records folded", job.records_folded());
//! job.stop().await;
//! # Ok(())
//! # }
//! ```

pub mod events;
pub mod ports;
pub mod spec;
pub mod status;

mod host;
mod hub;
mod idle;
mod job;
mod letters;
mod reader;
mod recent;

mod anew;
mod applied;
mod call;
mod cell;
mod deploy;
mod flush;
mod log;
mod mailbox;
mod recover;
mod restore;
mod rewind;
mod scheduler;
mod service;
mod shadow;
mod telling;
mod turn;

pub mod fault;
pub mod guest;
pub mod store;

pub use deploy::{Audience, DeployError, RolloutStatus};
pub use events::EventLog;
pub use guest::{
    CompileError, Compiler, ComponentError, ComponentReport, Grants, GuestLimits, GuestRuntime, HttpHost, Program,
    Room, RuntimeError, TASKS_MAX, digest_of,
};
pub use host::Host;
pub use job::{Job, Ports, random};
pub use recent::{Found, Recent};
pub use recover::{RecoverError, RecoveredTask, Recovery};
pub use shadow::findings::{Cost, DifferenceKind, Example, Findings};
pub use spec::{Consumer, Deployment, DeploymentContent, JobSettings, JobSpec};
pub use status::{ShardStatus, StateReadError, TaskStatus};
pub use telling::Tally;
