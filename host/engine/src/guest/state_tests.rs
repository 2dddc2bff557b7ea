use std::sync::Arc;

use pelton_core::id::{Incarnation, TaskId};
use pelton_core::snapshot::StateMark;

use super::*;
use crate::store::LocalStore;

/// A write set from words: `key=value` puts, `key-` deletes.
fn layer(words: &str) -> WriteSet {
    let write = |word: &str| match word.split_once('=') {
        Some((key, value)) => (user_key(key.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes()))),
        None => (user_key(word.trim_end_matches('-').as_bytes()), None),
    };
    words.split_whitespace().map(write).collect()
}

/// A state whose layers are, from below: the local copy, the sealed set, the open set, the call's own.
fn state(local: &str, sealed: &str, open: &str, own: &str) -> LayeredState {
    let folder = tempfile::tempdir().unwrap();
    let mut store =
        LocalStore::open(&folder.path().join("state"), Incarnation::default(), TaskId(0), 1 << 20).unwrap().store;
    store.apply(&layer(local), StateMark::default()).unwrap();
    let view =
        View { over: None, open: Arc::new(layer(open)), sealed: Some(Arc::new(layer(sealed))), local: store.reader() };
    let mut state = LayeredState::default();
    state.begin(view, &GuestLimits::default(), false);
    state.layer = layer(own);
    state
}

/// A whole scan, page by page of so many entries, as words.
fn scanned(state: &LayeredState, start: &str, end: Option<&str>, direction: Direction, limit: u32) -> String {
    let (mut words, mut cursor) = (Vec::new(), None);
    loop {
        let end = end.map(str::as_bytes);
        let page = state.scan(start.as_bytes(), end, direction, limit, cursor.as_deref()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        words.extend(page.entries.iter().map(|(key, value)| format!("{}={}", text(key), text(value))));
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => return words.join(" "),
        }
    }
}

#[test]
fn the_uppermost_layer_that_knows_a_key_tells_its_value() {
    let state = state("a=local b=local c=local d=local", "b=sealed c=sealed d=sealed", "c=open d=open", "d- e=own");
    let keys: Vec<Vec<u8>> = ["a", "b", "c", "d", "e", "f"].iter().map(|key| key.as_bytes().to_vec()).collect();
    let values = state.get_many(keys.iter().map(Vec::as_slice)).unwrap();
    let values: Vec<_> = values.into_iter().map(|value| value.map(|value| String::from_utf8(value).unwrap())).collect();
    let values: Vec<_> = values.iter().map(Option::as_deref).collect();
    assert_eq!(values, [Some("local"), Some("sealed"), Some("open"), None, Some("own"), None]);
}

#[test]
fn scans_see_all_layers_both_ways_whatever_the_pages() {
    let state = state("a=1 b=1 c=1 d=1 e=1", "b=2 d- f=2", "c=3 e-", "a- e=4 g=4");
    for limit in [1, 2, 3, 100] {
        let scanned = |start, end, direction| scanned(&state, start, end, direction, limit);
        assert_eq!(scanned("", None, Direction::Forward), "b=2 c=3 e=4 f=2 g=4");
        assert_eq!(scanned("", None, Direction::Back), "g=4 f=2 e=4 c=3 b=2");
        assert_eq!(scanned("c", Some("g"), Direction::Forward), "c=3 e=4 f=2");
        assert_eq!(scanned("c", Some("g"), Direction::Back), "f=2 e=4 c=3");
        assert_eq!(scanned("x", Some("c"), Direction::Forward), "");
    }
}

#[test]
fn a_refused_write_changes_nothing() {
    let mut state = state("", "", "", "");
    let put = |key: &[u8], value: usize| Write { key: key.to_vec(), value: Some(vec![0; value]) };
    let long = vec![b'k'; KEY_BYTES_MAX + 1];
    for (bad, expected) in [
        (put(b"", 1), Error::KeySize(0)),
        (put(&long, 1), Error::KeySize(long.len() as u64)),
        (put(b"b", VALUE_BYTES_MAX + 1), Error::ValueSize(VALUE_BYTES_MAX as u64 + 1)),
    ] {
        let error = state.write(vec![put(b"a", 1), bad]).unwrap_err();
        assert_eq!(format!("{error:?}"), format!("{expected:?}"));
        assert!(state.layer.is_empty());
    }
    state.write(vec![put(&long[1..], VALUE_BYTES_MAX)]).unwrap();
    let full = (0..8).map(|key: u8| put(&[key], VALUE_BYTES_MAX)).collect();
    assert!(matches!(state.write(full).unwrap_err(), Error::BatchFull(_)));
}
