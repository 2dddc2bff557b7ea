//! The committed state at one moment, for guests, snapshots and those who ask from outside.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pelton_core::codec::{SystemEntry, decode_system};
use pelton_core::write_set::{SYSTEM_SPACE, USER_SPACE};
use redb::backends::InMemoryBackend;
use redb::{Database, ReadOnlyTable, ReadableDatabase as _};

use super::local::failed;
use super::{STATE, StoreError};

/// Sees the state as it was when the reader was made.
#[derive(Clone)]
pub struct StateReader {
    table: Arc<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    path: Arc<PathBuf>,
    /// Open for as long as somebody reads, whatever becomes of the task.
    _database: Arc<Database>,
}

/// Entries of a range, in key order from either end.
pub type Entries = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StoreError>>>;

impl StateReader {
    /// Sees no state at all.
    ///
    /// # Errors
    /// When redb fails.
    pub fn of_nothing() -> Result<Self, StoreError> {
        let path = Path::new("a state of nothing");
        let create = || {
            let database = Database::builder().create_with_backend(InMemoryBackend::new())?;
            let write = database.begin_write()?;
            drop(write.open_table(STATE)?);
            write.commit()?;
            Ok::<_, redb::Error>(Arc::new(database))
        };
        Self::new(&create().map_err(|error| failed(path, error))?, path)
    }

    pub(super) fn new(database: &Arc<Database>, path: &Path) -> Result<Self, StoreError> {
        let open = || Ok::<_, redb::Error>(database.begin_read()?.open_table(STATE)?);
        let table = open().map_err(|error| failed(path, error))?;
        Ok(Self { table: Arc::new(table), path: Arc::new(path.into()), _database: database.clone() })
    }

    /// The value of a stored key.
    ///
    /// # Errors
    /// When redb or the disk fails.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.guard(|| Ok(self.table.get(key)?.map(|value| value.value().to_vec())))
    }

    /// Entries with start ≤ key < end, rising or falling.
    ///
    /// # Errors
    /// When redb or the disk fails.
    pub fn range(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, rising: bool) -> Result<Entries, StoreError> {
        let range = self.guard(|| Ok(self.table.range::<&[u8]>((start, end))?))?;
        let path = self.path.clone();
        let copy = move |entry: Result<_, redb::StorageError>| {
            let (key, value): (redb::AccessGuard<'_, &[u8]>, redb::AccessGuard<'_, &[u8]>) =
                entry.map_err(|error| failed(&path, error))?;
            Ok((Bytes::copy_from_slice(key.value()), Bytes::copy_from_slice(value.value())))
        };
        Ok(if rising { Box::new(range.map(copy)) } else { Box::new(range.rev().map(copy)) })
    }

    /// Up to `limit` entries with start ≤ key < end, rising.
    ///
    /// # Errors
    /// When redb or the disk fails.
    pub fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.range(Bound::Included(start), Bound::Excluded(end), true)?.take(limit).collect()
    }

    /// The whole system state.
    ///
    /// # Errors
    /// When redb or the disk fails, or an entry is not one this version writes.
    pub fn system(&self) -> Result<Vec<SystemEntry>, StoreError> {
        let entries = self.range(Bound::Included(&[SYSTEM_SPACE]), Bound::Excluded(&[USER_SPACE]), true)?;
        entries
            .map(|entry| {
                let (key, value) = entry?;
                decode_system(&key, value).map_err(|error| failed(&self.path, error))
            })
            .collect()
    }

    /// redb panics when it reads pages that make no sense.
    fn guard<T>(&self, read: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(failed(&self.path, error)),
            Err(_) => Err(failed(&self.path, "the file is damaged; delete it, and it is rebuilt from the changelog")),
        }
    }
}
