//! Compiled code on this host's disk, by the digest of its component and the hash of the engine it is for: its SHA-256, then itself. What
//! nobody has used for a day is deleted; it is compiled again where it is wanted again.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pelton_core::id::Digest;
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

use super::runtime::GuestRuntime;

/// A SHA-256.
const SUM_BYTES: usize = 32;
/// How long code is kept that nobody uses.
const UNUSED: Duration = Duration::from_secs(24 * 3_600);

impl GuestRuntime {
    /// Where the code of a component is kept.
    pub(super) fn code_file(&self, digest: Digest) -> PathBuf {
        let mut engine = DefaultHasher::new();
        self.engine.precompile_compatibility_hash().hash(&mut engine);
        self.cache_dir.join(format!("{digest}-{:016x}.cwasm", engine.finish()))
    }

    /// Has compiled code at hand: what was just compiled, or read by [`load`].
    pub(super) fn deserialize(&self, code: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: the code is wasmtime's own. It was made by this process, or by a child that runs the same binary and does nothing
        // but compile, and came through a pipe between the two; or it was kept since, in a folder that is this user's alone and that
        // only `keep` writes to, and its checksum says that it is whole. Bytes that somebody sends never reach this, but for what
        // wasmtime makes of them: a fault of the compiler's by which a component has it write other code than its own would be as
        // bad here as one in this process.
        #[allow(unsafe_code)]
        unsafe {
            Component::deserialize(&self.engine, code)
        }
    }

    /// Says that the code of a component is in use.
    pub(crate) fn code_is_used(&self, digest: Digest) {
        use_now(&self.code_file(digest));
    }

    /// Deletes what nobody has used for long, of this engine and of those before it, and what a crash left unfinished.
    pub(crate) fn delete_unused_code(&self) {
        let long_ago = SystemTime::now() - UNUSED;
        let used = |entry: &std::fs::DirEntry| entry.metadata().and_then(|metadata| metadata.modified());
        for entry in std::fs::read_dir(&self.cache_dir).into_iter().flatten().flatten() {
            if used(&entry).is_ok_and(|used| used < long_ago) {
                match std::fs::remove_file(entry.path()) {
                    Ok(()) => tracing::info!("{} was not used for a day and is deleted", entry.path().display()),
                    Err(error) => tracing::warn!("deleting {}: {error}", entry.path().display()),
                }
            }
        }
    }
}

fn use_now(file: &Path) {
    // Where it cannot be said, the code is compiled once more some day.
    let _ = File::options().append(true).open(file).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Loads what [`keep`] wrote, if it is whole.
pub fn load(file: &Path) -> Option<Bytes> {
    let mut code = Bytes::from(std::fs::read(file).ok()?);
    let sum = (code.len() >= SUM_BYTES).then(|| code.split_to(SUM_BYTES))?;
    if sum != Sha256::digest(&code).as_slice() {
        tracing::warn!("{} is damaged; the component is compiled again", file.display());
        return None;
    }
    use_now(file);
    Some(code)
}

/// Keeps compiled code.
pub fn keep(code: &[u8], file: &Path) {
    /// Two threads may keep code of the same component.
    static KEPT: AtomicU64 = AtomicU64::new(0);
    let nth = KEPT.fetch_add(1, Ordering::Relaxed);
    let unfinished = file.with_extension(format!("unfinished-{}-{nth}", std::process::id()));
    let written = File::create(&unfinished).and_then(|mut to| {
        to.write_all(&Sha256::digest(code))?;
        to.write_all(code)?;
        std::fs::rename(&unfinished, file)
    });
    if let Err(error) = written {
        tracing::warn!("keeping compiled code in {}: {error}", file.display());
        // On a full disk it would be in the way.
        let _ = std::fs::remove_file(unfinished);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::{Compiler, Room};

    #[test]
    fn what_is_damaged_is_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("code");
        keep(b"code", &file);
        let whole = std::fs::read(&file).unwrap();
        assert_eq!(load(&file).unwrap(), b"code"[..]);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&file, damaged).unwrap();
            assert_eq!(load(&file), None, "damaged at {at}");
            std::fs::write(&file, &whole[..at]).unwrap();
            assert_eq!(load(&file), None, "cut at {at}");
        }
    }

    #[test]
    fn what_is_not_used_for_a_day_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let guests = GuestRuntime::new(folder.path(), Room::for_tasks(1), Compiler::Here).unwrap();
        let [used, unused] = [1, 2].map(|byte| Digest([byte; 32]));
        let left = folder.path().join("a.unfinished-1-1");
        std::fs::write(&left, "half").unwrap();
        for digest in [used, unused] {
            keep(b"code", &guests.code_file(digest));
        }
        guests.delete_unused_code();
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files(), 3, "all of it is new");
        for file in [guests.code_file(used), guests.code_file(unused), left] {
            let long_ago = SystemTime::now() - UNUSED - Duration::from_secs(60);
            File::options().append(true).open(file).unwrap().set_modified(long_ago).unwrap();
        }
        assert_eq!(load(&guests.code_file(used)).unwrap(), b"code"[..]);
        guests.delete_unused_code();
        assert_eq!((files(), guests.code_file(used).exists()), (1, true));
    }
}
