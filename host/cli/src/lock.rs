//! The data folder belongs to one process: a lock on a file in it, which the system releases however the process ends.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context as _, bail};

/// A data folder that is ours until this is dropped.
#[derive(Debug)]
pub struct DataLock {
    // Holds the lock by being open.
    _file: File,
}

impl DataLock {
    /// Takes a folder, made when it is missing.
    ///
    /// # Errors
    /// When another process has it, or it cannot be written.
    pub fn take(folder: &Path) -> anyhow::Result<Self> {
        let what = || format!("taking the data folder {}", folder.display());
        std::fs::create_dir_all(folder).with_context(what)?;
        let file = File::options().create(true).truncate(false).write(true).open(folder.join("lock"));
        let file = file.with_context(what)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => bail!(
                "the data folder {} is in use by another pelton process; stop that one, or set another data-dir",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => Err(error).with_context(what),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::DataLock;

    #[test]
    fn a_folder_is_taken_once_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataLock::take(folder.path()).unwrap();
        let refused = DataLock::take(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("in use by another pelton process"), "{refused}");
        drop(first);
        DataLock::take(folder.path()).unwrap();
    }
}
