//! The file: opened, checked, written and emptied.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pelton_core::id::{CommitId, CommitNumber, Epoch, Incarnation, TaskId};
use pelton_core::snapshot::StateMark;
use pelton_core::write_set::WriteSet;
use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, Table, WriteTransaction};

use super::{ABOUT, STATE, StateReader, StoreError};

/// Version of the file's layout.
const FORMAT: u8 = 1;
const IDENTITY: &str = "identity";
const MARK: &str = "mark";
const MARK_BYTES: usize = 56;

/// A local copy that is open.
pub struct LocalStore {
    path: PathBuf,
    database: Arc<Database>,
    identity: Vec<u8>,
    mark: StateMark,
    reader: StateReader,
}

/// What opening came to.
pub struct Opened {
    /// The local copy, perhaps empty.
    pub store: LocalStore,
    /// Why a file that was there had to be given up.
    pub replaced: Option<String>,
}

/// Makes what was applied durable, from another thread.
pub struct Flusher {
    database: Arc<Database>,
    path: PathBuf,
}

impl LocalStore {
    /// Opens a task's file, or makes it. One that is corrupt or of something else is replaced by an empty one.
    ///
    /// # Errors
    /// When the file can be neither opened nor made.
    pub fn open(path: &Path, incarnation: Incarnation, task: TaskId, cache_bytes: usize) -> Result<Opened, StoreError> {
        let mut identity = vec![FORMAT];
        identity.extend_from_slice(&incarnation.0);
        identity.extend_from_slice(&task.0.to_be_bytes());
        // redb refuses most damaged files, and panics over some.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_as(path, &identity, cache_bytes)));
        let why = match opened {
            Ok(Ok(store)) => return Ok(Opened { store, replaced: None }),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("{}: redb could not make sense of it", path.display()),
        };
        std::fs::remove_file(path).map_err(|error| failed(path, format!("{why}; and removing it: {error}")))?;
        let store = Self::open_as(path, &identity, cache_bytes)?;
        Ok(Opened { store, replaced: Some(why) })
    }

    fn open_as(path: &Path, identity: &[u8], cache_bytes: usize) -> Result<Self, StoreError> {
        let fail = |error: &dyn std::fmt::Display| failed(path, error);
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes).set_check_integrity_on_open(path.exists());
        let database = Arc::new(builder.create(path).map_err(|error| fail(&error))?);
        let known = about(&database, IDENTITY).map_err(|error| fail(&error))?;
        match known {
            Some(known) if known == identity => {}
            Some(_) => return Err(fail(&"it is of another job, task or format")),
            None => initialize(&database, identity).map_err(|error| fail(&error))?,
        }
        let mark = about(&database, MARK).map_err(|error| fail(&error))?;
        let mark =
            decode_mark(mark.as_deref().unwrap_or_default()).ok_or_else(|| fail(&"its mark has a wrong size"))?;
        let reader = StateReader::new(&database, path)?;
        let mut store = Self { path: path.into(), database, identity: identity.into(), mark, reader };
        // A crash while a snapshot was loaded leaves entries without a mark: what is not marked is empty.
        if mark == StateMark::default() && !store.reader.scan(&[], &[u8::MAX], 1)?.is_empty() {
            store.reset()?;
        }
        Ok(store)
    }

    /// The last commit applied.
    pub fn mark(&self) -> StateMark {
        self.mark
    }

    /// The state as it stands, for as long as the reader is kept.
    pub fn reader(&self) -> StateReader {
        self.reader.clone()
    }

    /// Applies a commit's writes and its mark in one transaction; durable with the next flush.
    ///
    /// # Errors
    /// When redb or the disk fails.
    pub fn apply(&mut self, writes: &WriteSet, mark: StateMark) -> Result<(), StoreError> {
        let write = |transaction: &WriteTransaction| {
            let mut state = transaction.open_table(STATE)?;
            // No key is empty.
            let last = state.last()?.map_or_else(Vec::new, |(key, _)| key.value().to_vec());
            for (key, value) in writes.range(Bound::Unbounded, Bound::Included(&last)) {
                match value {
                    Some(value) => drop(state.insert(key.as_ref(), value.as_ref())?),
                    None => drop(state.remove(key.as_ref())?),
                }
            }
            let behind = writes.range(Bound::Excluded(&last), Bound::Unbounded);
            append(&mut state, behind.filter_map(|(key, value)| Some((key, value.as_ref()?))))
        };
        self.transact(Durability::None, mark, write)
    }

    /// Empties the local copy.
    ///
    /// # Errors
    /// When redb or the disk fails.
    pub fn reset(&mut self) -> Result<(), StoreError> {
        self.transact(Durability::Immediate, StateMark::default(), |transaction| {
            transaction.delete_table(STATE)?;
            transaction.open_table(STATE)?;
            Ok(())
        })
    }

    /// Loads entries in key order, each behind all that is there, into the empty local copy. The mark stays that of an
    /// empty one until [`LocalStore::loaded`].
    ///
    /// # Errors
    /// When redb or the disk fails, or the entries are not in key order.
    pub fn load(&mut self, entries: &[(Bytes, Bytes)]) -> Result<(), StoreError> {
        assert_eq!(self.mark, StateMark::default(), "a snapshot is loaded into an empty copy");
        self.transact(Durability::None, StateMark::default(), |transaction| {
            let mut state = transaction.open_table(STATE)?;
            append(&mut state, entries.iter().map(|(key, value)| (key, value)))
        })
    }

    /// Everything is loaded: the local copy stands at this mark.
    ///
    /// # Errors
    /// When redb or the disk fails.
    pub fn loaded(&mut self, mark: StateMark) -> Result<(), StoreError> {
        self.transact(Durability::Immediate, mark, |_| Ok(()))
    }

    /// What makes applied commits durable, from another thread.
    pub fn flusher(&self) -> Flusher {
        Flusher { database: self.database.clone(), path: self.path.clone() }
    }

    fn transact(
        &mut self,
        durability: Durability,
        mark: StateMark,
        write: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let transaction = || {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(durability)?;
            write(&transaction)?;
            {
                let mut about = transaction.open_table(ABOUT)?;
                about.insert(IDENTITY, self.identity.as_slice())?;
                about.insert(MARK, encode_mark(mark).as_slice())?;
            }
            transaction.commit()?;
            Ok::<_, redb::Error>(())
        };
        transaction().map_err(|error| failed(&self.path, error))?;
        self.mark = mark;
        self.reader = StateReader::new(&self.database, &self.path)?;
        Ok(())
    }
}

impl Flusher {
    /// Makes everything applied before this call durable.
    ///
    /// # Errors
    /// When redb or the disk fails.
    pub fn flush(&self) -> Result<(), StoreError> {
        let flush = || {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            transaction.commit()?;
            Ok::<_, redb::Error>(())
        };
        flush().map_err(|error| failed(&self.path, error))
    }
}

pub(super) fn failed(path: &Path, error: impl std::fmt::Display) -> StoreError {
    StoreError::Store { path: path.display().to_string(), cause: error.to_string() }
}

/// Adds entries in key order behind all that are there, which costs redb a third of what inserting them one by one does.
fn append<'e>(
    state: &mut Table<'_, &'static [u8], &'static [u8]>,
    entries: impl Iterator<Item = (&'e Bytes, &'e Bytes)>,
) -> Result<(), redb::Error> {
    let mut end = state.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
    for (key, value) in entries {
        end.insert_before(key.as_ref(), value.as_ref())?;
    }
    Ok(end.close()?)
}

fn initialize(database: &Database, identity: &[u8]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(STATE)?;
    transaction.open_table(ABOUT)?.insert(IDENTITY, identity)?;
    transaction.commit()?;
    Ok(())
}

fn about(database: &Database, what: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    let transaction = database.begin_read()?;
    match transaction.open_table(ABOUT) {
        Ok(table) => Ok(table.get(what)?.map(|value| value.value().to_vec())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Number, epoch and bytes of log as 8 bytes big-endian each, then the two ids.
fn encode_mark(mark: StateMark) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MARK_BYTES);
    bytes.extend_from_slice(&mark.number.0.to_be_bytes());
    bytes.extend_from_slice(&mark.epoch.0.to_be_bytes());
    bytes.extend_from_slice(&mark.log_bytes.to_be_bytes());
    bytes.extend_from_slice(&mark.id.0);
    bytes.extend_from_slice(&mark.last_step_id.0);
    bytes
}

fn decode_mark(bytes: &[u8]) -> Option<StateMark> {
    if bytes.is_empty() {
        return Some(StateMark::default());
    }
    let bytes: &[u8; MARK_BYTES] = bytes.try_into().ok()?;
    Some(StateMark {
        number: CommitNumber(u64::from_be_bytes(bytes[..8].try_into().ok()?)),
        epoch: Epoch(u64::from_be_bytes(bytes[8..16].try_into().ok()?)),
        log_bytes: u64::from_be_bytes(bytes[16..24].try_into().ok()?),
        id: CommitId(bytes[24..40].try_into().ok()?),
        last_step_id: CommitId(bytes[40..].try_into().ok()?),
    })
}
