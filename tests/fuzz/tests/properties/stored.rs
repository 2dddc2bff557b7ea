//! Commits and system state come back as they were, or not at all.

use bytes::Bytes;
use pelton_core::codec::{self, Placement, SystemEntry};
use pelton_core::commit::{Commit, StoredCommit};
use pelton_core::limits::ITEM_PAYLOAD_BYTES_MAX;
use pelton_core::write_set::user_key;
use pelton_fuzz::mutate::Rng;
use pelton_fuzz::{entry, packing};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::arbitrary::{commit, system_entry};
use crate::check;

/// What may happen to stored bytes.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Overwrite(Index, Vec<u8>),
    Append(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let some = || proptest::collection::vec(any::<u8>(), 1..8);
    prop_oneof![
        (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), some()).prop_map(|(at, bytes)| Damage::Overwrite(at, bytes)),
        some().prop_map(Damage::Append),
    ]
}

/// The same bytes with the damage, as far as they are long enough for it.
fn damaged(bytes: &Bytes, damage: &Damage) -> Bytes {
    let mut damaged = bytes.to_vec();
    match damage {
        Damage::Append(more) => damaged.extend_from_slice(more),
        Damage::Flip(..) | Damage::Cut(_) | Damage::Overwrite(..) if bytes.is_empty() => {}
        Damage::Flip(at, bit) => damaged[at.index(bytes.len())] ^= 1 << bit,
        Damage::Cut(at) => damaged.truncate(at.index(bytes.len())),
        Damage::Overwrite(at, with) => {
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + with.len());
            damaged[at..end].copy_from_slice(&with[..end - at]);
        }
    }
    damaged.into()
}

/// Fields that no message has: a number, 8 bytes, bytes, 4 bytes.
fn unknown_field() -> impl Strategy<Value = Vec<u8>> {
    let field = |kind: u8, contents: Vec<u8>| {
        (20..2_000u16).prop_map(move |number| {
            let key = number << 3 | u16::from(kind);
            [&[key as u8 | 0x80, (key >> 7) as u8][..], &contents].concat()
        })
    };
    prop_oneof![
        field(0, vec![0]),
        field(1, vec![7; 8]),
        field(2, vec![0]),
        field(2, vec![2, 1, 1]),
        field(5, vec![7; 4])
    ]
}

#[test]
fn a_commit_comes_back_as_it_was_and_damaged_never_as_another() {
    check(3_000, (commit(), damage()), |(commit, damage)| {
        let StoredCommit { head, parts, .. } = codec::encode(&commit);
        assert_eq!((codec::placement(&head), parts.len()), (Ok(Placement::Inline), 0));
        let wrong = damaged(&head, &damage);
        if wrong != head {
            assert!(codec::decode(&wrong, &[]).is_err(), "{damage:?} goes unseen");
        }
        assert_eq!(codec::decode(&head, &[]), Ok(commit));
    });
}

/// With one more value of so many bytes that hardly compress.
fn enlarged(mut commit: Commit, bytes: usize, seed: u64) -> Commit {
    let mut rng = Rng::new(seed);
    let noise: Vec<u8> = (0..bytes).map(|_| rng.draw() as u8).collect();
    std::sync::Arc::make_mut(&mut commit.writes).insert(user_key(b"large"), Some(noise.into()));
    commit
}

#[test]
fn a_staged_commit_needs_all_its_parts_in_order() {
    let bytes = ITEM_PAYLOAD_BYTES_MAX..4 * ITEM_PAYLOAD_BYTES_MAX;
    check(40, (commit(), bytes, any::<u64>(), any::<Index>(), damage()), |(commit, bytes, seed, which, damage)| {
        let commit = enlarged(commit, bytes, seed);
        let StoredCommit { head, parts, .. } = codec::encode(&commit);
        assert!(parts.len() >= 2 && parts.iter().chain([&head]).all(|item| item.len() <= ITEM_PAYLOAD_BYTES_MAX));
        let which = which.index(parts.len());
        let with = |part: Option<Bytes>| {
            let mut parts = parts.clone();
            match part {
                Some(part) => parts[which] = part,
                None => drop(parts.remove(which)),
            }
            codec::decode(&head, &parts)
        };
        let wrong = damaged(&parts[which], &damage);
        if wrong != parts[which] {
            assert!(with(Some(wrong)).is_err(), "{damage:?} of part {which} goes unseen");
        }
        assert!(with(None).is_err(), "part {which} is missing");
        let other = (which + 1) % parts.len();
        assert!(with(Some(parts[other].clone())).is_err(), "part {other} stands in place of part {which}");
        let wrong = damaged(&head, &damage);
        if wrong != head {
            assert!(codec::decode(&wrong, &parts).is_err(), "{damage:?} of the head goes unseen");
        }
        assert!(codec::decode(&head, &parts) == Ok(commit), "it comes back otherwise");
    });
}

#[test]
fn a_field_that_is_not_known_is_an_error() {
    check(1_000, (commit(), unknown_field()), |(commit, field)| {
        let body = packing::body(&codec::encode(&commit).head, &[]);
        assert_eq!(codec::decode(&packing::inline_head(&body).into(), &[]), Ok(commit));
        let body = [body, field].concat();
        assert!(codec::decode(&packing::inline_head(&body).into(), &[]).is_err());
    });
    check(2_000, (system_entry(), unknown_field()), |(entry, field)| {
        let (key, value) = entry::stored(&entry);
        let value: Bytes = [&value[..], &field].concat().into();
        assert!(codec::decode_system(&key, value).is_err());
    });
}

#[test]
fn an_entry_of_the_system_state_comes_back_as_it_was() {
    check(5_000, (system_entry(), damage()), |(mut entry, damage)| {
        let (key, value) = entry::stored(&entry);
        if let SystemEntry::DeadLetter(_, bytes, _) = &mut entry {
            *bytes = value.len() as u64;
        }
        assert_eq!(codec::decode_system(&key, value.clone()), Ok(entry));
        // Nothing guards a single entry but the commit it came in: it may be another one, but never one that loses something.
        entry::check(&damaged(&key, &damage), &value);
        entry::check(&key, &damaged(&value, &damage));
    });
}
