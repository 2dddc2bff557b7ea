//! An instance that was made beforehand, and begins.

use super::{Exports, Guest, GuestFault, Invocation, Unborn, View, begin, cut, fault};

impl Unborn {
    /// Has the instance begin. Its `init` may read the state and write nothing.
    ///
    /// # Errors
    /// When it traps, takes too long or says that it cannot begin.
    pub fn begin(self, view: View, invocation: Invocation) -> Result<Guest, GuestFault> {
        let mut guest = self.guest;
        begin(&mut guest.store, &guest.ambient, view, invocation, true);
        let init = match &guest.exports {
            Exports::List(task) => task.pelton_task_processor().call_init(&mut guest.store),
            Exports::Flat(task, _) => task.pelton_task_batch_processor().call_init(&mut guest.store),
        };
        guest.store.data_mut().state.end();
        match init {
            Ok(Ok(())) => Ok(guest),
            Ok(Err(message)) => Err(GuestFault::Init(cut(message))),
            Err(error) => Err(fault(&guest.store, &error)),
        }
    }
}
