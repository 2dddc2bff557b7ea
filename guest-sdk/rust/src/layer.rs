//! What a call knows of its task's state: what it read, and on top of that what it wrote. Each key is read from the
//! host once and written to it once, in the order in which the call first touched them.
//!
//! The hash seed is fixed and nothing is ever listed in the table's order, so that a call repeats itself exactly.

use std::hash::{BuildHasher as _, Hasher as _};
use std::ops::Range;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::codec::Codec as _;
use crate::failure::Failure;
use crate::host;
use crate::host::{Refusal, Write};
use crate::limits::{HELD_BYTES, KEY_BYTES_MAX, READ_KEYS_MAX, VALUE_BYTES_MAX};

/// How a key's value came to be what the layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nobody asked for it yet; the value held means nothing.
    Unread,
    /// As the host has it.
    Clean,
    /// To be written.
    Dirty,
    /// A counter that is not read yet, and what to add to it.
    Added(u64),
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    key: Range<usize>,
    standing: Standing,
    value: Option<Vec<u8>>,
}

/// What a call knows of its task's state. Slots are indexes into it, good until it is cleared.
#[derive(Debug)]
pub(crate) struct Layer {
    seed: FixedState,
    table: HashTable<u32>,
    entries: Vec<Entry>,
    keys: Vec<u8>,
    value_bytes: usize,
}

impl Default for Layer {
    fn default() -> Self {
        let seed = FixedState::with_seed(0);
        Self { seed, table: HashTable::new(), entries: Vec::new(), keys: Vec::new(), value_bytes: 0 }
    }
}

impl Layer {
    /// The slot of a key, made if it is new.
    pub(crate) fn slot(&mut self, key: &[u8]) -> Result<usize, Failure> {
        let mut hasher = self.seed.build_hasher();
        hasher.write(key);
        let hash = hasher.finish();
        let (entries, keys) = (&self.entries, &self.keys);
        match self.table.find(hash, |slot| keys[entries[*slot as usize].key.clone()] == *key) {
            Some(slot) => Ok(*slot as usize),
            None => self.make_slot(key, hash),
        }
    }

    #[cold]
    fn make_slot(&mut self, key: &[u8], hash: u64) -> Result<usize, Failure> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Refusal::KeySize(key.len() as u64).into());
        }
        let slot = self.entries.len();
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        let key = start..self.keys.len();
        self.entries.push(Entry { hash, key, standing: Standing::Unread, value: None });
        let entries = &self.entries;
        self.table.insert_unique(hash, slot as u32, |slot| entries[*slot as usize].hash);
        Ok(slot)
    }

    /// The value in a slot, read from the host if it was not yet.
    pub(crate) fn read(&mut self, slot: usize) -> Result<Option<&[u8]>, Failure> {
        match self.entries[slot].standing {
            Standing::Unread | Standing::Added(_) => {
                let value = host::get(&self.keys[self.entries[slot].key.clone()])?;
                self.learn(slot, value)?;
            }
            Standing::Clean | Standing::Dirty => {}
        }
        Ok(self.entries[slot].value.as_deref())
    }

    /// Sets the value in a slot to what `fill` appends.
    pub(crate) fn write(&mut self, slot: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        let entry = &mut self.entries[slot];
        let value = entry.value.get_or_insert_default();
        self.value_bytes -= value.len();
        value.clear();
        fill(value);
        self.value_bytes += value.len();
        entry.standing = Standing::Dirty;
        if value.len() > VALUE_BYTES_MAX {
            let refusal = Refusal::ValueSize(value.len() as u64);
            return Err(Failure::poison(format!("{refusal} (under {})", self.name(slot))));
        }
        Ok(())
    }

    /// Removes the value in a slot.
    pub(crate) fn delete(&mut self, slot: usize) {
        let entry = &mut self.entries[slot];
        self.value_bytes -= entry.value.take().map_or(0, |value| value.len());
        entry.standing = Standing::Dirty;
    }

    /// Adds to the counter in a slot, without reading it if it was not yet.
    pub(crate) fn add(&mut self, slot: usize, count: u64) -> Result<(), Failure> {
        match &mut self.entries[slot].standing {
            standing @ Standing::Unread => *standing = Standing::Added(count),
            Standing::Added(added) => *added = added.saturating_add(count),
            Standing::Clean | Standing::Dirty => {
                let total = self.counter(slot)?.saturating_add(count);
                self.write(slot, |value| total.encode(value))?;
            }
        }
        Ok(())
    }

    /// Reads the slots that were not read yet, in as few host calls as there can be.
    pub(crate) fn prefetch(&mut self, mut slots: Vec<usize>) -> Result<(), Failure> {
        slots.retain(|slot| matches!(self.entries[*slot].standing, Standing::Unread | Standing::Added(_)));
        slots.sort_unstable();
        slots.dedup();
        for some in slots.chunks(READ_KEYS_MAX) {
            // What does not fit is read when it is needed.
            if self.held_bytes() > HELD_BYTES {
                break;
            }
            self.read_many(some)?;
        }
        Ok(())
    }

    /// Hands the writes to the host. What was read and written stays known.
    pub(crate) fn hand_over(&mut self) -> Result<(), Failure> {
        let added = |entry: &Entry| matches!(entry.standing, Standing::Added(_));
        let unread: Vec<usize> = (0..self.entries.len()).filter(|slot| added(&self.entries[*slot])).collect();
        for some in unread.chunks(READ_KEYS_MAX) {
            self.read_many(some)?;
        }
        let dirty = |entry: &&Entry| entry.standing == Standing::Dirty;
        let writes: Vec<Write<'_>> = (self.entries.iter().filter(dirty))
            .map(|entry| Write { key: &self.keys[entry.key.clone()], value: entry.value.as_deref() })
            .collect();
        if writes.is_empty() {
            return Ok(());
        }
        host::write_many(&writes)?;
        for entry in &mut self.entries {
            if entry.standing == Standing::Dirty {
                entry.standing = Standing::Clean;
            }
        }
        Ok(())
    }

    /// Forgets everything. Writes that were not handed over are gone.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.entries.clear();
        self.keys.clear();
        self.value_bytes = 0;
    }

    /// What the layer holds in memory.
    pub(crate) fn held_bytes(&self) -> usize {
        self.value_bytes + self.keys.len() + self.entries.len() * size_of::<Entry>()
    }

    fn read_many(&mut self, slots: &[usize]) -> Result<(), Failure> {
        let keys: Vec<&[u8]> = slots.iter().map(|slot| &self.keys[self.entries[*slot].key.clone()]).collect();
        match host::get_many(&keys) {
            Ok(values) => {
                assert_eq!(values.len(), slots.len(), "the host answers for each key");
                slots.iter().zip(values).try_for_each(|(slot, value)| self.learn(*slot, value))
            }
            Err(Refusal::AnswerSize(_)) if slots.len() > 1 => {
                let (head, tail) = slots.split_at(slots.len() / 2);
                self.read_many(head)?;
                self.read_many(tail)
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Takes in what the host has in a slot that was not read yet.
    fn learn(&mut self, slot: usize, value: Option<Vec<u8>>) -> Result<(), Failure> {
        let entry = &mut self.entries[slot];
        self.value_bytes += value.as_ref().map_or(0, Vec::len);
        let standing = std::mem::replace(&mut entry.standing, Standing::Clean);
        entry.value = value;
        match standing {
            Standing::Unread => Ok(()),
            Standing::Added(count) => self.add(slot, count),
            Standing::Clean | Standing::Dirty => unreachable!("slot {slot} is read twice"),
        }
    }

    fn counter(&self, slot: usize) -> Result<u64, Failure> {
        let Some(value) = &self.entries[slot].value else { return Ok(0) };
        u64::decode(value).map_err(|malformed| malformed.at(&self.keys[self.entries[slot].key.clone()]))
    }

    fn name(&self, slot: usize) -> String {
        format!("key \"{}\"", self.keys[self.entries[slot].key.clone()].escape_ascii())
    }
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
