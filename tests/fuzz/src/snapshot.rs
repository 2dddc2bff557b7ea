//! Snapshots: loaded whole, entry by entry, or refused as what they are: damaged, and not a disk that fails.

use std::cell::RefCell;

use bytes::Bytes;
use pelton_core::id::{CommitId, CommitNumber, Epoch, Incarnation, TaskId};
use pelton_core::snapshot::{Manifest, StateMark};
use pelton_engine::store::{LocalStore, SnapshotReader, SnapshotWriter, StoreError};
use tempfile::TempDir;

use crate::{mutate, packing};

/// What one part holds at most.
const CHUNK_BYTES: usize = 370_000;
const CACHE_BYTES: usize = 1 << 20;

/// A part, or the contents of one or two.
pub fn snapshot(data: &[u8]) {
    thread_local! {
        static COPY: RefCell<(TempDir, LocalStore)> = RefCell::new(open());
    }
    COPY.with_borrow_mut(|(_, store)| check(store, data));
}

fn open() -> (TempDir, LocalStore) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.redb");
    let opened = LocalStore::open(&file, Incarnation([1; 16]), TaskId(0), CACHE_BYTES).unwrap();
    (folder, opened.store)
}

fn check(store: &mut LocalStore, data: &[u8]) {
    check_refused(store, vec![Bytes::copy_from_slice(data)], &manifest(1, 1, 1));
    if data.is_empty() || data.len() > CHUNK_BYTES {
        return;
    }
    let cut = mutate::places(data, 1).next().unwrap_or(0);
    let parts: Vec<Bytes> =
        [&data[..cut], &data[cut..]].iter().map(|contents| packing::part(contents).into()).collect();
    match entries(data) {
        Some(entries) if entries.windows(2).all(|pair| pair[0].0 < pair[1].0) && !entries[0].0.is_empty() => {
            let bytes = entries.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() as u64;
            let count = entries.len() as u64;
            let damaged = vec![parts[0].clone(), mutate::flipped(&parts[1], parts[1].len() - 1)];
            check_refused(store, damaged, &manifest(2, count, bytes));
            check_refused(store, parts[..1].to_vec(), &manifest(2, count, bytes));
            check_refused(store, parts.clone(), &manifest(2, count + 1, bytes));
            check_loaded(store, parts, &manifest(2, count, bytes), data);
        }
        Some(entries) => {
            let bytes = entries.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() as u64;
            check_refused(store, parts, &manifest(2, entries.len() as u64, bytes));
        }
        None => check_refused(store, parts, &manifest(2, 1, 1)),
    }
}

/// The entries that contents are, read apart from what loads them; none when they end in the midst of one.
fn entries(mut contents: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut entries = Vec::new();
    while !contents.is_empty() {
        let (key, rest) = contents.split_first_chunk()?;
        let (value, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key) as usize)?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value) as usize)?;
        entries.push((key, value));
        contents = rest;
    }
    Some(entries)
}

fn manifest(parts: u32, entries: u64, state_bytes: u64) -> Manifest {
    Manifest {
        id: CommitId([9; 16]),
        at: CommitNumber(5),
        at_id: CommitId([5; 16]),
        at_epoch: Epoch(1),
        last_step_id: CommitId([5; 16]),
        taken_ms: 0,
        floor: CommitNumber(5),
        parts,
        entries,
        state_bytes,
    }
}

fn mark() -> StateMark {
    StateMark { number: CommitNumber(5), id: CommitId([5; 16]), epoch: Epoch(1), ..StateMark::default() }
}

fn check_loaded(store: &mut LocalStore, parts: Vec<Bytes>, manifest: &Manifest, contents: &[u8]) {
    SnapshotReader::load(store, parts.into_iter(), manifest, mark()).expect("its entries are in order");
    assert_eq!(store.mark(), mark());
    let mut written = Vec::new();
    let totals = SnapshotWriter::write(&store.reader(), |part| {
        written.extend(zstd::bulk::decompress(&part[9..], CHUNK_BYTES).unwrap());
        true
    });
    let totals = totals.unwrap();
    assert_eq!(written, contents, "the copy has other entries");
    assert_eq!((totals.entries, totals.state_bytes), (manifest.entries, manifest.state_bytes));
    store.reset().unwrap();
}

fn check_refused(store: &mut LocalStore, parts: Vec<Bytes>, manifest: &Manifest) {
    match SnapshotReader::load(store, parts.into_iter(), manifest, mark()) {
        Err(StoreError::Snapshot(detail)) => assert!(!detail.is_empty()),
        other => panic!("a snapshot that is none is answered with {other:?}"),
    }
    assert_eq!(store.mark(), StateMark::default(), "what was refused is marked");
}
