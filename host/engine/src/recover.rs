//! Recovery: a task's state as one changelog holds it becomes the beginning of another's. The first is only read, so that a
//! recovery that was cut short is simply done again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pelton_core::cause::StopCause;
use pelton_core::claim::Ownership;
use pelton_core::codec;
use pelton_core::commit::{Commit, CommitKind};
use pelton_core::id::{CommitId, CommitNumber, DeploymentNumber, HostId, Incarnation, TaskId};
use pelton_core::limits::backoff_ms;
use pelton_core::restore::{AfterApply, Restore, RestoreNext};
use pelton_core::snapshot::{Manifest, StateMark};
use tokio::runtime::Handle;

use crate::log;
use crate::ports::{Changelog, PortError};
use crate::store::{LocalStore, SnapshotReader, SnapshotWriter, StoreError};

/// A request that fails in passing is repeated so often: about a minute of pauses.
const ATTEMPTS_MAX: u32 = 20;
/// Bytes of redb's page cache for a task.
const PAGE_CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why a task could not be recovered. What it was to become is unused then.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A service refused.
    #[error("task {0}: {1}")]
    Port(TaskId, PortError),
    /// What the changelog holds is not whole.
    #[error("task {0}: {1}")]
    Changelog(TaskId, StopCause),
    /// The disk failed.
    #[error("task {0}: {1}")]
    Store(TaskId, StoreError),
}

/// What was found of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredTask {
    /// Which.
    pub task: TaskId,
    /// The last commit found; 0 for a task that never made one.
    pub commit: CommitNumber,
    /// Entries of its state.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub state_bytes: u64,
}

/// From which changelog to which.
pub struct Recovery {
    /// The incarnation that is only read.
    pub incarnation: Incarnation,
    /// Its changelog.
    pub from: Arc<dyn Changelog>,
    /// The changelog that begins with what is found.
    pub to: Arc<dyn Changelog>,
    /// Who does it.
    pub host: HostId,
    /// A folder for the states while they are carried over.
    pub scratch: PathBuf,
    /// Where the requests run.
    pub runtime: Handle,
}

impl Recovery {
    /// Carries a task over. Blocks; the ids are random, of the commit and the snapshot that the new changelog begins with.
    ///
    /// # Errors
    /// When what was found is not whole, or a service or the disk fails.
    pub fn task(&self, task: TaskId, ids: [CommitId; 2]) -> Result<RecoveredTask, RecoverError> {
        let path = self.scratch.join(format!("{:05}.redb", task.0));
        let store = |error| RecoverError::Store(task, error);
        let opened = LocalStore::open(&path, self.incarnation, task, PAGE_CACHE_BYTES).map_err(store)?;
        let mut local = opened.store;
        local.reset().map_err(store)?;
        let mark = self.restore(task, &mut local)?;
        let mut recovered = RecoveredTask { task, commit: mark.number, entries: 0, state_bytes: 0 };
        if mark.number > CommitNumber(0) {
            let manifest = self.begin(task, &local, mark, ids)?;
            recovered = RecoveredTask { entries: manifest.entries, state_bytes: manifest.state_bytes, ..recovered };
        }
        drop(local);
        // It is scratch: what is left of it is emptied by the next recovery.
        let _ = std::fs::remove_file(path);
        Ok(recovered)
    }

    /// Brings the local copy to the newest commit, checking the chain on the way.
    fn restore(&self, task: TaskId, local: &mut LocalStore) -> Result<StateMark, RecoverError> {
        let tail = self.ask(task, || self.from.tail(task))?;
        let manifests = self.ask(task, || self.from.manifests(task))?;
        let newest = tail.map(|item| (item.epoch, item.number, item.id)).unwrap_or_default();
        let (epoch, fence, fence_id) = newest;
        let mut restore = Restore::new(Ownership { epoch, fence, fence_id, manifests });
        let store = |error| RecoverError::Store(task, error);
        let mut next = restore.local_opened(StateMark::default());
        loop {
            next = match next {
                RestoreNext::OpenLocal => restore.local_opened(StateMark::default()),
                RestoreNext::ResetLocal => {
                    local.reset().map_err(store)?;
                    restore.local_reset()
                }
                RestoreNext::LoadSnapshot(manifest) => {
                    let loaded = self.load(task, local, &manifest)?;
                    restore.snapshot_loaded(loaded)
                }
                RestoreNext::ReadLog(from) => {
                    let items = self.ask(task, || self.from.read_from(task, from))?;
                    let entry = |item| self.ask(task, || log::entry(self.from.as_ref(), task, item));
                    restore.log_read(items.iter().map(entry).collect::<Result<_, _>>()?)
                }
                RestoreNext::ReadManifests => restore.manifests(self.ask(task, || self.from.manifests(task))?),
                RestoreNext::Apply(commits, after) => {
                    for (commit, mark) in commits {
                        local.apply(&commit.writes, mark).map_err(store)?;
                    }
                    match after {
                        AfterApply::ReadLog(from) => RestoreNext::ReadLog(from),
                        AfterApply::Complete => RestoreNext::Complete,
                    }
                }
                RestoreNext::Complete => return Ok(restore.mark()),
                RestoreNext::Stop(cause) => return Err(RecoverError::Changelog(task, cause)),
            };
        }
    }

    fn load(
        &self,
        task: TaskId,
        local: &mut LocalStore,
        manifest: &Manifest,
    ) -> Result<Result<(), String>, RecoverError> {
        let mut failed = None;
        let parts = (0..manifest.parts).map_while(|index| {
            match self.ask(task, || self.from.read_part(task, manifest.at, manifest.id, index)) {
                Ok(part) => part,
                Err(error) => {
                    failed = Some(error);
                    None
                }
            }
        });
        let mark = StateMark {
            number: manifest.at,
            id: manifest.at_id,
            epoch: manifest.at_epoch,
            last_step_id: manifest.last_step_id,
            log_bytes: 0,
        };
        let loaded = SnapshotReader::load(local, parts, manifest, mark);
        match (failed, loaded) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(Ok(())),
            (None, Err(StoreError::Snapshot(detail))) => Ok(Err(detail)),
            (None, Err(error)) => Err(RecoverError::Store(task, error)),
        }
    }

    /// Begins the new changelog: a fence behind the newest commit, and a snapshot of the state at it. Numbers go on, so that
    /// no output of a later commit has a number below those still to be published.
    fn begin(
        &self,
        task: TaskId,
        local: &LocalStore,
        found: StateMark,
        [id, snapshot]: [CommitId; 2],
    ) -> Result<Manifest, RecoverError> {
        let at = found.number.next();
        let epoch = self.ask(task, || self.to.claim(task, self.host))?;
        let mut parts = 0;
        let mut failed = None;
        let totals = SnapshotWriter::write(&local.reader(), |part| {
            let put = self.ask(task, || self.to.put_part(task, at, snapshot, parts, part.clone()));
            parts += 1;
            failed = put.err();
            failed.is_none()
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let totals = totals.map_err(|error| RecoverError::Store(task, error))?;
        let fence = codec::encode(&Commit {
            number: at,
            id,
            previous_id: found.id,
            epoch,
            deployment: DeploymentNumber(0),
            kind: CommitKind::Fence,
            born: at,
            invocations: Vec::new(),
            writes: Arc::default(),
        });
        // Nobody else knows of this incarnation: a number that is taken was taken by this request, its reply lost.
        self.ask(task, || self.to.put(task, epoch, &fence))?;
        let manifest = Manifest {
            id: snapshot,
            at,
            at_id: id,
            at_epoch: epoch,
            last_step_id: found.last_step_id,
            taken_ms: 0,
            floor: at,
            parts,
            entries: totals.entries,
            state_bytes: totals.state_bytes,
        };
        self.ask(task, || self.to.put_manifest(task, &manifest))?;
        Ok(manifest)
    }

    fn ask<T, F>(&self, task: TaskId, mut request: impl FnMut() -> F) -> Result<T, RecoverError>
    where
        F: Future<Output = Result<T, PortError>>,
    {
        let mut attempt = 0;
        loop {
            match self.runtime.block_on(request()) {
                Ok(answer) => return Ok(answer),
                Err(PortError::Retry(text)) if attempt < ATTEMPTS_MAX => {
                    attempt += 1;
                    tracing::warn!("task {task}: {text}; trying again");
                    std::thread::sleep(Duration::from_millis(backoff_ms(attempt)));
                }
                Err(error) => return Err(RecoverError::Port(task, error)),
            }
        }
    }
}
