use std::collections::BTreeMap;

use bytes::Bytes;
use pelton_core::id::{CommitId, CommitNumber, Epoch, Incarnation, TaskId};
use pelton_core::snapshot::{Manifest, StateMark};
use pelton_core::write_set::WriteSet;
use tempfile::TempDir;

use super::{LocalStore, SnapshotReader, SnapshotWriter, StoreError};

type State = BTreeMap<Bytes, Bytes>;

fn mark(number: u64) -> StateMark {
    StateMark {
        number: CommitNumber(number),
        id: CommitId([number as u8; 16]),
        epoch: Epoch(1),
        ..StateMark::default()
    }
}

fn open(folder: &TempDir, task: u16) -> super::Opened {
    LocalStore::open(&folder.path().join("state.redb"), Incarnation([1; 16]), TaskId(task), 1 << 20).unwrap()
}

fn writes(entries: &[(&str, Option<&str>)]) -> WriteSet {
    let owned = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    entries.iter().map(|(key, value)| (owned(key), value.map(owned))).collect()
}

fn all(store: &LocalStore) -> State {
    store.reader().scan(&[], &[u8::MAX], usize::MAX).unwrap().into_iter().collect()
}

/// Entries of many sizes, the largest over many parts, of bytes that do not compress.
fn large_state() -> State {
    let mut seed = 7u64;
    let mut noise = |length: usize| -> Bytes {
        let mut byte = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        };
        (0..length).map(|_| byte()).collect()
    };
    let sizes = [0, 1, 370_000 - 9, 370_000, 3_000_000].into_iter().chain((0..500).map(|size| size * 7));
    sizes.enumerate().map(|(index, size)| (Bytes::from(format!("\u{1}key{index:05}")), noise(size))).collect()
}

fn snapshot(store: &LocalStore) -> (Vec<Bytes>, Manifest) {
    let mut parts = Vec::new();
    let totals = SnapshotWriter::write(&store.reader(), |part| {
        parts.push(part);
        true
    });
    let totals = totals.unwrap();
    let manifest = Manifest {
        id: CommitId([9; 16]),
        at: CommitNumber(5),
        at_id: CommitId([5; 16]),
        at_epoch: Epoch(1),
        last_step_id: CommitId([5; 16]),
        taken_ms: 0,
        floor: CommitNumber(5),
        parts: parts.len() as u32,
        entries: totals.entries,
        state_bytes: totals.state_bytes,
    };
    (parts, manifest)
}

#[test]
fn writes_are_applied_before_between_and_behind_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder, 1).store;
    let mut expected = State::new();
    let rounds: [&[(&str, Option<&str>)]; 5] = [
        &[("c", Some("1")), ("b", None), ("e", Some("2"))],
        &[("a", Some("3")), ("c", Some("44")), ("d", Some("5")), ("e", None), ("f", Some("6")), ("g", None)],
        &[("f", Some("7")), ("h", Some("8")), ("i", Some("9"))],
        &[("a", None), ("c", None), ("d", None), ("f", None), ("h", None), ("i", None)],
        &[("z", Some("10"))],
    ];
    for (number, round) in (1..).zip(rounds) {
        let writes = writes(round);
        store.apply(&writes, mark(number)).unwrap();
        for (key, value) in writes.iter() {
            match value {
                Some(value) => drop(expected.insert(key.clone(), value.clone())),
                None => drop(expected.remove(key)),
            }
        }
        assert_eq!((all(&store), store.mark()), (expected.clone(), mark(number)));
    }
}

#[test]
fn writes_and_mark_are_there_after_a_flush_and_another_owner_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder, 1).store;
    store.apply(&writes(&[("\u{1}a", Some("1")), ("\u{1}b", Some("2"))]), mark(1)).unwrap();
    store.apply(&writes(&[("\u{1}a", None)]), mark(2)).unwrap();
    store.flusher().flush().unwrap();
    drop(store);
    let again = open(&folder, 1);
    assert_eq!((again.replaced, again.store.mark()), (None, mark(2)));
    assert_eq!(all(&again.store), State::from([("\u{1}b".into(), "2".into())]));
    drop(again.store);
    let other = open(&folder, 2);
    assert!(other.replaced.is_some_and(|why| why.contains("another job, task or format")));
    assert_eq!((other.store.mark(), all(&other.store)), (StateMark::default(), State::new()));
}

#[test]
fn a_snapshot_comes_back_whole() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut store = open(&folders[0], 1).store;
    let state = large_state();
    let entries = state.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    store.apply(&entries.collect(), mark(5)).unwrap();
    let (parts, manifest) = snapshot(&store);
    assert!(parts.len() > 8 && parts.iter().all(|part| part.len() <= pelton_core::limits::ITEM_PAYLOAD_BYTES_MAX));
    let mut copy = open(&folders[1], 1).store;
    SnapshotReader::load(&mut copy, parts.into_iter(), &manifest, mark(5)).unwrap();
    assert_eq!(copy.mark(), mark(5));
    assert!(all(&copy) == state, "the copy differs");
}

#[test]
fn a_damaged_snapshot_is_an_error_and_leaves_an_empty_copy() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut store = open(&folders[0], 1).store;
    let entries = large_state().into_iter().map(|(key, value)| (key, Some(value)));
    store.apply(&entries.collect(), mark(5)).unwrap();
    let (parts, manifest) = snapshot(&store);

    let mut flipped = parts.clone();
    let mut bytes = flipped[3].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    flipped[3] = bytes.into();
    let cut = parts[..parts.len() - 1].to_vec();
    for (damaged, words) in [(flipped, "part 3"), (cut, "where the manifest says")] {
        let mut copy = open(&folders[1], 1).store;
        let error = SnapshotReader::load(&mut copy, damaged.into_iter(), &manifest, mark(5)).unwrap_err();
        assert!(matches!(&error, StoreError::Snapshot(detail) if detail.contains(words)), "{error}");
        assert_eq!(copy.mark(), StateMark::default());
        copy.flusher().flush().unwrap();
        drop(copy);
        assert_eq!(all(&open(&folders[1], 1).store), State::new(), "what is not marked is empty");
    }
}
