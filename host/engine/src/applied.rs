//! The local copy of a task's state on its guest thread: commits are applied to it, and what the machine begins with is read from it.

use std::sync::atomic::Ordering;

use pelton_core::cause::StopCause;
use pelton_core::snapshot::StateMark;
use pelton_core::task::{Applied, Event, PhaseName};

use crate::cell::{TaskCell, Work, lock};
use crate::fault::{self, FaultPoint};

impl TaskCell {
    /// Applies a commit that is durable in the log.
    pub(crate) fn apply(&self, work: &mut Work, applied: &Applied) {
        fault::pass(FaultPoint::BeforeApply);
        let store = work.store.as_mut().expect("the local copy was opened");
        match store.apply(&applied.writes, applied.mark) {
            Ok(()) => {
                *lock(&self.reader) = Some(store.reader());
                // A task that stops does so with its last commit; what is restored was told of by whoever appended it.
                if work.machine.phase() != PhaseName::Restoring {
                    self.tally_commit(&applied.writes);
                }
            }
            Err(error) => work.events.push_front(Event::Broken(StopCause::Store(error.to_string()))),
        }
        self.unflushed.store(true, Ordering::Relaxed);
        fault::pass(FaultPoint::AfterApply);
    }

    /// Reads what of the state is the host's own.
    pub(crate) fn load_system(&self, work: &Work, mark: StateMark) -> Event {
        let store = work.store.as_ref().expect("the local copy was opened");
        assert_eq!(store.mark(), mark, "the local copy stands where the machine believes it does");
        *lock(&self.reader) = Some(store.reader());
        match store.reader().system() {
            Ok(entries) => Event::SystemLoaded(entries),
            Err(error) => Event::Broken(StopCause::Store(error.to_string())),
        }
    }
}
