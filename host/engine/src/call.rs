//! One call of a task's logic, on the guest thread that has the task's turn.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pelton_core::task::{Call, CallOutcome, Failure, FailureKind, Given};

use crate::cell::{TaskCell, Work, lock};
use crate::deploy::Deployed;
use crate::guest::{self, CallEffects, Guest, GuestFault, Invocation, Unborn, View};

impl TaskCell {
    /// Calls the logic, in a new instance if there is none. A call that fails takes its instance with it.
    pub(crate) fn call(&self, work: &mut Work, call: Call) -> CallOutcome {
        let store = work.store.as_ref().expect("the local copy was opened");
        let view = View { over: None, open: call.open.clone(), sealed: call.sealed.clone(), local: store.reader() };
        let invocation = Invocation { time_ms: call.time_ms, seed: call.seed };
        let guest = work.guest.take().filter(|_| !call.born);
        let is_born = guest.is_none();
        let unborn = work.unborn.take();
        if guest.is_none() && unborn.is_none() {
            // What ran before a swap may be there yet, if the one that came in its place failed: they have the room of one.
            work.retired = None;
        }
        let deployed = work.deployed.as_ref().expect("a task that runs was told what");
        let asked = Instant::now();
        let instance = self.instance(guest, unborn, deployed, &view, invocation);
        work.birth = if is_born { asked.elapsed() } else { Duration::ZERO };
        if let Some(swapping) = work.swapping.take_if(|_| instance.is_ok()) {
            lock(&self.status).swap_pause_us = Some((swapping + asked.elapsed()).as_micros() as u64);
        }
        self.let_put_go(work);
        let called = instance.and_then(|guest| self.give(guest, &call, view));
        match called {
            Ok((guest, effects)) => {
                work.guest = Some(guest);
                self.note_first_fold();
                effects.into()
            }
            Err(error) => {
                if let Some(deployed) = &work.deployed {
                    deployed.identity(self.id).log.failed(&error.to_string());
                }
                CallOutcome::Failed(failure(&error))
            }
        }
    }

    /// Gives an instance what a call is for.
    pub(crate) fn give(&self, guest: Guest, call: &Call, view: View) -> Result<(Guest, CallEffects), GuestFault> {
        let invocation = Invocation { time_ms: call.time_ms, seed: call.seed };
        match call.work.given() {
            Given::Runs(runs) => guest.process(runs, &self.job.streams, invocation, call.timers, view),
            Given::Timers(timers) => guest.fire(timers, invocation, call.timers, view),
        }
    }

    fn instance(
        &self,
        guest: Option<Guest>,
        unborn: Option<Unborn>,
        deployed: &Deployed,
        view: &View,
        invocation: Invocation,
    ) -> Result<Guest, GuestFault> {
        if let Some(guest) = guest {
            return Ok(guest);
        }
        let unborn = unborn.map_or_else(|| deployed.program.prepare(deployed.identity(self.id), u64::MAX), Ok)?;
        unborn.begin(view.clone(), invocation)
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

impl From<CallEffects> for CallOutcome {
    fn from(CallEffects { writes, outputs, timers }: CallEffects) -> Self {
        Self::Folded { writes, outputs, timers }
    }
}

/// What a fault means to the task.
pub(crate) fn failure(fault: &GuestFault) -> Failure {
    let (kind, index) = match fault {
        GuestFault::NotGranted(_) | GuestFault::Init(_) | GuestFault::TooLarge { .. } => (FailureKind::Fatal, None),
        GuestFault::NoRoom(_) => (FailureKind::NoRoom, None),
        GuestFault::Failed { kind, index, .. } => {
            let kind = match kind {
                guest::FailureKind::Fatal => FailureKind::Fatal,
                guest::FailureKind::Retry => FailureKind::Retry,
                guest::FailureKind::Poison => FailureKind::Poison,
            };
            (kind, index.map(|index| index as usize))
        }
        GuestFault::Deadline { .. } | GuestFault::Trap { .. } => (FailureKind::Retry, None),
    };
    Failure { kind, index, message: fault.to_string() }
}
