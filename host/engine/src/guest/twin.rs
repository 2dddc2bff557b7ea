//! What only a shadow's instance is asked for, beside a task's own: not to take long, and how large it is.

use std::time::{Duration, Instant};

use wasmtime::{Trap, UpdateDeadline};

use super::instance::{Guest, Unborn};
use super::limits::EPOCH_MS;

/// On a busy machine a call waits for a core; it is not waited for longer than so many times what it may take.
const WAIT_FACTOR: u32 = 10;

impl Guest {
    /// Has the next call cut off when it was on a core for this long, or a little longer, as far as the system tells.
    pub fn hurry(&mut self, limit: Duration, time_on_core: fn() -> Option<Duration>) {
        // A call that is short costs no look at the clocks: the first is taken when the epoch moved on.
        self.store.data_mut().identity.limits.batch_timeout_ms = EPOCH_MS;
        let mut since = None;
        self.store.epoch_deadline_callback(move |_| {
            let (looked, on_core) = *since.get_or_insert_with(|| (Instant::now(), time_on_core()));
            let passed = looked.elapsed();
            let used = time_on_core().zip(on_core).map_or(passed, |(now, before)| now.saturating_sub(before));
            if used >= limit || passed >= limit * WAIT_FACTOR {
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
