//! A bucket: a task's own state under keys of text, whichever spelling of `wasi:keyvalue` a guest speaks. There is no other
//! bucket, and calls to a task never overlap, so whatever one call does is atomic.

use pelton_core::write_set::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use sha2::{Digest as _, Sha256};
use wasmtime::component::Resource;

use super::bindings::list::pelton::task::state::{Error, Write};
use super::instance::HostState;
use super::limits::CURSORS_MAX;

/// The one bucket there is. It holds nothing, so a guest may open it as often as it likes.
pub struct Bucket;

/// A key, and what its value was when it was last looked at.
pub struct Cas {
    key: String,
    seen: Option<[u8; 32]>,
}

/// What is refused, in words.
pub(super) type Refusal = String;

/// A key that was asked for, with its value.
pub(super) type Found = (String, Option<Vec<u8>>);

/// Why a swap was not done.
pub(super) enum SwapError {
    Refused(Refusal),
    Changed(Resource<Cas>),
}

/// Keys in rising order; where there may be more, the last one looked at.
pub(super) struct Keys {
    pub keys: Vec<String>,
    pub cursor: Option<Vec<u8>>,
}

impl HostState {
    /// The bucket of a name, if it is one of the names of the only one.
    pub(super) fn bucket_open(&self, name: &str) -> Option<Resource<Bucket>> {
        matches!(name, "" | "default").then(|| Resource::new_own(0))
    }

    pub(super) fn bucket_get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Refusal> {
        self.state.get(key.as_bytes()).map_err(words)
    }

    pub(super) fn bucket_get_many(&mut self, keys: Vec<String>) -> Result<Vec<Found>, Refusal> {
        let answer = self.state.get_many(keys.iter().map(String::as_bytes));
        let values = self.noted(answer).map_err(words)?;
        Ok(keys.into_iter().zip(values).collect())
    }

    pub(super) fn bucket_write(&mut self, writes: Vec<(String, Option<Vec<u8>>)>) -> Result<(), Refusal> {
        let writes = writes.into_iter().map(|(key, value)| Write { key: key.into_bytes(), value }).collect();
        let answer = self.state.write(writes);
        self.noted(answer).map_err(words)
    }

    pub(super) fn bucket_keys(&mut self, after: Option<&[u8]>) -> Result<Keys, Refusal> {
        let (keys, cursor) = self.state.keys(after).map_err(words)?;
        // Keys that are no text were written through `pelton:task/state`, and cannot be named here.
        let keys = keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect();
        Ok(Keys { keys, cursor })
    }

    /// Adds to a decimal number, 0 where there is none.
    pub(super) fn bucket_add(&mut self, key: String, delta: i128, range: [i128; 2]) -> Result<i128, Refusal> {
        let value = self.bucket_get(&key)?;
        let text = value.as_deref().map_or(Ok("0"), std::str::from_utf8).ok();
        let before =
            text.and_then(|text| text.parse::<i128>().ok()).filter(|number| (range[0]..=range[1]).contains(number));
        let before =
            before.ok_or_else(|| format!("the value of {key:?} is not a decimal number that can be added to"))?;
        let sum = before + delta;
        if !(range[0]..=range[1]).contains(&sum) {
            return Err(format!("{before} + {delta} at {key:?} is not from {} to {}", range[0], range[1]));
        }
        self.bucket_write(vec![(key, Some(sum.to_string().into_bytes()))])?;
        Ok(sum)
    }

    pub(super) fn cas_new(&mut self, key: String) -> Result<Resource<Cas>, Refusal> {
        let seen = digest(self.bucket_get(&key)?.as_deref());
        self.resources.push(Cas { key, seen }).map_err(|error| format!("a compare-and-swap more is not given: {error}"))
    }

    /// The value now, which a swap will compare with.
    pub(super) fn cas_current(&mut self, handle: &Resource<Cas>) -> wasmtime::Result<Result<Option<Vec<u8>>, Refusal>> {
        let key = self.resources.get(handle)?.key.clone();
        let value = match self.bucket_get(&key) {
            Ok(value) => value,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.resources.get_mut(handle)?.seen = digest(value.as_deref());
        Ok(Ok(value))
    }

    pub(super) fn cas_swap(
        &mut self,
        handle: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), SwapError>> {
        let Cas { key, seen } = self.resources.delete(handle)?;
        let swapped = match self.bucket_get(&key) {
            Ok(now) if digest(now.as_deref()) == seen => self.bucket_write(vec![(key, Some(value))]),
            Ok(_) => match self.cas_new(key) {
                Ok(fresh) => return Ok(Err(SwapError::Changed(fresh))),
                Err(refusal) => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        };
        Ok(swapped.map_err(SwapError::Refused))
    }

    /// Remembers a cursor for the rest of the call, under a number.
    pub(super) fn cursor_number(&mut self, cursor: Vec<u8>) -> Result<u64, Refusal> {
        if self.cursors.len() >= CURSORS_MAX {
            return Err(format!("one batch can list {CURSORS_MAX} pages of keys by cursors that are numbers"));
        }
        self.cursors.push(cursor);
        Ok(self.cursors.len() as u64)
    }

    /// The cursor of a number that was given in this call.
    pub(super) fn cursor_of(&self, number: u64) -> Result<Vec<u8>, Refusal> {
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let cursor = place.and_then(|place| self.cursors.get(place)).cloned();
        cursor.ok_or_else(|| format!("the cursor {number} was not given in this batch; begin to list anew"))
    }
}

fn digest(value: Option<&[u8]>) -> Option<[u8; 32]> {
    value.map(|value| Sha256::digest(value).into())
}

fn words(error: Error) -> Refusal {
    match error {
        Error::KeySize(bytes) => format!("a key has {bytes} bytes; keys have 1 to {KEY_BYTES_MAX}"),
        Error::ValueSize(bytes) => format!("a value has {bytes} bytes; values have up to {VALUE_BYTES_MAX}"),
        Error::BatchFull(0) => "nothing may be written during init".into(),
        Error::BatchFull(limit) => {
            format!("the writes of this batch would pass {limit} bytes, `batch-writes` in [jobs.NAME.limits]")
        }
        Error::AnswerSize(limit) => {
            format!("the answer would pass {limit} bytes, `answer` in [jobs.NAME.limits]; ask for fewer keys")
        }
        Error::Store(cause) => cause,
    }
}
