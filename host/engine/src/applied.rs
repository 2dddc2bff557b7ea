//! The local copy of a task's state on its guest thread: commits are applied to it, and what the machine begins with is read from it.

use std::sync::atomic::Ordering;

use pelton_core::cause::StopCause;
use pelton_core::snapshot::StateMark;
use pelton_core::task::{Applied, Event, NewSnapshot, PhaseName};

use crate::cell::{TaskCell, Work, lock};
use crate::fault::{self, FaultPoint};

impl TaskCell {
    /// Applies a commit that is durable in the log.
    pub(crate) fn apply(&self, work: &mut Work, applied: &Applied) {
        if work.behind {
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
            Err(error) => {
                work.behind = true;
                work.events.push_front(Event::Broken(StopCause::Store(error.to_string())));
            }
        }
        self.unflushed.store(true, Ordering::Relaxed);
        fault::pass(FaultPoint::AfterApply);
    }

    /// Takes a snapshot of the local copy as it stands, which is where the machine believes it does unless a commit could not be applied.
    pub(crate) fn begin_snapshot(&self, work: &Work, snapshot: NewSnapshot) {
        let Some(me) = self.me.upgrade().filter(|_| !work.behind) else { return };
        let store = work.store.as_ref().expect("the local copy was opened");
        assert_eq!(store.mark().number, snapshot.mark.number, "a snapshot is of the commit that it names");
        drop(self.job.runtime.spawn(me.snapshot(store.reader(), snapshot)));
    }

    /// Reads what of the state is the host's own.
    pub(crate) fn load_system(&self, work: &mut Work, mark: StateMark) {
        if work.behind {
            return;
        }
        let store = work.store.as_ref().expect("the local copy was opened");
        assert_eq!(store.mark(), mark, "the local copy stands where the machine believes it does");
        let reader = store.reader();
        work.events.push_front(match reader.system() {
            Ok(entries) => {
                *lock(&self.reader) = Some(reader);
                Event::SystemLoaded(entries)
            }
            Err(error) => Event::Broken(StopCause::Store(error.to_string())),
        });
    }
}
