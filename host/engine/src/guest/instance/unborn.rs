//! An instance that was made beforehand, and begins: with its first call, or ahead of it.

use super::{Exports, Guest, GuestFault, Invocation, View, begin, cut, deadline, fault};

/// An instance that was given nothing yet: it can be had beforehand, since it knows nothing of when it will be called.
pub struct Unborn {
    pub(in crate::guest) guest: Guest,
    has_begun: bool,
}

/// Why an instance does not begin ahead of its first call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAhead {
    /// It may be different with a call.
    NeedsCall,
    /// There was no time left for it.
    NoTime,
}

impl Unborn {
    pub(super) fn new(guest: Guest) -> Self {
        Self { guest, has_begun: false }
    }

    /// It is the task's own from now on: the one before is gone.
    pub fn take_place(&mut self) {
        self.guest.take_place();
    }

    /// Has the instance begin, unless it has. Its `init` may read the state and write nothing.
    ///
    /// # Errors
    /// When it traps, takes too long or says that it cannot begin.
    pub fn begin(self, view: View, invocation: Invocation) -> Result<Guest, GuestFault> {
        let Self { mut guest, has_begun } = self;
        if !has_begun {
            begin(&mut guest.store, &guest.ambient, view, invocation, true);
            guest.init()?;
        }
        Ok(guest)
    }

    /// Has the instance begin now, where that comes out as it would with any first call: its `init` succeeds, asks for no state, time
    /// or chance, and logs nothing.
    ///
    /// # Errors
    /// Where it does not: that instance is gone, and another is to begin with its first call.
    pub fn begin_ahead(self, timeout_ms: u64) -> Result<Self, NotAhead> {
        let mut guest = self.guest;
        let state = guest.store.data_mut();
        state.state.begin_ahead(&state.identity.limits);
        let most_ms = state.identity.limits.batch_timeout_ms;
        deadline(&mut guest.store, timeout_ms.min(most_ms), false);
        guest.ambient.begin_ahead();
        let began = guest.init();
        let needs_no_call = guest.ambient.needs_none() && guest.store.data().state.needs_none();
        match began {
            Ok(()) if needs_no_call => Ok(Self { guest, has_begun: true }),
            Err(GuestFault::Deadline { .. }) if needs_no_call && timeout_ms < most_ms => Err(NotAhead::NoTime),
            Ok(()) | Err(_) => Err(NotAhead::NeedsCall),
        }
    }
}

impl Guest {
    fn init(&mut self) -> Result<(), GuestFault> {
        let init = match &self.exports {
            Exports::List(task) => task.pelton_task_processor().call_init(&mut self.store),
            Exports::Flat(task, _) => task.pelton_task_batch_processor().call_init(&mut self.store),
        };
        self.store.data_mut().state.end();
        match init {
            Ok(said) => said.map_err(|message| GuestFault::Init(cut(message))),
            Err(error) => Err(fault(&self.store, &error)),
        }
    }
}
