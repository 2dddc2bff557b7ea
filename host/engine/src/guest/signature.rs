//! The functions a task is called by, each held against the types that `wit/task.wit` gives it: those of the bindings made from
//! it. Taking them from an instance would find the same, and one at a time.
//!
//! What compares them in wasmtime is there for its own bindings, which check the functions of a world by it, and is no public API.

use wasmtime::Engine;
use wasmtime::component::types::{Component, ComponentFunc, ComponentItem};
use wasmtime::component::{ComponentNamedList, Lift, Lower};

use super::bindings::flat::exports::pelton::task::batch_processor::Batch;
use super::bindings::list::pelton::task::types::{Failure, Record};
use super::bindings::timed::exports::pelton::task::timer_handler::DueTimer;
use super::fitness::{BATCH_PROCESSOR, Misfit, PROCESSOR, TIMER_HANDLER};

type Outcome = (Result<(), Failure>,);

/// A function as it has to be.
struct Signature {
    name: &'static str,
    /// Its type, in WIT.
    wit: &'static str,
    /// How many parameters it has. What it answers is one value.
    parameters: usize,
    compare: fn(&ComponentFunc, &Component) -> wasmtime::Result<()>,
}

const INIT: Signature = Signature {
    name: "init",
    wit: "func() -> result<_, string>",
    parameters: 0,
    compare: compare::<(), (Result<(), String>,)>,
};
const PROCESS: Signature = Signature {
    name: "process",
    wit: "func(records: list<record>) -> result<_, failure>",
    parameters: 1,
    compare: compare::<(&[Record],), Outcome>,
};
const PROCESS_BATCH: Signature = Signature {
    name: "process",
    wit: "func(batch: batch) -> result<_, failure>",
    parameters: 1,
    compare: compare::<(&Batch,), Outcome>,
};
const FIRE: Signature = Signature {
    name: "fire",
    wit: "func(timers: list<due-timer>) -> result<_, failure>",
    parameters: 1,
    compare: compare::<(&[DueTimer],), Outcome>,
};

impl Signature {
    /// Where a function differs, if it does.
    fn difference(&self, found: &ComponentFunc, component: &Component) -> Option<String> {
        let (parameters, answers) = (found.params().len(), found.results().len());
        // What compares would only say that something has another number of parts.
        if parameters != self.parameters {
            return Some(format!("it has {parameters} parameters, and not {}", self.parameters));
        }
        if answers != 1 {
            return Some("it answers nothing".into());
        }
        (self.compare)(found, component).err().map(|error| format!("{error:#}"))
    }
}

/// What stands against the functions by which a component is called as a task.
pub fn misfits(component: &Component, engine: &Engine) -> Vec<Misfit> {
    let called = |interface, signatures: &[Signature]| {
        let instance = component.get_export(engine, interface)?.ty;
        Some(of_interface(interface, &instance, signatures, component, engine))
    };
    // The other processor is not called where there are both.
    let processor = called(BATCH_PROCESSOR, &[INIT, PROCESS_BATCH]).or_else(|| called(PROCESSOR, &[INIT, PROCESS]));
    processor.into_iter().chain(called(TIMER_HANDLER, &[FIRE])).flatten().collect()
}

fn of_interface(
    interface: &'static str,
    instance: &ComponentItem,
    signatures: &[Signature],
    component: &Component,
    engine: &Engine,
) -> Vec<Misfit> {
    let misfit = |signature: &Signature| {
        let (function, wit) = (signature.name, signature.wit);
        let ComponentItem::ComponentInstance(instance) = instance else {
            return Some(Misfit::NoFunction { interface, function, wit });
        };
        let Some(ComponentItem::ComponentFunc(found)) = instance.get_export(engine, function).map(|found| found.ty)
        else {
            return Some(Misfit::NoFunction { interface, function, wit });
        };
        let difference = signature.difference(&found, component)?;
        Some(Misfit::Type { interface, function, wit, difference })
    };
    signatures.iter().filter_map(misfit).collect()
}

fn compare<Parameters, Answer>(found: &ComponentFunc, component: &Component) -> wasmtime::Result<()>
where
    Parameters: ComponentNamedList + Lower,
    Answer: ComponentNamedList + Lift,
{
    found.typecheck::<Parameters, Answer>(&component.instance_type())
}
