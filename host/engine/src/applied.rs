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
        if is_broken(work) {
            return;
        }
        fault::pass(FaultPoint::BeforeApply);
        let store = work.store.as_mut().expect("the local copy was opened");
        match store.apply(&applied.writes, applied.mark) {
            // What is restored is no state to be seen before all of it is, and was told of by whoever appended it. A task that stops
            // does so with its last commit.
            Ok(()) if work.machine.phase() != PhaseName::Restoring => {
                *lock(&self.reader) = Some(store.reader());
                self.tally_commit(&applied.writes);
            }
            Ok(()) => {}
            Err(error) => work.events.push_front(Event::Broken(StopCause::Store(error.to_string()))),
        }
        self.unflushed.store(true, Ordering::Relaxed);
        fault::pass(FaultPoint::AfterApply);
    }

    /// Reads what of the state is the host's own.
    pub(crate) fn load_system(&self, work: &mut Work, mark: StateMark) {
        if is_broken(work) {
            return;
        }
        let store = work.store.as_ref().expect("the local copy was opened");
        assert_eq!(store.mark(), mark, "the local copy stands where the machine believes it does");
        *lock(&self.reader) = Some(store.reader());
        work.events.push_front(match store.reader().system() {
            Ok(entries) => Event::SystemLoaded(entries),
            Err(error) => Event::Broken(StopCause::Store(error.to_string())),
        });
    }
}

/// Whether something before it could not be applied, which the task has yet to be told: the local copy is to stand before that.
fn is_broken(work: &Work) -> bool {
    work.events.iter().any(|event| matches!(event, Event::Broken(_)))
}
