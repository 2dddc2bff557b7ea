//! The local copy of a task's state on the threads where files may block: opened, emptied, loaded from a snapshot, and read
//! into one.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use pelton_core::cause::StopCause;
use pelton_core::snapshot::{Manifest, StateMark};
use pelton_core::task::{Event, NewSnapshot};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::cell::{TaskCell, lock};
use crate::events::Happening;
use crate::fault::{self, FaultPoint};
use crate::log::PARTS_AT_ONCE;
use crate::mailbox::Message;
use crate::service::persist;
use crate::store::{LocalStore, SnapshotReader, SnapshotWriter, StateReader, StoreError};

/// Bytes of redb's page cache for a task.
pub(crate) const PAGE_CACHE_BYTES: usize = 1024 * 1024;
/// Parts of a snapshot read ahead or waiting to be stored.
const PARTS_AHEAD: usize = 4;

impl TaskCell {
    pub(crate) fn store_failed(&self, error: &StoreError) {
        self.tell(Event::Broken(StopCause::Store(error.to_string())));
    }

    pub(crate) fn open_local(self: Arc<Self>) {
        // A crash amid a rewind left it.
        let _ = std::fs::remove_file(self.rewind_path());
        let opened = LocalStore::open(self.store_path(), self.spec().meta.incarnation, self.id, PAGE_CACHE_BYTES);
        match opened {
            Ok(opened) => {
                if let Some(why) = opened.replaced {
                    tracing::warn!(
                        "task {} of job {}: {why}; its state is rebuilt from the changelog",
                        self.id,
                        self.spec().meta.name
                    );
                }
                let mark = opened.store.mark();
                self.send(Message::Store(Box::new(opened.store), Event::LocalOpened(mark)));
            }
            Err(error) => self.store_failed(&error),
        }
    }

    pub(crate) fn reset_local(self: Arc<Self>, mut store: Box<LocalStore>) {
        tracing::warn!(
            "task {} of job {}: the local state is not of this changelog; it is rebuilt",
            self.id,
            self.spec().meta.name
        );
        match store.reset() {
            Ok(()) => self.send(Message::Store(store, Event::LocalReset)),
            Err(error) => self.store_failed(&error),
        }
    }

    pub(crate) fn load_snapshot(self: Arc<Self>, runtime: &Handle, mut store: Box<LocalStore>, manifest: &Manifest) {
        let outcome = match self.load_into(runtime, &mut store, manifest) {
            Ok(outcome) => outcome,
            Err(error) => return self.store_failed(&error),
        };
        if outcome.is_ok() {
            let Manifest { at, entries, state_bytes, .. } = *manifest;
            self.tell_of(Happening::SnapshotLoaded { task: self.id, at, entries, state_bytes });
        }
        self.send(Message::Store(store, Event::SnapshotLoaded(outcome)));
    }

    /// Loads a snapshot part by part: a part is decoded while the next are on their way. What is wrong with it is no error.
    pub(crate) fn load_into(
        self: &Arc<Self>,
        runtime: &Handle,
        store: &mut LocalStore,
        manifest: &Manifest,
    ) -> Result<Result<(), String>, StoreError> {
        let (parts, mut arriving) = mpsc::channel::<Option<Bytes>>(PARTS_AHEAD);
        let (cell, wanted) = (self.clone(), manifest.clone());
        runtime.spawn(async move {
            let changelog = cell.changelog();
            let read = |index| {
                let cell = &cell;
                async move { persist!(cell, changelog.read_part(cell.id, wanted.at, wanted.id, index)) }
            };
            let mut reads = futures::stream::iter((0..wanted.parts).map(read)).buffered(PARTS_AT_ONCE);
            while let Some(Some(part)) = reads.next().await {
                if parts.send(part).await.is_err() {
                    return;
                }
            }
        });
        let mut missing = None;
        let mut index = 0;
        let source = std::iter::from_fn(|| match arriving.blocking_recv()? {
            Some(part) => {
                index += 1;
                Some(part)
            }
            None => {
                missing = Some(index);
                None
            }
        });
        let mark = StateMark {
            number: manifest.at,
            id: manifest.at_id,
            epoch: manifest.at_epoch,
            last_step_id: manifest.last_step_id,
            log_bytes: 0,
        };
        let loaded = SnapshotReader::load(store, source, manifest, mark);
        match (missing, loaded) {
            (Some(index), _) => Ok(Err(format!("part {index} of {} is missing", manifest.parts))),
            (None, Ok(())) => Ok(Ok(())),
            (None, Err(StoreError::Snapshot(detail))) => Ok(Err(detail)),
            (None, Err(error)) => Err(error),
        }
    }

    /// Stores what a reader sees as a snapshot: all parts, then the manifest.
    pub(crate) async fn snapshot(self: Arc<Self>, reader: StateReader, snapshot: NewSnapshot) {
        let NewSnapshot { mark, id, taken_ms, floor } = snapshot;
        let _turn = self.snapshot_turn().await;
        let (parts, mut made) = mpsc::channel::<Bytes>(PARTS_AHEAD);
        let writer = tokio::task::spawn_blocking(move || {
            SnapshotWriter::write(&reader, |part| parts.blocking_send(part).is_ok())
        });
        let mut count = 0;
        while let Some(part) = made.recv().await {
            let changelog = self.changelog();
            if persist!(self, changelog.put_part(self.id, mark.number, id, count, part.clone())).is_none() {
                return;
            }
            count += 1;
        }
        let totals = match writer.await {
            Ok(Ok(totals)) => totals,
            Ok(Err(error)) => return self.store_failed(&error),
            Err(error) => return self.store_failed(&StoreError::Snapshot(error.to_string())),
        };
        let manifest = Manifest {
            id,
            at: mark.number,
            at_id: mark.id,
            at_epoch: mark.epoch,
            last_step_id: mark.last_step_id,
            taken_ms,
            floor,
            parts: count,
            entries: totals.entries,
            state_bytes: totals.state_bytes,
        };
        fault::pass(FaultPoint::BeforeManifest);
        let changelog = self.changelog();
        if persist!(self, changelog.put_manifest(self.id, &manifest)).is_some() {
            tracing::debug!("task {}: snapshot at commit {} in {count} parts", self.id, mark.number);
            lock(&self.tally).snapshots += 1;
            let Manifest { at, entries, state_bytes, .. } = manifest;
            self.tell_of(Happening::SnapshotTaken { task: self.id, at, entries, state_bytes });
            self.tell(Event::SnapshotTaken(Some(manifest)));
        }
    }
}
