//! A task as a component: one instance, made by `init` and given to every call.

use std::cell::RefCell;
use std::thread::LocalKey;

use crate::bindings::exports::pelton::task::batch_processor as wire;
use crate::bindings::exports::pelton::task::timer_handler::DueTimer;
use crate::bindings::pelton::task::types::FailureKind as WireKind;
use crate::failure::{Failure, FailureKind};
use crate::record::Batch;
use crate::task::Task;
use crate::timer::Timer;

pub use crate::task::Instance;

/// Where a component keeps its task; a component has one thread.
pub type Place<T> = LocalKey<RefCell<Option<Instance<T>>>>;

/// Makes the instance.
pub fn init<T: Task>(place: &'static Place<T>) -> Result<(), String> {
    let instance = Instance::new()?;
    place.set(Some(instance));
    Ok(())
}

/// Gives the instance a batch.
///
/// # Panics
/// When the host calls it before `init`, or again after a failure.
pub fn process<T: Task>(place: &'static Place<T>, batch: wire::Batch) -> Result<(), wire::Failure> {
    let wire::Batch { streams, shards, arena, spans, numbers } = batch;
    let batch = Batch::new(streams, shards, arena, spans, numbers);
    let mut instance = place.take().expect("the host calls init first, and drops an instance that failed");
    instance.process(&batch).map_err(to_wire)?;
    place.set(Some(instance));
    Ok(())
}

/// Gives the instance timers that are due.
///
/// # Panics
/// When the host calls it before `init`, or again after a failure.
pub fn fire<T: Task>(place: &'static Place<T>, timers: Vec<DueTimer>) -> Result<(), wire::Failure> {
    let timers: Vec<Timer> = timers.into_iter().map(|DueTimer { name, due }| Timer { name, due_ms: due }).collect();
    let mut instance = place.take().expect("the host calls init first, and drops an instance that failed");
    instance.fire(&timers).map_err(to_wire)?;
    place.set(Some(instance));
    Ok(())
}

fn to_wire(failure: Failure) -> wire::Failure {
    let kind = match failure.kind() {
        FailureKind::Retry => WireKind::Retry,
        FailureKind::Poison => WireKind::Poison,
        FailureKind::Fatal => WireKind::Fatal,
    };
    wire::Failure { kind, index: failure.index(), message: failure.message().to_owned() }
}
