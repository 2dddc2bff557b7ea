//! What only a shadow's instance is asked for, beside a task's own: not to take long, and how large it is.

use std::time::{Duration, Instant};

use wasmtime::{Trap, UpdateDeadline};

use super::instance::{Guest, Unborn};
use super::limits::EPOCH_MS;

impl Guest {
    /// Has the next call cut off when it was on a core for this long, or a little longer, and was seen to run at as many ticks of the
    /// epoch as that has. That it waits for a core, on a busy machine, is nothing it did; nor that the machine as a whole stood still,
    /// which a system that is a guest itself may take for time on a core. Where the system does not tell, time that passes counts.
    pub fn hurry(&mut self, limit: Duration, time_on_core: fn() -> Option<Duration>) {
        // A call that is short costs no look at the clocks: the first is taken when the epoch moved on.
        self.store.data_mut().is_hurried = true;
        let ticks = limit.as_millis().div_ceil(EPOCH_MS.into());
        let (mut since, mut seen) = (None, 0);
        self.store.epoch_deadline_callback(move |_| {
            let (looked, on_core) = *since.get_or_insert_with(|| (Instant::now(), time_on_core()));
            let on_core = time_on_core().zip(on_core).map(|(now, before)| now.saturating_sub(before));
            seen += 1;
            if seen > ticks && on_core.unwrap_or_else(|| looked.elapsed()) >= limit {
                return Err(Trap::Interrupt.into());
            }
            Ok(UpdateDeadline::Continue(1))
        });
    }

    /// Bytes of its linear memories.
    pub fn memory_bytes(&self) -> u64 {
        self.store.data().growth.memory_bytes()
    }
}

impl Unborn {
    /// As [`Guest::hurry`].
    pub fn hurry(&mut self, limit: Duration, time_on_core: fn() -> Option<Duration>) {
        self.guest.hurry(limit, time_on_core);
    }
}
