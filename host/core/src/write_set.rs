//! A write set: what a batch or a commit changes in a task's state, before it is durable. Later writes win.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::mutant::{Mutant, wrong};

/// Longest key a task may write, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest value a task may write, in bytes.
pub const VALUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Leading byte of the keys Pelton keeps in a task's state for itself.
pub const SYSTEM_SPACE: u8 = 0x00;
/// Leading byte of the keys the task's logic writes.
pub const USER_SPACE: u8 = 0x01;

/// A key of a task's state as it is stored: a space byte, then the bytes the space's owner chose.
pub type StateKey = Bytes;

/// The stored form of a key the task's logic chose.
pub fn user_key(key: &[u8]) -> StateKey {
    let mut stored = Vec::with_capacity(key.len() + 1);
    stored.push(USER_SPACE);
    stored.extend_from_slice(key);
    stored.into()
}

/// What a write takes beside its key and value, in bytes: in a map, and as it is written.
pub const WRITE_BYTES: usize = 64;

/// Writes by key, in key order; none deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteSet {
    writes: BTreeMap<StateKey, Option<Bytes>>,
    bytes: usize,
}

impl WriteSet {
    /// Sets or deletes a key; the write before it is forgotten.
    pub fn insert(&mut self, key: StateKey, value: Option<Bytes>) {
        if value.is_none() && key[0] == USER_SPACE && wrong(Mutant::DeletesIgnored) {
            return;
        }
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        let key_len = key.len();
        if let Some(before) = self.writes.insert(key, value) {
            self.bytes -= key_len + before.map_or(0, |value| value.len());
        }
    }

    /// Forgets what the set says of a key.
    pub fn remove(&mut self, key: &[u8]) {
        if let Some(value) = self.writes.remove(key) {
            self.bytes -= key.len() + value.map_or(0, |value| value.len());
        }
    }

    /// What the set says of a key: nothing, or a value, or that it is deleted.
    pub fn get(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        self.writes.get(key).map(Option::as_ref)
    }

    /// Puts another set's writes over this one's.
    pub fn merge(&mut self, later: Self) {
        if self.writes.is_empty() {
            *self = later;
            return;
        }
        for (key, value) in later.writes {
            self.insert(key, value);
        }
    }

    /// The writes with keys in a range, in key order.
    pub fn range(
        &self,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&StateKey, &Option<Bytes>)> {
        self.writes.range::<[u8], _>((start, end))
    }

    /// Every write, in key order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&StateKey, &Option<Bytes>)> + ExactSizeIterator {
        self.writes.iter()
    }

    /// Whether there is no write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many keys are written.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it takes, in bytes, with [`WRITE_BYTES`] for each write: however small they are, so many of them take no more.
    pub fn weight(&self) -> usize {
        self.bytes + self.writes.len() * WRITE_BYTES
    }
}

impl FromIterator<(StateKey, Option<Bytes>)> for WriteSet {
    fn from_iter<T: IntoIterator<Item = (StateKey, Option<Bytes>)>>(writes: T) -> Self {
        let writes: BTreeMap<_, _> = writes.into_iter().collect();
        let bytes = |(key, value): (&StateKey, &Option<Bytes>)| key.len() + value.as_ref().map_or(0, Bytes::len);
        Self { bytes: writes.iter().map(bytes).sum(), writes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_write_wins_and_the_bytes_add_up() {
        let mut below: WriteSet =
            [(user_key(b"a"), Some("1".into())), (user_key(b"b"), Some("22".into()))].into_iter().collect();
        let above: WriteSet = [(user_key(b"b"), None), (user_key(b"c"), Some("333".into()))].into_iter().collect();
        below.merge(above);
        assert_eq!(below.get(&user_key(b"a")), Some(Some(&"1".into())));
        assert_eq!(below.get(&user_key(b"b")), Some(None));
        assert_eq!(below.get(&user_key(b"d")), None);
        assert_eq!(below.bytes(), 2 + 1 + 2 + 2 + 3);
        ["a", "b", "d"].iter().for_each(|key| below.remove(&user_key(key.as_bytes())));
        assert_eq!((below.len(), below.bytes()), (1, 2 + 3));
    }
}
