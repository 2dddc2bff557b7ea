//! Guest threads: plain OS threads that take whatever task is ready. A task is on at most one thread at a time. As many
//! turns as the machine has cores are in the fast lane; one that lasts longer than a quantum goes on in the slow lane, and
//! a spare thread takes its place, so that a task that never returns from its logic holds up nobody.

mod lanes;
mod priority;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lanes::{Lanes, Needed, SLOW_CALL, Seat, Take, ThreadNumber};

pub use priority::time_on_core;

/// Gives the calling thread less of the cores than guest threads have, for as long as it lives.
pub fn leave_cores_to_others() {
    priority::lower(None);
}

/// A turn that lasted this long lets others come first.
pub const QUANTUM: Duration = Duration::from_millis(20);
/// How often turns are looked at for those past their quantum.
const REVIEW_INTERVAL: Duration = Duration::from_millis(5);

/// Something that guest threads run.
pub trait Runnable: Send + Sync {
    /// Where it stands with the scheduler.
    fn turn_state(&self) -> &TurnState;

    /// Whose it is: those of one owner do not take all of the slow lane.
    fn owner(&self) -> usize;

    /// Does what there is to do. Returns whether there is more, so that others come first.
    fn turn(&self) -> bool;

    /// A turn panicked: an invariant of ours broke. No turn is to do anything from now on.
    fn panicked(&self);
}

/// Whether a runnable is queued, running, or told of something while running, and in which lane its turns begin.
#[derive(Debug, Default)]
pub struct TurnState {
    standing: AtomicU8,
    slow: AtomicBool,
    /// Its calls may wait for others, so that all its turns begin in the slow lane.
    waits: AtomicBool,
    /// Whether its present turn began there.
    begun_slow: AtomicBool,
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const RUNNING_TOLD: u8 = 3;

impl TurnState {
    /// A call went on and on: from now on its turns begin in the slow lane.
    fn begins_slow(&self) {
        self.slow.store(true, Ordering::Relaxed);
    }

    /// Its calls may wait for others from now on, or no more.
    pub fn waits_for_others(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// Whether its logic may be called in the present turn. What may wait must not hold a place of the fast lane.
    pub fn may_call(&self) -> bool {
        self.begun_slow.load(Ordering::Relaxed) || !self.waits.load(Ordering::Relaxed)
    }

    /// Its logic was called, and took so long. One that was slow and is no more is treated as the others are.
    pub fn called(&self, took: Duration) {
        if took < SLOW_CALL {
            self.slow.store(false, Ordering::Relaxed);
        }
    }
}

/// The threads and their queues.
pub struct Scheduler {
    lanes: Mutex<Lanes>,
    /// A turn in the fast lane may be there for who waits.
    ready: Condvar,
}

impl Scheduler {
    /// Starts a thread for each core, and one that looks after them.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn start(cores: usize) -> std::io::Result<Arc<Self>> {
        let scheduler = Arc::new(Self { lanes: Mutex::new(Lanes::new(cores.max(1))), ready: Condvar::new() });
        let first = scheduler.lock().review(Instant::now()).needed;
        first.into_iter().try_for_each(|needed| scheduler.spawn(needed))?;
        let reviewer = scheduler.clone();
        std::thread::Builder::new().name("lanes".into()).spawn(move || reviewer.keep_reviewing())?;
        Ok(scheduler)
    }

    /// Has a runnable run soon. While it runs it is told, and runs again.
    pub fn notify(&self, runnable: &Arc<dyn Runnable>) {
        let standing = &runnable.turn_state().standing;
        let told = standing.fetch_update(Ordering::AcqRel, Ordering::Acquire, |standing| match standing {
            IDLE => Some(QUEUED),
            RUNNING => Some(RUNNING_TOLD),
            _ => None,
        });
        if told == Ok(IDLE) {
            push(&mut self.lock(), runnable.clone());
            self.ready.notify_one();
        }
    }

    /// Ends the threads when they have run what is queued.
    pub fn close(&self) {
        self.lock().close();
        self.ready.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(self: &Arc<Self>, Needed { thread, seat }: Needed) -> std::io::Result<()> {
        let scheduler = self.clone();
        let named = std::thread::Builder::new().name(format!("guest-{}", thread.0));
        named.spawn(move || scheduler.work(thread, seat)).map(drop)
    }

    fn work(&self, thread: ThreadNumber, seat: Seat) {
        if seat == Seat::Slow {
            priority::lower(None);
        }
        self.lock().arrived(thread, priority::this_thread());
        let mut again = None;
        while let Some(runnable) = self.next(thread, again.take()) {
            let standing = &runnable.turn_state().standing;
            standing.store(RUNNING, Ordering::Release);
            let turned = catch_unwind(AssertUnwindSafe(|| runnable.turn()));
            let more = turned.unwrap_or_else(|_| {
                runnable.panicked();
                false
            });
            let idle = !more && standing.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if !idle {
                standing.store(QUEUED, Ordering::Release);
                again = Some(runnable);
            }
        }
    }

    /// Ends a thread's turn, and waits for its next one; none when the thread is needed no more.
    fn next(&self, thread: ThreadNumber, again: Option<Arc<dyn Runnable>>) -> Option<Arc<dyn Runnable>> {
        let mut lanes = self.lock();
        lanes.done(thread);
        // A thread of the slow lane leaves what is slow no more to others, which may all be waiting.
        if let Some(runnable) = again
            && push(&mut lanes, runnable) != lanes.seat(thread)
        {
            self.ready.notify_one();
        }
        loop {
            match lanes.take(thread, Instant::now()) {
                Take::Run(runnable) => {
                    let slow = lanes.seat(thread) == Seat::Slow;
                    runnable.turn_state().begun_slow.store(slow, Ordering::Relaxed);
                    return Some(runnable);
                }
                Take::Leave => return None,
                Take::Wait => lanes = self.ready.wait(lanes).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Moves turns past their quantum to the slow lane, and starts threads where they are needed. These are children of a
    /// thread of full priority, and so have it too.
    fn keep_reviewing(self: Arc<Self>) {
        loop {
            std::thread::sleep(REVIEW_INTERVAL);
            let review = {
                let mut lanes = self.lock();
                if lanes.is_over() {
                    return;
                }
                let review = lanes.review(Instant::now());
                // Under the lock, so that no thread ends meanwhile.
                review.lowered.iter().for_each(|thread| priority::lower(Some(*thread)));
                review
            };
            if review.moved {
                self.ready.notify_all();
            }
            for needed in review.needed {
                let thread = needed.thread;
                if let Err(error) = self.spawn(needed) {
                    tracing::warn!("the system gives no thread in place of one that is held up: {error}; trying again");
                    self.lock().gone(thread);
                }
            }
        }
    }
}

/// Queues what is ready, and says for whom.
fn push(lanes: &mut Lanes, runnable: Arc<dyn Runnable>) -> Seat {
    let state = runnable.turn_state();
    let slow = state.slow.load(Ordering::Relaxed) || state.waits.load(Ordering::Relaxed);
    let seat = if slow { Seat::Slow } else { Seat::Fast };
    lanes.push(runnable, seat);
    seat
}

#[cfg(test)]
#[path = "scheduler/tests.rs"]
mod tests;
