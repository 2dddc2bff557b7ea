//! A guest's view of its state during one call: its own writes, above the open write set, above the one being appended,
//! above the local copy.

use std::cell::Cell;
use std::ops::Bound;

use bytes::Bytes;
use pelton_core::write_set::{KEY_BYTES_MAX, USER_SPACE, VALUE_BYTES_MAX, WRITE_BYTES, WriteSet, user_key};

use super::bindings::list::pelton::task::state::{Direction, Error, Page, Write};
use super::instance::View;
use super::limits::{ANSWER_KEY_BYTES, GuestLimits, SCAN_BYTES, SCAN_ENTRIES_MAX};
use crate::store::StoreError;

/// The layers of one call.
#[derive(Default)]
pub struct LayeredState {
    /// What the call wrote.
    pub layer: WriteSet,
    view: Option<View>,
    /// Something was looked for while there was no view.
    sightless: Cell<bool>,
    /// Bytes the call may write.
    write_bytes_max: usize,
    /// Bytes an answer may have.
    answer_bytes_max: usize,
}

type Entry = (Bytes, Option<Bytes>);

impl View {
    fn uncommitted(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        self.open.get(key).or_else(|| self.sealed.as_deref()?.get(key))
    }

    /// The task's own value of a stored key, before the call.
    ///
    /// # Errors
    /// When the local copy cannot be read.
    pub fn own(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.uncommitted(key) {
            Some(value) => Ok(value.cloned()),
            None => Ok(self.local.get(key)?.map(Bytes::from)),
        }
    }
}

impl LayeredState {
    /// Begins a call; one that may not write has no room for writes.
    pub fn begin(&mut self, view: View, limits: &GuestLimits, read_only: bool) {
        self.layer = WriteSet::default();
        self.view = Some(view);
        self.write_bytes_max = if read_only { 0 } else { limits.batch_write_bytes_max };
        self.answer_bytes_max = limits.answer_bytes_max;
    }

    /// Begins what runs ahead of any call, and sees nothing.
    pub fn begin_ahead(&mut self, limits: &GuestLimits) {
        *self = Self { answer_bytes_max: limits.answer_bytes_max, ..Self::default() };
    }

    /// Whether nothing was looked for since.
    pub fn needs_none(&self) -> bool {
        !self.sightless.get()
    }

    /// Ends a call and gives what it wrote; the write sets below are let go.
    pub fn end(&mut self) -> WriteSet {
        self.view = None;
        std::mem::take(&mut self.layer)
    }

    /// What the call reads through; an instance that has not begun sees nothing.
    fn view(&self) -> Result<&View, Error> {
        self.view.as_ref().ok_or_else(|| {
            self.sightless.set(true);
            Error::Store("there is no state before init".into())
        })
    }

    /// A key's value.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        check_key(key)?;
        self.find(&user_key(key))
    }

    /// Several keys' values.
    pub fn get_many<'k>(&self, keys: impl ExactSizeIterator<Item = &'k [u8]>) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let full = Error::AnswerSize(self.answer_bytes_max as u64);
        let mut bytes = keys.len().saturating_mul(ANSWER_KEY_BYTES);
        if bytes > self.answer_bytes_max {
            return Err(full);
        }
        // In key order, so that keys of one page are read one after another.
        let mut sorted: Vec<(u32, &[u8])> = (0..).zip(keys).collect();
        sorted.sort_unstable_by_key(|(_, key)| *key);
        let mut values = vec![None; sorted.len()];
        let mut stored = vec![USER_SPACE];
        for (place, key) in sorted {
            check_key(key)?;
            stored.truncate(1);
            stored.extend_from_slice(key);
            let value = self.find(&stored)?;
            bytes += value.as_ref().map_or(0, Vec::len);
            if bytes > self.answer_bytes_max {
                return Err(full);
            }
            values[place as usize] = value;
        }
        Ok(values)
    }

    /// A page of keys in rising order, after one; where there may be more, the last one looked at.
    #[expect(clippy::type_complexity, reason = "keys, and a key")]
    pub fn keys(&self, after: Option<&[u8]>) -> Result<(Vec<Vec<u8>>, Option<Vec<u8>>), Error> {
        let (start, end) = (user_key(after.unwrap_or_default()), [USER_SPACE + 1]);
        let low = if after.is_some() { Bound::Excluded(start.as_ref()) } else { Bound::Included(start.as_ref()) };
        let high = Bound::Excluded(end.as_slice());
        let (mut keys, mut bytes) = (Vec::new(), 0);
        for entry in self.merged(low, high, true)? {
            let (key, value) = entry.map_err(store_error)?;
            let Some(value) = value else { continue };
            if keys.len() >= SCAN_ENTRIES_MAX || bytes > SCAN_BYTES {
                let last = keys.last().cloned();
                return Ok((keys, last));
            }
            bytes += key.len() + value.len();
            keys.push(key[1..].to_vec());
        }
        Ok((keys, None))
    }

    fn find(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let view = self.view()?;
        let written = self.layer.get(key).or_else(|| view.over.as_deref()?.get(key));
        match written.or_else(|| view.uncommitted(key)) {
            Some(value) => Ok(value.map(|value| value.to_vec())),
            None => view.local.get(key).map_err(store_error),
        }
    }

    /// Takes writes, all or none.
    pub fn write(&mut self, writes: Vec<Write>) -> Result<(), Error> {
        let mut bytes = self.layer.weight() + writes.len() * WRITE_BYTES;
        for write in &writes {
            check_key(&write.key)?;
            let value = write.value.as_ref().map_or(0, Vec::len);
            if value > VALUE_BYTES_MAX {
                return Err(Error::ValueSize(value as u64));
            }
            bytes += write.key.len() + value;
        }
        if bytes > self.write_bytes_max {
            return Err(Error::BatchFull(self.write_bytes_max as u64));
        }
        let writes = writes.into_iter().map(|write| (user_key(&write.key), write.value.map(Bytes::from)));
        self.layer.merge(writes.collect());
        Ok(())
    }

    /// A page of a range.
    pub fn scan(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        direction: Direction,
        limit: u32,
        cursor: Option<&[u8]>,
    ) -> Result<Page, Error> {
        let rising = matches!(direction, Direction::Forward);
        let (start, end) = (user_key(start), end.map_or(Bytes::from_static(&[USER_SPACE + 1]), user_key));
        let cursor = cursor.map(user_key);
        let (low, high) = match (&cursor, rising) {
            (Some(cursor), true) => (Bound::Excluded(cursor.as_ref()), Bound::Excluded(end.as_ref())),
            (Some(cursor), false) => (Bound::Included(start.as_ref()), Bound::Excluded(cursor.as_ref())),
            (None, _) => (Bound::Included(start.as_ref()), Bound::Excluded(end.as_ref())),
        };
        let mut page = Page { entries: Vec::new(), cursor: None };
        if is_empty(low, high) {
            return Ok(page);
        }
        let limit = (limit as usize).clamp(1, SCAN_ENTRIES_MAX);
        let (mut bytes, mut last) = (0, None);
        for entry in self.merged(low, high, rising)? {
            let (key, value) = entry.map_err(store_error)?;
            let Some(value) = value else { continue };
            let full = page.entries.len() >= limit || (bytes > 0 && bytes + key.len() + value.len() > SCAN_BYTES);
            if full {
                page.cursor = last;
                break;
            }
            bytes += key.len() + value.len();
            last = Some(key[1..].to_vec());
            page.entries.push((key[1..].to_vec(), value.into()));
        }
        Ok(page)
    }

    /// The entries of all layers in the scan's order; of one key, that of the uppermost layer.
    fn merged<'a>(
        &'a self,
        low: Bound<&'a [u8]>,
        high: Bound<&'a [u8]>,
        rising: bool,
    ) -> Result<impl Iterator<Item = Result<Entry, StoreError>> + 'a, Error> {
        let view = self.view()?;
        let layers = [Some(&self.layer), view.over.as_deref(), Some(view.open.as_ref()), view.sealed.as_deref()];
        let mut sources: Vec<Box<dyn Iterator<Item = Result<Entry, StoreError>> + 'a>> = Vec::with_capacity(5);
        for layer in layers.into_iter().flatten() {
            let entries = layer.range(low, high).map(|(key, value)| Ok((key.clone(), value.clone())));
            sources.push(if rising { Box::new(entries) } else { Box::new(entries.rev()) });
        }
        let local = view.local.range(low, high, rising).map_err(store_error)?;
        sources.push(Box::new(local.map(|entry| entry.map(|(key, value)| (key, Some(value))))));
        let mut sources: Vec<_> = sources.into_iter().map(Iterator::peekable).collect();
        Ok(std::iter::from_fn(move || {
            let mut first: Option<(usize, Bytes)> = None;
            for (index, source) in sources.iter_mut().enumerate() {
                match source.peek() {
                    Some(Ok((key, _))) => {
                        let before = |first: &Bytes| if rising { key < first } else { key > first };
                        if first.as_ref().is_none_or(|(_, first)| before(first)) {
                            first = Some((index, key.clone()));
                        }
                    }
                    Some(Err(_)) => return source.next(),
                    None => {}
                }
            }
            let (chosen, key) = first?;
            let mut entry = None;
            for (index, source) in sources.iter_mut().enumerate() {
                let taken = source.next_if(|entry| entry.as_ref().is_ok_and(|(found, _)| *found == key));
                if index == chosen {
                    entry = taken;
                }
            }
            entry
        }))
    }
}

/// Whether no key can lie between two bounds; ranges of ordered maps must not be asked for then.
fn is_empty(low: Bound<&[u8]>, high: Bound<&[u8]>) -> bool {
    match (low, high) {
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

fn check_key(key: &[u8]) -> Result<(), Error> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) { Ok(()) } else { Err(Error::KeySize(key.len() as u64)) }
}

fn store_error(error: StoreError) -> Error {
    Error::Store(error.to_string())
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
