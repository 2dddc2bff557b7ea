//! Commits: read as they were written, or refused. What is read is written as the same bytes, so nothing in them was dropped.

use bytes::Bytes;
use pelton_core::codec::{self, Placement};
use pelton_core::write_set::SYSTEM_SPACE;

use crate::{entry, mutate, packing};

/// Longest body that is tried: what matters is not how long it is.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The head of a commit, the body of one, or an entry of the system state: one byte for the length of the key, the key, the value.
pub fn commit(data: &[u8]) {
    let head = Bytes::copy_from_slice(data);
    if let Ok(Placement::Staged(count)) = codec::placement(&head) {
        // Who reads a commit asks for every part.
        assert!(count > 0 && count < 1_000, "{count} parts are asked for");
    }
    // That it may be refused is all that can be said of a head that stands alone.
    let _ = codec::decode(&head, &[]);
    let _ = codec::decode(&head, std::slice::from_ref(&head));
    if data.len() <= BODY_BYTES_MAX {
        check_body(data);
    }
    if let Some((length, rest)) = data.split_first()
        && let Some((key, value)) = rest.split_at_checked(usize::from(*length))
    {
        entry::check(key, &Bytes::copy_from_slice(value));
    }
}

fn check_body(body: &[u8]) {
    let head = Bytes::from(packing::inline_head(body));
    let read = codec::decode(&head, &[]);
    let (staged, parts) = packing::staged_head(body, 3);
    let staged = Bytes::from(staged);
    assert_eq!(codec::decode(&staged, &parts), read, "in parts it is another commit");
    let Ok(commit) = read else { return };
    let stored = codec::encode(&commit);
    assert_eq!(packing::body(&stored.head, &stored.parts), body, "{commit:?} is written otherwise");
    assert_eq!((stored.number, stored.id, stored.kind), (commit.number, commit.id, commit.kind));
    for (key, value) in commit.writes.iter() {
        if let (Some(&SYSTEM_SPACE), Some(value)) = (key.first(), value) {
            entry::check(key, value);
        }
    }
    for at in mutate::places(&head, 8) {
        assert!(codec::decode(&mutate::flipped(&head, at), &[]).is_err(), "byte {at} of the head changed");
        assert!(codec::decode(&head.slice(..at), &[]).is_err(), "the head cut to {at} bytes");
    }
    for at in mutate::places(&staged, 8) {
        assert!(codec::decode(&mutate::flipped(&staged, at), &parts).is_err(), "byte {at} of a staged head changed");
    }
    assert!(codec::decode(&staged, &parts[1..]).is_err(), "a part is missing");
}
