//! What only a shadow's instance is asked for, beside a task's own: to be quick, and how large it is.

use super::instance::{Guest, Unborn};

impl Guest {
    /// Gives each call this many milliseconds from now on, where its deployment gives it more.
    pub fn hurry(&mut self, timeout_ms: u64, deployment_ms: u64) {
        self.store.data_mut().identity.limits.batch_timeout_ms = timeout_ms.min(deployment_ms);
    }

    /// Bytes of its linear memories.
    pub fn memory_bytes(&self) -> u64 {
        self.store.data().growth.memory_bytes()
    }
}

impl Unborn {
    /// As [`Guest::hurry`].
    pub fn hurry(&mut self, timeout_ms: u64, deployment_ms: u64) {
        self.guest.hurry(timeout_ms, deployment_ms);
    }
}
