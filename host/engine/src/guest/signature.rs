//! The functions a task is called by, each held against the types that `wit/task.wit` gives it: those of the bindings made from
//! it. Calling an instance would find the same, and one at a time.

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
    /// Its type, as `wit/task.wit` spells it.
    wit: &'static str,
    compare: fn(&ComponentFunc, &Component) -> wasmtime::Result<()>,
}

const INIT: Signature =
    Signature { name: "init", wit: "func() -> result<_, string>", compare: compare::<(), (Result<(), String>,)> };
const PROCESS: Signature = Signature {
    name: "process",
    wit: "func(records: list<record>) -> result<_, failure>",
    compare: compare::<(&[Record],), Outcome>,
};
const PROCESS_BATCH: Signature = Signature {
    name: "process",
    wit: "func(batch: batch) -> result<_, failure>",
    compare: compare::<(&Batch,), Outcome>,
};
const FIRE: Signature = Signature {
    name: "fire",
    wit: "func(timers: list<due-timer>) -> result<_, failure>",
    compare: compare::<(&[DueTimer],), Outcome>,
};

/// What stands against the functions of an interface that a task is called by.
pub fn misfits(interface: &'static str, component: &Component, engine: &Engine) -> Vec<Misfit> {
    let signatures: &[Signature] = match interface {
        PROCESSOR => &[INIT, PROCESS],
        BATCH_PROCESSOR => &[INIT, PROCESS_BATCH],
        TIMER_HANDLER => &[FIRE],
        _ => unreachable!("no task is called by {interface}"),
    };
    let instance = component.get_export(engine, interface).map(|export| export.ty);
    let misfit = |signature: &Signature| {
        let found = match &instance {
            Some(ComponentItem::ComponentInstance(instance)) => instance.get_export(engine, signature.name),
            Some(_) | None => None,
        };
        let (function, wit) = (signature.name, signature.wit);
        match found.map(|found| found.ty) {
            Some(ComponentItem::ComponentFunc(found)) => {
                let difference = match (signature.compare)(&found, component) {
                    Ok(()) if found.async_() => "it is async".into(),
                    compared => format!("{:#}", compared.err()?),
                };
                Some(Misfit::Type { interface, function, wit, difference })
            }
            Some(_) | None => Some(Misfit::NoFunction { interface, function, wit }),
        }
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
