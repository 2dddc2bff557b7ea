//! The host of a component: its imports.

use std::time::SystemTime;

use crate::bindings::pelton::task::{context as about, output, state, timers};
use crate::context::{Context, HashRange};
use crate::host::{EmitRefusal, Page, Refusal, TimerRefusal};
use crate::scan::Direction;

pub(crate) use output::Message;
pub(crate) use state::Write;

pub(crate) fn get(key: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    Ok(state::get(key)?)
}

pub(crate) fn get_many(keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Refusal> {
    Ok(state::get_many(keys)?)
}

pub(crate) fn write_many(writes: &[Write<'_>]) -> Result<(), Refusal> {
    Ok(state::write_many(writes)?)
}

pub(crate) fn scan(
    start: &[u8],
    end: Option<&[u8]>,
    direction: Direction,
    limit: u32,
    cursor: Option<&[u8]>,
) -> Result<Page, Refusal> {
    let direction = match direction {
        Direction::Forward => state::Direction::Forward,
        Direction::Back => state::Direction::Back,
    };
    let page = state::scan(start, end, direction, limit, cursor)?;
    Ok(Page { entries: page.entries, cursor: page.cursor })
}

pub(crate) fn emit_many(to: &str, messages: &[Message<'_>]) -> Result<(), EmitRefusal> {
    output::emit_many(to, messages).map_err(|error| match error {
        output::Error::UnknownOutput(_) => EmitRefusal::UnknownOutput,
        output::Error::PartitionKeySize(chars) => EmitRefusal::PartitionKeySize(chars),
        output::Error::DataSize(bytes) => EmitRefusal::DataSize(bytes),
        output::Error::BatchFull(limit) => EmitRefusal::BatchFull(limit),
    })
}

pub(crate) fn set_timer(name: &str, due_ms: u64) -> Result<(), TimerRefusal> {
    Ok(timers::set(name, due_ms)?)
}

pub(crate) fn cancel_timer(name: &str) -> Result<(), TimerRefusal> {
    Ok(timers::cancel(name)?)
}

/// The wall clock stands at the time of the invocation.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

pub(crate) fn context() -> Context {
    let slice = about::slice();
    let wide = |high: u64, low: u64| (u128::from(high) << 64) | u128::from(low);
    Context {
        job: about::job(),
        task: about::task(),
        tasks: about::tasks(),
        slice: HashRange { start: wide(slice.start_high, slice.start_low), end: wide(slice.end_high, slice.end_low) },
        deployment: about::deployment(),
        config: about::config_all().into_iter().collect(),
    }
}

impl From<state::Error> for Refusal {
    fn from(error: state::Error) -> Self {
        match error {
            state::Error::KeySize(bytes) => Self::KeySize(bytes),
            state::Error::ValueSize(bytes) => Self::ValueSize(bytes),
            state::Error::BatchFull(limit) => Self::BatchFull(limit),
            state::Error::AnswerSize(limit) => Self::AnswerSize(limit),
            state::Error::Store(cause) => Self::Store(cause),
        }
    }
}

impl From<timers::Error> for TimerRefusal {
    fn from(error: timers::Error) -> Self {
        match error {
            timers::Error::NameSize(bytes) => Self::NameSize(bytes),
            timers::Error::TooMany(limit) => Self::TooMany(limit),
        }
    }
}
