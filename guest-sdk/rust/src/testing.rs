//! A host in memory, so that a task is tested with plain `cargo test`. The task runs the code it runs as a component,
//! buffers included; only the calls to the host end elsewhere.

use std::collections::BTreeMap;

use crate::context::HashRange;
use crate::failure::Failure;
use crate::host::memory::World;
use crate::record::Batch;
use crate::task::{Instance, Task};
use crate::timer::Timer;

/// The shard that records are said to come from.
const SHARD: &str = "shardId-000000000000";
/// When the first record is said to have arrived, in milliseconds since 1970; each next one a millisecond later.
pub const FIRST_ARRIVED_MS: u64 = 1_700_000_000_000;

/// A message that a task emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it goes in the output's stream.
    pub partition_key: String,
    /// Its payload.
    pub data: Vec<u8>,
}

/// One task with a host of its own.
pub struct Harness<T> {
    world: World,
    instance: Option<Instance<T>>,
    batch: Batch,
    records: u64,
    waited_ms: u64,
}

impl<T: Task> Default for Harness<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Task> Harness<T> {
    /// Task 0 of 1 of the job `test`, with no configuration, no outputs and an empty state.
    pub fn new() -> Self {
        Self { world: World::default(), instance: None, batch: Batch::default(), records: 0, waited_ms: 0 }
    }

    /// Sets a value of the job's configuration.
    #[must_use]
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.world.context.config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Gives the job an output.
    #[must_use]
    pub fn output(mut self, name: &str) -> Self {
        self.world.outputs.insert(name.to_owned(), Vec::new());
        self
    }

    /// Makes the task one of several, with its part of the hash space.
    #[must_use]
    pub fn task(mut self, task: u32, tasks: u32, slice: HashRange) -> Self {
        (self.world.context.task, self.world.context.tasks) = (task, tasks);
        self.world.context.slice = slice;
        self
    }

    /// Lets one batch write so many bytes at most, and emit so many.
    #[must_use]
    pub fn batch_limit(mut self, bytes: usize) -> Self {
        self.world.batch_bytes_max = bytes;
        self
    }

    /// Sets a value of the state.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.world.state.insert(key.into(), value.into());
        self
    }

    /// Adds a record to the next batch. Sequence numbers begin at 1 and rise by one.
    pub fn record(&mut self, stream: &str, partition_key: &str, data: impl AsRef<[u8]>) -> &mut Self {
        let numbers = [FIRST_ARRIVED_MS + self.waited_ms + self.records, 0, 0, 0, self.records + 1];
        self.records += 1;
        self.batch.push([stream, SHARD], numbers, partition_key, data.as_ref());
        self
    }

    /// Lets time pass before the next record arrives, in milliseconds.
    pub fn wait_ms(&mut self, ms: u64) -> &mut Self {
        self.waited_ms += ms;
        self
    }

    /// Makes every call on the state fail with a cause, or no longer.
    pub fn store_fault(&mut self, cause: Option<&str>) -> &mut Self {
        self.world.store_fault = cause.map(str::to_owned);
        self
    }

    /// Gives the task the records added since the last run, in one call. A failure discards the call and the instance,
    /// as the host does; an error of `init` is a fatal one.
    pub fn run(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        self.world.now_ms = self.world.now_ms.max(FIRST_ARRIVED_MS + self.waited_ms + self.records);
        self.call(|instance| instance.process(&batch))
    }

    /// Lets time pass up to a moment, in milliseconds since 1970, and fires the timers that are due then, and those that
    /// they set, in their order.
    pub fn run_until(&mut self, now_ms: u64) -> Result<(), Failure> {
        self.world.now_ms = self.world.now_ms.max(now_ms);
        loop {
            let now_ms = self.world.now_ms;
            let due = self.world.timers.iter().filter(|(_, due_ms)| **due_ms <= now_ms);
            let mut due: Vec<Timer> = due.map(|(name, due_ms)| Timer { name: name.clone(), due_ms: *due_ms }).collect();
            if due.is_empty() {
                return Ok(());
            }
            due.sort_by(|a, b| (a.due_ms, &a.name).cmp(&(b.due_ms, &b.name)));
            let fired = due.clone();
            self.world.timers.retain(|_, due_ms| *due_ms > now_ms);
            if let Err(failure) = self.call(|instance| instance.fire(&due)) {
                self.world.timers.extend(fired.into_iter().map(|timer| (timer.name, timer.due_ms)));
                return Err(failure);
            }
        }
    }

    fn call(&mut self, call: impl FnOnce(&mut Instance<T>) -> Result<(), Failure>) -> Result<(), Failure> {
        let before = self.world.clone();
        self.world.begin_batch();
        let instance = &mut self.instance;
        let outcome = self.world.lend(|| {
            if instance.is_none() {
                *instance = Some(Instance::new().map_err(|cause| Failure::fatal(cause).of_batch())?);
            }
            call(instance.as_mut().expect("made above"))
        });
        if outcome.is_err() {
            self.instance = None;
            (self.world.state, self.world.outputs) = (before.state, before.outputs);
            self.world.timers = before.timers;
        }
        outcome
    }

    /// The timers that are set, by name, with the times they are due in milliseconds since 1970.
    pub fn timers(&self) -> &BTreeMap<String, u64> {
        &self.world.timers
    }

    /// Drops the instance, as a restart of the host does.
    pub fn restart(&mut self) -> &mut Self {
        self.instance = None;
        self
    }

    /// The whole state.
    pub fn state(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.world.state
    }

    /// Everything emitted to an output, in order.
    ///
    /// # Panics
    /// When the harness was given no such output.
    pub fn messages(&self, output: &str) -> &[Message] {
        self.world.outputs.get(output).unwrap_or_else(|| panic!("the harness was given no output {output:?}"))
    }

    /// How often the host was called by a function, such as `get-many`.
    pub fn host_calls(&self, function: &str) -> u64 {
        self.world.calls.get(function).copied().unwrap_or(0)
    }
}
