//! Guests: components compiled once and run as isolated instances. A guest sees its own task's state and context, the time
//! of its invocation, and nothing else.

mod interfaces;
mod limits;
mod state;
mod timers;
mod wasi;

mod arena;
mod component;
mod instance;
mod runtime;

pub use component::{ComponentError, ComponentReport, Program, digest_of};
pub use instance::{CallEffects, FailureKind, Guest, GuestFault, Identity, Invocation, View};
pub use runtime::{GuestRuntime, RuntimeError};

/// Bindings made from `wit/task.wit`.
#[allow(unsafe_code, missing_docs, unused_qualifications, clippy::all)]
pub(crate) mod bindings {
    pub mod list {
        wasmtime::component::bindgen!({ path: "../../wit", world: "task" });
    }
    pub mod flat {
        wasmtime::component::bindgen!({
            path: "../../wit",
            world: "batch-task",
            with: {
                "pelton:task/types": super::list::pelton::task::types,
                "pelton:task/state": super::list::pelton::task::state,
                "pelton:task/output": super::list::pelton::task::output,
                "pelton:task/context": super::list::pelton::task::context,
            },
        });
    }
    pub mod timed {
        wasmtime::component::bindgen!({
            path: "../../wit",
            world: "timer-task",
            with: { "pelton:task/types": super::list::pelton::task::types },
        });
    }
}
