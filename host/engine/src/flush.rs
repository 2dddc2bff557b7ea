//! What was applied is made durable on disk, off the guest threads and now and then: what a crash takes of it, the changelog has.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use futures::StreamExt as _;
use pelton_core::cause::StopCause;
use pelton_core::id::TaskId;
use pelton_core::task::Event;

use crate::cell::{TaskCell, Work, lock};
use crate::job::JobShared;

/// How often.
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// Tasks flushed at a time at the end.
const FLUSHED_AT_ONCE: usize = 16;

/// Makes what was applied durable until the job closes: tasks one after another, spread over the interval, since all at once would
/// hold up everybody for a while.
pub(crate) async fn keep(shared: Arc<JobShared>) {
    let pause = FLUSH_INTERVAL / shared.spec.meta.tasks.get();
    for task in (0..shared.spec.meta.tasks.get()).cycle().map(|task| TaskId(task as u16)) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.closed() => return,
        }
        let cell = shared.cell(task);
        // A failed flush is told to the task itself.
        let _ = tokio::task::spawn_blocking(move || cell.flush_between_turns()).await;
    }
}

/// Makes everything that was applied durable, several tasks at a time, which a disk does for little more than one.
pub(crate) async fn all(shared: &JobShared) {
    let flush = async |cell: Arc<TaskCell>| {
        // Nothing is lost where it fails: what is not on disk is in the changelog.
        let _ = tokio::task::spawn_blocking(move || cell.flush()).await;
    };
    futures::stream::iter(shared.cells()).for_each_concurrent(FLUSHED_AT_ONCE, flush).await;
}

impl TaskCell {
    /// Makes what was applied durable on disk, off the guest threads, and says what its guests' log left out.
    pub(crate) fn flush(&self) {
        self.settle_logs();
        self.flush_under(lock(&self.work));
    }

    /// The same, unless a turn is under way: one that goes on and on is not waited for, as others are to be flushed too.
    pub(crate) fn flush_between_turns(&self) {
        self.settle_logs();
        if let Ok(work) = self.work.try_lock() {
            self.flush_under(work);
        }
    }

    fn flush_under(&self, work: MutexGuard<'_, Work>) {
        if self.unflushed.swap(false, Ordering::Relaxed) {
            let flusher = work.store.as_ref().map(|store| store.flusher());
            drop(work);
            if let Some(Err(error)) = flusher.map(|flusher| flusher.flush()) {
                self.tell(Event::Broken(StopCause::Store(error.to_string())));
            }
        }
    }
}
