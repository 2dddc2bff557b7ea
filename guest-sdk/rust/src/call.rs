//! What a task does during a call: reads, writes and messages. They are kept in memory and handed to the host at its
//! end.

use crate::context::Context;
use crate::failure::Failure;
use crate::host;
use crate::layer::Layer;
use crate::limits::HELD_BYTES;
use crate::outbox::Outbox;
use crate::scan::{Direction, Scan};
use crate::timer::TimerChanges;

/// The call being made. Reads see the writes made earlier in it; a key is read from the host once.
///
/// Refusals come as [`Failure`]s that `?` may pass on: a key, value or message of a size the host refuses is poison, at
/// the record that wrote it; a failing store is to be retried; an output that the job does not have is fatal.
///
/// A call that holds more than [`HELD_BYTES`] hands its writes over early. That shows in nothing but memory.
#[derive(Debug)]
pub struct Call {
    context: Context,
    layer: Layer,
    outbox: Outbox,
    timers: TimerChanges,
    /// Where typed keys are encoded; empty between uses.
    pub(crate) key: Vec<u8>,
}

impl Call {
    pub(crate) fn new(context: Context) -> Self {
        let (layer, outbox, timers) = (Layer::default(), Outbox::default(), TimerChanges::default());
        Self { context, layer, outbox, timers, key: Vec::new() }
    }

    /// Who is being called, and how it was deployed.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The value of a key of the state.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<&[u8]>, Failure> {
        let slot = self.slot(key)?;
        self.layer.read(slot)
    }

    /// Sets a key's value.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.fill(key, |held| held.extend_from_slice(value))
    }

    /// Removes a key; one that is absent is no error.
    pub fn delete(&mut self, key: &[u8]) -> Result<(), Failure> {
        let slot = self.slot(key)?;
        self.layer.delete(slot);
        Ok(())
    }

    /// Adds to a counter, a value of 8 bytes, big-endian, that begins at 0 and stays at the most 64 bits hold.
    ///
    /// The counter is not read before the call ends, so that all counters of a call are read at once.
    pub fn add(&mut self, key: &[u8], count: u64) -> Result<(), Failure> {
        let slot = self.slot(key)?;
        self.layer.add(slot, count)
    }

    /// Reads the keys that the call has not read yet in one host call, so that later reads of them cost none.
    pub fn prefetch<K: AsRef<[u8]>>(&mut self, keys: impl IntoIterator<Item = K>) -> Result<(), Failure> {
        self.make_room()?;
        let mut slots = Vec::new();
        for key in keys {
            slots.push(self.layer.slot(key.as_ref())?);
        }
        self.layer.prefetch(slots)
    }

    /// Goes through the keys with start ≤ key < end; without an end, through all from the start on.
    ///
    /// Each page shows the writes made before it was fetched, which hands them to the host. Those made while it is gone
    /// through show from the next one on, at most [`PAGE_ENTRIES`](crate::limits::PAGE_ENTRIES) entries later.
    pub fn scan(&self, start: &[u8], end: Option<&[u8]>, direction: Direction) -> Scan {
        Scan::new(start.to_vec(), end.map(<[u8]>::to_vec), direction)
    }

    /// Emits a message to one of the job's outputs: a partition key of 1 to 256 characters, up to 1,000,000 bytes of
    /// data.
    pub fn emit(&mut self, output: &str, partition_key: &str, data: &[u8]) -> Result<(), Failure> {
        self.outbox.emit(output, partition_key, data)
    }

    /// Sets a timer, or sets it anew: a name of 1 to 1,024 bytes is due once. One in the past is fired at the next chance,
    /// by [`Task::on_timer`](crate::Task::on_timer).
    pub fn set_timer(&mut self, name: &str, due_ms: u64) {
        self.timers.change(name, Some(due_ms));
    }

    /// Cancels a timer; one that is not set is no error.
    pub fn cancel_timer(&mut self, name: &str) {
        self.timers.change(name, None);
    }

    /// The time of this call, milliseconds since 1970-01-01 UTC. It never falls, and is the same when the call is made
    /// again from the changelog.
    pub fn now_ms(&self) -> u64 {
        host::now_ms()
    }

    /// Sets a key's value to what `fill` appends.
    pub(crate) fn fill(&mut self, key: &[u8], fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        let slot = self.slot(key)?;
        self.layer.write(slot, fill)
    }

    /// Sets a key's value by what it was; none removes it.
    pub(crate) fn change<T>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(Option<&[u8]>) -> Result<Option<T>, Failure>,
        encode: impl FnOnce(&T, &mut Vec<u8>),
    ) -> Result<(), Failure> {
        let slot = self.slot(key)?;
        match change(self.layer.read(slot)?)? {
            Some(value) => self.layer.write(slot, |held| encode(&value, held)),
            None => {
                self.layer.delete(slot);
                Ok(())
            }
        }
    }

    /// Hands over the writes made so far, so that the host's answers show them.
    pub(crate) fn hand_over_writes(&mut self) -> Result<(), Failure> {
        self.layer.hand_over()
    }

    /// Hands over everything: the last step of a call that succeeded.
    pub(crate) fn hand_over(&mut self) -> Result<(), Failure> {
        self.layer.hand_over()?;
        self.outbox.hand_over()?;
        self.timers.hand_over()
    }

    /// Forgets everything, for the next call.
    pub(crate) fn clear(&mut self) {
        self.layer.clear();
        self.outbox.clear();
        self.timers.clear();
        self.key.clear();
    }

    fn slot(&mut self, key: &[u8]) -> Result<usize, Failure> {
        self.make_room()?;
        self.layer.slot(key)
    }

    fn make_room(&mut self) -> Result<(), Failure> {
        if self.layer.held_bytes() > HELD_BYTES {
            self.layer.hand_over()?;
            self.layer.clear();
        }
        Ok(())
    }
}
