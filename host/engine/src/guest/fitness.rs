//! Whether a component is fit to be a task: what it has to export, what it may import, how many parts it may have.

use std::collections::BTreeSet;

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::outbound::HANDLER;
use super::room::{MEMORIES_PER_INSTANCE, TABLES_PER_INSTANCE};
use super::sockets::INTERFACES;

/// The export of a task that takes lists of records.
pub const PROCESSOR: &str = "pelton:task/processor@0.1.0";
/// The export of a task that takes flat batches.
pub const BATCH_PROCESSOR: &str = "pelton:task/batch-processor@0.1.0";
/// The export of a task that has timers.
pub const TIMER_HANDLER: &str = "pelton:task/timer-handler@0.1.0";
/// The import of a task that sets timers.
const TIMERS: &str = "pelton:task/timers@0.1.0";
/// The import of which there are two by one name.
pub const KEYVALUE_BATCH: &str = "wasi:keyvalue/batch@0.2.0-draft2";

/// What mends a type that is another.
const BY_THE_WIT: &str = "build it against the wit/ of this version";

/// One thing that stands against a component, and what would mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It has nothing to call.
    #[error("the component exports neither {PROCESSOR} nor {BATCH_PROCESSOR} but {0}; build it with a guest SDK")]
    NoProcessor(String),
    /// It needs what no task is given.
    #[error("the component imports {0}, which tasks are not given; see wit/task.wit for what they are{hint}", hint = instead(.0))]
    UnknownImport(String),
    /// It needs of an interface that tasks are given what that does not have, or has with another type.
    #[error("an interface that the component imports is another than tasks are given: {0}; {BY_THE_WIT}")]
    ImportTypes(String),
    /// It could set timers that nothing would fire.
    #[error("the component imports {TIMERS} and does not export {TIMER_HANDLER}, which its timers would be fired at")]
    NoTimerHandler,
    /// It has not all of what it is called by.
    #[error("the component's {interface} exports no function {function}, which is `{function}: {wit}`; {BY_THE_WIT}")]
    NoFunction {
        /// Of which export.
        interface: &'static str,
        /// Its name.
        function: &'static str,
        /// Its type.
        wit: &'static str,
    },
    /// What it is called by has another type than it is called with.
    #[error(
        "the function {function} of the component's {interface} is not `{function}: {wit}`: {difference}; {BY_THE_WIT}"
    )]
    Type {
        /// Of which export.
        interface: &'static str,
        /// The function's name.
        function: &'static str,
        /// The type it is called with.
        wit: &'static str,
        /// Where its own differs first.
        difference: String,
    },
    /// It has more of something than there is room for, were every instance to have so many.
    #[error("the component has {found} {what}, and a task's may have {most}; link its modules to share theirs")]
    Parts {
        /// Of what.
        what: &'static str,
        /// How many.
        found: u32,
        /// Most there may be.
        most: u32,
    },
}

/// What there is in place of an interface that nobody is given.
fn instead(name: &str) -> &'static str {
    match name.split(['/', '@']).next() {
        Some("wasi:sockets") => "; a deployment can be granted calls by wasi:http, and no sockets",
        Some(_) | None => "",
    }
}

/// All that stands against a component.
pub fn misfits(component: &Component, engine: &Engine) -> Vec<Misfit> {
    let kind = component.component_type();
    let exports: BTreeSet<&str> = kind.exports(engine).map(|(name, _)| name).collect();
    let mut misfits = Vec::new();
    if !exports.contains(BATCH_PROCESSOR) && !exports.contains(PROCESSOR) {
        let found = exports.iter().copied().collect::<Vec<_>>().join(", ");
        misfits.push(Misfit::NoProcessor(if found.is_empty() { "nothing".into() } else { found }));
    }
    if kind.imports(engine).any(|(name, _)| name == TIMERS) && !exports.contains(TIMER_HANDLER) {
        misfits.push(Misfit::NoTimerHandler);
    }
    // Instances of types alone need nothing from the host.
    let unknown =
        kind.imports(engine).filter(|(name, item)| !matches!(item.ty, ComponentItem::Type(_)) && !is_given(name));
    misfits.extend(unknown.map(|(name, _)| Misfit::UnknownImport(name.to_owned())));
    // One of which the engine cannot tell imports modules, which nobody is given.
    if let Some(needed) = component.resources_required() {
        let parts = [
            ("memories", needed.num_memories, MEMORIES_PER_INSTANCE),
            ("tables", needed.num_tables, TABLES_PER_INSTANCE),
        ];
        let too_many = parts.into_iter().filter(|(_, found, most)| found > most);
        misfits.extend(too_many.map(|(what, found, most)| Misfit::Parts { what, found, most }));
    }
    misfits
}

/// Whether an interface of this name is given to tasks, in this version or one it is compatible with.
fn is_given(name: &str) -> bool {
    const GIVEN: [&str; 19] = [
        "wasi:io/error",
        "wasi:io/poll",
        "wasi:io/streams",
        "wasi:clocks/wall-clock",
        "wasi:clocks/monotonic-clock",
        "wasi:random/random",
        "wasi:random/insecure",
        "wasi:random/insecure-seed",
        "wasi:cli/environment",
        "wasi:cli/exit",
        "wasi:cli/stdin",
        "wasi:cli/stdout",
        "wasi:cli/stderr",
        "wasi:cli/terminal-input",
        "wasi:cli/terminal-output",
        "wasi:filesystem/types",
        "wasi:filesystem/preopens",
        "wasi:http/types",
        // Linked for all, and instantiated where it is granted.
        HANDLER,
    ];
    // Prereleases are compatible with nothing but themselves.
    const DRAFTS: [&str; 8] = [
        KEYVALUE_BATCH,
        "wasi:keyvalue/store@0.2.0-draft2",
        "wasi:keyvalue/atomics@0.2.0-draft2",
        "wasi:keyvalue/store@0.2.0-draft",
        "wasi:keyvalue/atomics@0.2.0-draft",
        "wasi:keyvalue/batch@0.2.0-draft",
        "wasi:logging/logging@0.1.0-draft",
        "wasi:config/store@0.2.0-rc.1",
    ];
    const OWN: [&str; 5] = [
        TIMERS,
        "pelton:task/types@0.1.0",
        "pelton:task/state@0.1.0",
        "pelton:task/output@0.1.0",
        "pelton:task/context@0.1.0",
    ];
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    let terminals = ["wasi:cli/terminal-stdin", "wasi:cli/terminal-stdout", "wasi:cli/terminal-stderr"];
    let wasi = GIVEN.contains(&interface) || terminals.contains(&interface) || INTERFACES.contains(&interface);
    OWN.contains(&name) || DRAFTS.contains(&name) || (wasi && version.starts_with("0.2."))
}
