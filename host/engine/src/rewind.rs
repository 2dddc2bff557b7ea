//! What a task reads to be rewound: the state of an earlier commit, restored into a file of its own beside the local copy, and
//! compared with that.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use pelton_core::cause::StopCause;
use pelton_core::id::Epoch;
use pelton_core::limits::REWIND_BYTES_MAX;
use pelton_core::restore::{AfterApply, Restore, RestoreNext};
use pelton_core::snapshot::{Manifest, StateMark};
use pelton_core::task::{Event, RewindTo, difference};
use tokio::runtime::Handle;

use crate::cell::TaskCell;
use crate::restore::PAGE_CACHE_BYTES;
use crate::store::{LocalStore, StateReader, StoreError};

/// Why the state of an earlier commit is not to be had.
enum Failure {
    Store(StoreError),
    Stop(StopCause),
    /// The task was told already.
    Told,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl TaskCell {
    /// Says how the state after an earlier commit differs from the one now. Few tasks at a time: each reads a whole state.
    pub(crate) async fn rewind(self: Arc<Self>, runtime: Handle, now: StateReader, to: RewindTo, epoch: Epoch) {
        let cell = self.clone();
        let _turn = cell.snapshot_turn().await;
        // It may have been away for long since it was asked.
        let retention_ms = cell.retention_ms();
        if let Some(age_ms) = to.too_old_to_go_back_ms(cell.now_ms(), retention_ms) {
            return cell.tell(Event::Broken(StopCause::RewindRecordsGone { to: to.number, age_ms, retention_ms }));
        }
        let read = tokio::task::spawn_blocking(move || self.read_to_rewind(&runtime, now, to, epoch));
        if let Err(error) = read.await {
            cell.tell(Event::Broken(StopCause::Store(format!("reading an earlier state ended: {error}"))));
        }
    }

    /// How long the streams of the job keep records, the one that keeps them shortest, in milliseconds.
    pub(crate) fn retention_ms(&self) -> u64 {
        let kept_ms = self.spec().meta.streams().map(|stream| self.job.hub.retention_ms(stream));
        kept_ms.min().unwrap_or(u64::MAX)
    }

    /// Where an earlier state is read into.
    pub(crate) fn rewind_path(&self) -> PathBuf {
        self.store_path().with_extension("rewind.redb")
    }

    fn read_to_rewind(self: Arc<Self>, runtime: &Handle, now: StateReader, to: RewindTo, epoch: Epoch) {
        tracing::info!("task {} of job {} goes back to commit {}", self.id, self.spec().meta.name, to.number);
        let path = self.rewind_path();
        let forget = || {
            std::fs::remove_file(&path).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(StoreError::Store { path: path.display().to_string(), cause: error.to_string() }),
            })
        };
        let read = || {
            forget()?;
            let opened = LocalStore::open(&path, self.spec().meta.incarnation, self.id, PAGE_CACHE_BYTES)?;
            let then = self.state_after(runtime, opened.store, to, epoch)?;
            let all = |state: &StateReader| state.range(Bound::Unbounded, Bound::Unbounded, true);
            let too_large = StopCause::RewindTooLarge { to: to.number, bytes_max: REWIND_BYTES_MAX };
            difference(all(&then)?, all(&now)?)?.ok_or(Failure::Stop(too_large))
        };
        let read = read();
        // Before anything is told: on a full disk others wait for its room.
        if let Err(error) = forget() {
            tracing::warn!("task {}: what was read for a rewind stays on the disk: {error}", self.id);
        }
        match read {
            Ok(writes) => self.tell(Event::Rewound(writes)),
            Err(Failure::Stop(cause)) => self.tell(Event::Broken(cause)),
            Err(Failure::Store(error)) => self.store_failed(&error),
            Err(Failure::Told) => {}
        }
    }

    fn state_after(
        self: &Arc<Self>,
        runtime: &Handle,
        mut store: LocalStore,
        to: RewindTo,
        epoch: Epoch,
    ) -> Result<StateReader, Failure> {
        let manifests = || runtime.block_on(self.manifests()).ok_or(Failure::Told);
        let mut restore = Restore::up_to(to, epoch, manifests()?);
        let mut next = restore.local_opened(StateMark::default());
        loop {
            next = match next {
                RestoreNext::LoadSnapshot(manifest) => {
                    restore.snapshot_loaded(self.load_into(runtime, &mut store, &manifest)?)
                }
                RestoreNext::ReadLog(from) => {
                    restore.log_read(runtime.block_on(self.log_page(from)).ok_or(Failure::Told)?)
                }
                RestoreNext::Apply(commits, after) => {
                    for (commit, mark) in commits {
                        store.apply(&commit.writes, mark)?;
                    }
                    match after {
                        AfterApply::ReadLog(from) => RestoreNext::ReadLog(from),
                        AfterApply::Complete => return Ok(store.reader()),
                    }
                }
                RestoreNext::ReadManifests => {
                    let reach = |manifest: &Manifest| manifest.at <= to.number;
                    restore.manifests(manifests()?.into_iter().filter(reach).collect())
                }
                RestoreNext::OpenLocal => restore.local_opened(StateMark::default()),
                RestoreNext::ResetLocal => {
                    store.reset()?;
                    restore.local_reset()
                }
                RestoreNext::Complete => return Ok(store.reader()),
                RestoreNext::Stop(cause) => return Err(Failure::Stop(cause)),
            };
        }
    }
}
