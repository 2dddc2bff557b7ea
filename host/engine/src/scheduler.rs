//! Guest threads: plain OS threads that take whatever task is ready. A task is on at most one thread at a time, and one
//! that never returns from its logic holds one thread, not the tasks behind it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Something that guest threads run.
pub trait Runnable: Send + Sync {
    /// Where it stands with the scheduler.
    fn turn_state(&self) -> &TurnState;

    /// Does what there is to do. Returns whether there is more, so that others come first.
    fn turn(&self) -> bool;

    /// A turn panicked: an invariant of ours broke. No turn is to do anything from now on.
    fn panicked(&self);
}

/// Whether a runnable is queued, running, or told of something while running.
#[derive(Debug, Default)]
pub struct TurnState(AtomicU8);

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const RUNNING_TOLD: u8 = 3;

/// The threads and their queue.
pub struct Scheduler {
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Default)]
struct Queue {
    runnables: VecDeque<Arc<dyn Runnable>>,
    closed: bool,
}

impl Scheduler {
    /// Starts so many threads.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn start(threads: usize) -> std::io::Result<Arc<Self>> {
        let scheduler = Arc::new(Self { queue: Mutex::default(), ready: Condvar::new() });
        for number in 0..threads.max(1) {
            let scheduler = scheduler.clone();
            std::thread::Builder::new().name(format!("guest-{number}")).spawn(move || scheduler.work())?;
        }
        Ok(scheduler)
    }

    /// Has a runnable run soon. While it runs it is told, and runs again.
    pub fn notify(&self, runnable: &Arc<dyn Runnable>) {
        let state = &runnable.turn_state().0;
        let told = state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
            IDLE => Some(QUEUED),
            RUNNING => Some(RUNNING_TOLD),
            _ => None,
        });
        if told == Ok(IDLE) {
            self.push(runnable.clone());
        }
    }

    fn push(&self, runnable: Arc<dyn Runnable>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.runnables.push_back(runnable);
        drop(queue);
        self.ready.notify_one();
    }

    /// Ends the threads when they have run what is queued.
    pub fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.ready.notify_all();
    }

    fn work(&self) {
        while let Some(runnable) = self.next() {
            let state = &runnable.turn_state().0;
            state.store(RUNNING, Ordering::Release);
            let turned = catch_unwind(AssertUnwindSafe(|| runnable.turn()));
            let more = turned.unwrap_or_else(|_| {
                runnable.panicked();
                false
            });
            let idle = !more && state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if !idle {
                state.store(QUEUED, Ordering::Release);
                self.push(runnable);
            }
        }
    }

    fn next(&self) -> Option<Arc<dyn Runnable>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(runnable) = queue.runnables.pop_front() {
                return Some(runnable);
            }
            if queue.closed {
                return None;
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
