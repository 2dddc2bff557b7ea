//! The trait a task implements, and an instance of it. An instance sees one call at a time, and none after one that
//! failed.

use crate::call::Call;
use crate::context::Context;
use crate::failure::Failure;
use crate::host;
use crate::record::{Batch, Record};
use crate::timer::Timer;

/// The logic of a task. Its own fields are a cache: the host may drop an instance between any two calls, and does after
/// a failure. What must last goes into the state.
pub trait Task: Sized + 'static {
    /// Makes a new instance, before its first records. It may be made some time before, and then of use or not, where this asks for no
    /// time or random numbers and prints nothing. An error stops the task with it as the cause.
    fn init(context: &Context) -> Result<Self, String>;

    /// Folds one record into the state.
    fn process(&mut self, record: &Record<'_>, call: &mut Call) -> Result<(), Failure>;

    /// Folds a whole batch into the state. Unless it is overridden, its records are processed one after another and a
    /// failure is blamed on the record it came from. Override it to [`prefetch`](Call::prefetch) what the records need,
    /// or to fold them in another way.
    fn process_batch(&mut self, batch: &Batch, call: &mut Call) -> Result<(), Failure> {
        batch.each(|record| self.process(record, call))
    }

    /// Fires a timer that the task had set. It is gone when the call succeeds, unless it is set anew here. A task that sets
    /// timers has this; without it, one that is due stops the task.
    fn on_timer(&mut self, timer: &Timer, _call: &mut Call) -> Result<(), Failure> {
        Err(Failure::fatal(format!("timer {:?} is due, and this task has no on_timer", timer.name)))
    }
}

/// A task and what it keeps during a call.
#[doc(hidden)]
pub struct Instance<T> {
    task: T,
    call: Call,
}

impl<T: Task> Instance<T> {
    /// A new instance, as the host's context says.
    pub fn new() -> Result<Self, String> {
        let context = host::context();
        let task = T::init(&context)?;
        Ok(Self { task, call: Call::new(context) })
    }

    /// One call: all of it reaches the host, or the host is told to discard it.
    pub fn process(&mut self, batch: &Batch) -> Result<(), Failure> {
        let outcome = self.task.process_batch(batch, &mut self.call).and_then(|()| self.call.hand_over());
        self.call.clear();
        outcome
    }

    /// One call that fires timers, in their order; a failure is blamed on the timer it came from.
    pub fn fire(&mut self, timers: &[Timer]) -> Result<(), Failure> {
        let mut fired = timers.iter().enumerate();
        let fired = fired
            .try_for_each(|(at, timer)| self.task.on_timer(timer, &mut self.call).map_err(|failure| failure.or_at(at)));
        let outcome = fired.and_then(|()| self.call.hand_over());
        self.call.clear();
        outcome
    }
}
