//! Typed parts of the state: a map of keys to values under a prefix, and a single value under a name. A handle holds no
//! state of its own, so it may be a constant.
//!
//! Choose prefixes and names of which none begins another, such as `seen/` and `open/`: every handle sees all keys that
//! begin with its prefix.

use std::borrow::Borrow as _;
use std::marker::PhantomData;

use crate::call::Call;
use crate::codec::Codec;
use crate::failure::Failure;
use crate::scan::{Direction, Scan};

/// Values by key, each under the prefix and the key's bytes.
#[derive(Debug)]
pub struct Map<K: ?Sized, V: ?Sized> {
    prefix: &'static str,
    holds: PhantomData<fn(&K, &V)>,
}

/// One value under a name.
#[derive(Debug)]
pub struct Value<T: ?Sized> {
    map: Map<[u8], T>,
}

/// A key with its value, as a map reads them back.
pub type MapEntry<K, V> = (<K as Codec>::Owned, <V as Codec>::Owned);

/// A scan of a map that is under way.
#[derive(Debug)]
pub struct MapScan<K: ?Sized, V: ?Sized> {
    prefix: &'static str,
    scan: Scan,
    holds: PhantomData<fn(&K, &V)>,
}

impl<K: Codec + ?Sized, V: Codec + ?Sized> Map<K, V> {
    /// The map under a prefix; an empty one makes it the whole state.
    pub const fn new(prefix: &'static str) -> Self {
        Self { prefix, holds: PhantomData }
    }

    /// The value of a key.
    pub fn get(&self, call: &mut Call, key: &K) -> Result<Option<V::Owned>, Failure> {
        self.with_key(call, key, |call, key| {
            call.get(key)?.map(|value| V::decode(value).map_err(|malformed| malformed.at(key))).transpose()
        })
    }

    /// Sets a key's value.
    pub fn put(&self, call: &mut Call, key: &K, value: &V) -> Result<(), Failure> {
        self.with_key(call, key, |call, key| call.fill(key, |out| value.encode(out)))
    }

    /// Removes a key; one that is absent is no error.
    pub fn delete(&self, call: &mut Call, key: &K) -> Result<(), Failure> {
        self.with_key(call, key, Call::delete)
    }

    /// Sets a key's value by what it was; none removes the key.
    pub fn update(
        &self,
        call: &mut Call,
        key: &K,
        change: impl FnOnce(Option<V::Owned>) -> Option<V::Owned>,
    ) -> Result<(), Failure> {
        self.with_key(call, key, |call, key| {
            let decode = |value: &[u8]| V::decode(value).map_err(|malformed| malformed.at(key));
            call.change(key, |old| Ok(change(old.map(decode).transpose()?)), |new, out| new.borrow().encode(out))
        })
    }

    /// Reads the keys that the call has not read yet in one host call, so that later reads of them cost none.
    pub fn prefetch<'k>(&self, call: &mut Call, keys: impl IntoIterator<Item = &'k K>) -> Result<(), Failure>
    where
        K: 'k,
    {
        call.prefetch(keys.into_iter().map(|key| self.bytes(key)))
    }

    /// Goes through the whole map.
    pub fn scan(&self, call: &Call, direction: Direction) -> MapScan<K, V> {
        let start = self.prefix.as_bytes();
        self.scan_bytes(call, start, successor(start).as_deref(), direction)
    }

    /// Goes through the keys with start ≤ key < end, in the order of their bytes.
    pub fn scan_range(&self, call: &Call, start: &K, end: &K, direction: Direction) -> MapScan<K, V> {
        self.scan_bytes(call, &self.bytes(start), Some(&self.bytes(end)), direction)
    }

    fn bytes(&self, key: &K) -> Vec<u8> {
        let mut bytes = self.prefix.as_bytes().to_vec();
        key.encode(&mut bytes);
        bytes
    }

    fn scan_bytes(&self, call: &Call, start: &[u8], end: Option<&[u8]>, direction: Direction) -> MapScan<K, V> {
        MapScan { prefix: self.prefix, scan: call.scan(start, end, direction), holds: PhantomData }
    }

    /// Encodes a key where the call keeps room for it, so that no operation allocates for its key.
    fn with_key<R>(
        &self,
        call: &mut Call,
        key: &K,
        operate: impl FnOnce(&mut Call, &[u8]) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        if let (Some(bytes), true) = (key.as_bytes(), self.prefix.is_empty()) {
            return operate(call, bytes);
        }
        let mut bytes = std::mem::take(&mut call.key);
        bytes.clear();
        bytes.extend_from_slice(self.prefix.as_bytes());
        key.encode(&mut bytes);
        let outcome = operate(call, &bytes);
        call.key = bytes;
        outcome
    }
}

impl<K: Codec + ?Sized> Map<K, u64> {
    /// Adds to a counter, as [`Call::add`] does: all counters of a call are read at once, at its end.
    pub fn add(&self, call: &mut Call, key: &K, count: u64) -> Result<(), Failure> {
        self.with_key(call, key, |call, key| call.add(key, count))
    }
}

impl<T: Codec + ?Sized> Value<T> {
    /// The value under a name, which is its key as it stands.
    pub const fn new(name: &'static str) -> Self {
        Self { map: Map::new(name) }
    }

    /// The value, if it was set.
    pub fn get(&self, call: &mut Call) -> Result<Option<T::Owned>, Failure> {
        self.map.get(call, b"")
    }

    /// Sets the value.
    pub fn put(&self, call: &mut Call, value: &T) -> Result<(), Failure> {
        self.map.put(call, b"", value)
    }

    /// Removes the value.
    pub fn delete(&self, call: &mut Call) -> Result<(), Failure> {
        self.map.delete(call, b"")
    }

    /// Sets the value by what it was; none removes it.
    pub fn update(
        &self,
        call: &mut Call,
        change: impl FnOnce(Option<T::Owned>) -> Option<T::Owned>,
    ) -> Result<(), Failure> {
        self.map.update(call, b"", change)
    }
}

impl<K: Codec + ?Sized, V: Codec + ?Sized> MapScan<K, V> {
    /// The next key with its value, or none at the end.
    pub fn next(&mut self, call: &mut Call) -> Result<Option<MapEntry<K, V>>, Failure> {
        let Some((key, value)) = self.scan.next(call)? else { return Ok(None) };
        let decoded = K::decode(&key[self.prefix.len()..]).and_then(|k| Ok((k, V::decode(&value)?)));
        decoded.map(Some).map_err(|malformed| malformed.at(&key))
    }
}

/// The least key above all that begin with these bytes; none if there is no such key.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut above = prefix[..=last].to_vec();
    above[last] += 1;
    Some(above)
}
