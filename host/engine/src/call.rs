//! One call of a task's logic, on the guest thread that has the task's turn.

use std::sync::atomic::Ordering;

use pelton_core::task::{Call, CallOutcome};

use crate::cell::{TaskCell, Work};
use crate::guest::{CallEffects, FailureKind, Guest, GuestFault, Invocation, View};

impl TaskCell {
    /// Calls the logic, in a new instance if there is none. A call that fails takes its instance with it.
    pub(crate) fn call(&self, work: &mut Work, call: Call) -> CallOutcome {
        let store = work.store.as_ref().expect("the local copy was opened");
        let view = View { open: call.open, sealed: call.sealed, local: store.reader() };
        let invocation = Invocation { time_ms: call.time_ms, seed: call.seed };
        let guest = work.guest.take().filter(|_| !call.born);
        let called = self
            .instance(guest, &view, invocation)
            .and_then(|guest| guest.process(&call.batch.runs, &self.job.streams, invocation, view));
        match called {
            Ok((guest, CallEffects { writes, outputs })) => {
                work.guest = Some(guest);
                self.note_first_fold();
                CallOutcome::Folded { writes, outputs }
            }
            Err(error) => {
                tracing::warn!("task {} of job {}: {error}", self.id, self.spec().meta.name);
                outcome(&error)
            }
        }
    }

    fn instance(&self, guest: Option<Guest>, view: &View, invocation: Invocation) -> Result<Guest, GuestFault> {
        let identity = &self.job.identities[usize::from(self.id.0)];
        guest.map_or_else(|| self.job.program.start(identity, view.clone(), invocation), Ok)
    }

    fn note_first_fold(&self) {
        let first = &self.job.first_fold_ms;
        if first.load(Ordering::Relaxed) == 0 {
            let now_ms = self.job.ports.clock.now_ms();
            // Another task may be first; whichever, it is known now.
            let _ = first.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

fn outcome(fault: &GuestFault) -> CallOutcome {
    match fault {
        GuestFault::Init(_) => CallOutcome::Fatal(fault.to_string()),
        GuestFault::Failed { kind: FailureKind::Fatal, .. } => CallOutcome::Fatal(fault.to_string()),
        GuestFault::Failed { kind: FailureKind::Retry | FailureKind::Poison, .. }
        | GuestFault::Deadline { .. }
        | GuestFault::Memory { .. }
        | GuestFault::Trap(_) => CallOutcome::Failed(fault.to_string()),
    }
}
