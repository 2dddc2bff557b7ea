//! A host in memory, one a thread, that keeps to the contract of `wit/task.wit`: its sizes, its refusals, its pages.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::context::{Context, HashRange};
use crate::host::{EmitRefusal, Page, Refusal, TimerRefusal};
use crate::limits::{KEY_BYTES_MAX, TIMER_NAME_BYTES_MAX, TIMERS_MAX, VALUE_BYTES_MAX};
use crate::scan::Direction;

/// Largest answer to one read.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What one batch may write, and emit, unless a harness says otherwise.
const BATCH_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One write: a value to put, or none to delete the key.
pub(crate) struct Write<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: Option<&'a [u8]>,
}

/// One message to publish.
pub(crate) struct Message<'a> {
    pub(crate) partition_key: &'a str,
    pub(crate) data: &'a [u8],
}

/// Everything the host knows. A harness lends its own to the thread for the time of a call.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) context: Context,
    pub(crate) state: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) outputs: BTreeMap<String, Vec<crate::testing::Message>>,
    /// Timers that are set, with the times they are due.
    pub(crate) timers: BTreeMap<String, u64>,
    /// The time that calls are told, in milliseconds since 1970.
    pub(crate) now_ms: u64,
    /// Calls answered, by function.
    pub(crate) calls: BTreeMap<&'static str, u64>,
    /// What one batch may write, and emit.
    pub(crate) batch_bytes_max: usize,
    written_bytes: usize,
    emitted_bytes: usize,
    /// When set, calls on the state fail with it.
    pub(crate) store_fault: Option<String>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

impl Default for World {
    fn default() -> Self {
        let context = Context {
            job: "test".into(),
            task: 0,
            tasks: 1,
            slice: HashRange { start: 0, end: u128::MAX },
            deployment: 1,
            config: BTreeMap::new(),
        };
        Self {
            context,
            state: BTreeMap::new(),
            outputs: BTreeMap::new(),
            timers: BTreeMap::new(),
            now_ms: 0,
            calls: BTreeMap::new(),
            batch_bytes_max: BATCH_BYTES_MAX,
            written_bytes: 0,
            emitted_bytes: 0,
            store_fault: None,
        }
    }
}

impl World {
    /// Runs something with this world as the thread's host.
    pub(crate) fn lend<R>(&mut self, run: impl FnOnce() -> R) -> R {
        WORLD.with_borrow_mut(|world| std::mem::swap(world, self));
        let outcome = run();
        WORLD.with_borrow_mut(|world| std::mem::swap(world, self));
        outcome
    }

    /// Counts what a batch writes and emits anew.
    pub(crate) fn begin_batch(&mut self) {
        (self.written_bytes, self.emitted_bytes) = (0, 0);
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Refusal::KeySize(key.len() as u64));
        }
        Ok(self.state.get(key).cloned())
    }
}

/// Answers a call on the state, unless the store is to fail.
fn answer<R>(function: &'static str, ask: impl FnOnce(&mut World) -> Result<R, Refusal>) -> Result<R, Refusal> {
    WORLD.with_borrow_mut(|world| {
        *world.calls.entry(function).or_default() += 1;
        match &world.store_fault {
            Some(cause) => Err(Refusal::Store(cause.clone())),
            None => ask(world),
        }
    })
}

pub(crate) fn get(key: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    answer("get", |world| world.read(key))
}

pub(crate) fn get_many(keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Refusal> {
    answer("get-many", |world| {
        let values = keys.iter().map(|key| world.read(key)).collect::<Result<Vec<_>, _>>()?;
        match values.iter().flatten().map(Vec::len).sum::<usize>() > ANSWER_BYTES_MAX {
            true => Err(Refusal::AnswerSize(ANSWER_BYTES_MAX as u64)),
            false => Ok(values),
        }
    })
}

pub(crate) fn write_many(writes: &[Write<'_>]) -> Result<(), Refusal> {
    answer("write-many", |world| {
        for Write { key, value } in writes {
            world.read(key)?;
            let value_bytes = value.map_or(0, <[u8]>::len);
            if value_bytes > VALUE_BYTES_MAX {
                return Err(Refusal::ValueSize(value_bytes as u64));
            }
            world.written_bytes += key.len() + value_bytes;
        }
        if world.written_bytes > world.batch_bytes_max {
            return Err(Refusal::BatchFull(world.batch_bytes_max as u64));
        }
        for Write { key, value } in writes {
            match value {
                Some(value) => world.state.insert(key.to_vec(), value.to_vec()),
                None => world.state.remove(*key),
            };
        }
        Ok(())
    })
}

pub(crate) fn scan(
    start: &[u8],
    end: Option<&[u8]>,
    direction: Direction,
    limit: u32,
    cursor: Option<&[u8]>,
) -> Result<Page, Refusal> {
    answer("scan", |world| {
        let above = |key: &[u8]| cursor.is_none_or(|cursor| key > cursor);
        let below = |key: &[u8]| cursor.is_none_or(|cursor| key < cursor);
        let range = world.state.range::<[u8], _>((Bound::Included(start), Bound::Unbounded));
        let range = range.take_while(|(key, _)| end.is_none_or(|end| key.as_slice() < end));
        let own = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        let mut entries: Vec<_> = match direction {
            Direction::Forward => range.filter(|(key, _)| above(key)).map(own).collect(),
            Direction::Back => range.filter(|(key, _)| below(key)).map(own).collect(),
        };
        if direction == Direction::Back {
            entries.reverse();
        }
        let more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let cursor = entries.last().filter(|_| more).map(|(key, _)| key.clone());
        Ok(Page { entries, cursor })
    })
}

pub(crate) fn emit_many(output: &str, messages: &[Message<'_>]) -> Result<(), EmitRefusal> {
    WORLD.with_borrow_mut(|world| {
        *world.calls.entry("emit-many").or_default() += 1;
        let sent = world.outputs.get_mut(output).ok_or(EmitRefusal::UnknownOutput)?;
        world.emitted_bytes += messages.iter().map(|m| m.partition_key.len() + m.data.len()).sum::<usize>();
        if world.emitted_bytes > world.batch_bytes_max {
            return Err(EmitRefusal::BatchFull(world.batch_bytes_max as u64));
        }
        sent.extend(messages.iter().map(|message| crate::testing::Message {
            partition_key: message.partition_key.to_owned(),
            data: message.data.to_vec(),
        }));
        Ok(())
    })
}

pub(crate) fn set_timer(name: &str, due_ms: u64) -> Result<(), TimerRefusal> {
    change_timer(name, Some(due_ms))
}

pub(crate) fn cancel_timer(name: &str) -> Result<(), TimerRefusal> {
    change_timer(name, None)
}

fn change_timer(name: &str, due_ms: Option<u64>) -> Result<(), TimerRefusal> {
    if name.is_empty() || name.len() > TIMER_NAME_BYTES_MAX {
        return Err(TimerRefusal::NameSize(name.len() as u64));
    }
    WORLD.with_borrow_mut(|world| {
        if world.timers.len() >= TIMERS_MAX && !world.timers.contains_key(name) {
            return Err(TimerRefusal::TooMany(TIMERS_MAX as u64));
        }
        match due_ms {
            Some(due_ms) => world.timers.insert(name.to_owned(), due_ms),
            None => world.timers.remove(name),
        };
        Ok(())
    })
}

pub(crate) fn now_ms() -> u64 {
    WORLD.with_borrow(|world| world.now_ms)
}

pub(crate) fn context() -> Context {
    WORLD.with_borrow(|world| world.context.clone())
}
