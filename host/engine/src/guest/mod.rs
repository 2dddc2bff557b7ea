//! Guests: components compiled once and run as isolated instances. A guest sees its own task's state and context, the time
//! of its invocation, what its deployment is granted, and nothing else.

pub mod grants;
pub mod limits;

mod bucket;
mod clock;
mod growth;
mod interfaces;
mod keyvalue_draft;
mod keyvalue_draft2;
mod log;
mod outbound;
mod settings;
mod sockets;
mod state;
mod timers;
mod waiting;
mod wasi;

mod arena;
mod code;
mod compiler;
mod component;
mod fitness;
mod instance;
mod room;
mod runtime;
mod signature;
mod twin;

pub use compiler::child::{self, ChildFault, ChildLimits};
pub use compiler::{ChildCompiler, CompileError, CompileLimits, Compiler};
pub use component::{ComponentError, ComponentReport, Program, digest_of};
pub use fitness::Misfit;
pub use grants::{Granted, Grants, HttpHost};
pub use instance::{CallEffects, FailureKind, Guest, GuestFault, Identity, Invocation, NotAhead, Unborn, View};
pub use limits::{GuestLimits, Limit, Refused};
pub use log::{GuestLine, GuestLines, GuestLog, LineLevel, LineSource, LogOrigin};
pub(crate) use room::TRIED_AT_ONCE;
pub use room::{Room, TASKS_MAX};
pub use runtime::{GuestRuntime, RuntimeError};

/// Bindings made from `wit`.
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
    pub mod stores {
        wasmtime::component::bindgen!({
            path: "../../wit",
            world: "store-task",
            imports: {
                "wasi:keyvalue/atomics@0.2.0-draft2.swap": trappable,
                "wasi:keyvalue/atomics@0.2.0-draft2.[method]cas.current": trappable,
            },
            with: {
                "wasi:keyvalue/store@0.2.0-draft.bucket": crate::guest::bucket::Bucket,
                "wasi:keyvalue/store@0.2.0-draft2.bucket": crate::guest::bucket::Bucket,
                "wasi:keyvalue/atomics@0.2.0-draft2.cas": crate::guest::bucket::Cas,
            },
        });
    }
}
