//! What is stored comes back as it was, or not at all.

use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::commit::{Commit, CommitKind, Invocation, InvocationKind, InvokedRun, StoredCommit};
use crate::counts::Counts;
use crate::dead_letter::{Content, DeadLetter, LetterCause, Timer};
use crate::id::{CommitId, CommitNumber, DeploymentNumber, Epoch, Incarnation, ShardId, ShardKey, StreamIndex, TaskId};
use crate::limits::ITEM_PAYLOAD_BYTES_MAX;
use crate::output::{Output, OutputId};
use crate::policy::Oddity;
use crate::position::{Position, PositionEntry, RecordPlace};
use crate::record::Record;
use crate::repeats::{Indexes, Mark, Upstream};
use crate::sequence::SequenceNumber;
use crate::slice::{HashKey, HashRange};
use crate::task::{Attempts, Item};
use crate::write_set::user_key;

fn shard() -> ShardKey {
    ShardKey { stream: StreamIndex(3), shard: ShardId::from("shardId-000000000007") }
}

fn after() -> Position {
    Position::After(RecordPlace { sequence: SequenceNumber([1, 2, 3]), sub_sequence: 4 })
}

fn commit(value: Vec<u8>) -> Commit {
    let run = InvokedRun { shard: shard(), after: Position::AtTimestamp(5), up_to: after(), records: 6 };
    let entry = PositionEntry { position: after(), unread_from_ms: 7, range: HashRange::ALL };
    let timer = Timer { due_ms: 15, name: "t".into() };
    let kinds = [
        InvocationKind::Records,
        InvocationKind::SetAside(None),
        InvocationKind::SetAside(Some(timer.clone())),
        InvocationKind::Timers(vec![timer.clone(), timer]),
        InvocationKind::Redrive(16),
    ];
    let invocation = |kind| Invocation { time_ms: 13, failed_attempts: 14, born: true, kind, runs: vec![run.clone()] };
    let writes = [
        (user_key(b"kept"), Some(Bytes::from(value))),
        (user_key(b"gone"), None),
        (user_key(b"empty"), Some(Bytes::new())),
        (position_key(&shard()), Some(encode_position(&entry))),
    ];
    Commit {
        number: CommitNumber(8),
        id: CommitId([9; 16]),
        previous_id: CommitId([10; 16]),
        epoch: Epoch(11),
        deployment: DeploymentNumber(12),
        kind: CommitKind::Step,
        born: CommitNumber(7),
        invocations: kinds.into_iter().map(invocation).collect(),
        writes: std::sync::Arc::new(writes.into_iter().collect()),
    }
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn flipped(bytes: &Bytes, at: usize, bit: u8) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << bit;
    bytes.into()
}

#[test]
fn a_commit_comes_back_as_it_was() {
    for (bytes, parts) in [(10, 0), (ITEM_PAYLOAD_BYTES_MAX, 2), (2 * ITEM_PAYLOAD_BYTES_MAX, 3)] {
        let commit = commit(noise(bytes));
        let StoredCommit { head, parts: stored, .. } = encode(&commit);
        assert_eq!(stored.len(), parts, "{bytes} bytes");
        assert!(stored.iter().chain([&head]).all(|item| item.len() <= ITEM_PAYLOAD_BYTES_MAX));
        assert_eq!(decode(&head, &stored), Ok(commit));
    }
}

#[test]
fn no_flipped_bit_goes_unseen() {
    let commit = commit(b"value".to_vec());
    let head = encode(&commit).head;
    for (at, bit) in (0..head.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        assert!(decode(&flipped(&head, at, bit), &[]).is_err(), "bit {bit} of byte {at}");
    }
    for length in 0..head.len() {
        assert!(decode(&head.slice(..length), &[]).is_err(), "cut to {length} bytes");
    }
}

#[test]
fn staged_parts_are_all_there_in_order_or_it_is_an_error() {
    let StoredCommit { head, parts, .. } = encode(&commit(noise(2 * ITEM_PAYLOAD_BYTES_MAX)));
    for bit in 0..8 {
        for at in 0..head.len() {
            assert!(decode(&flipped(&head, at, bit), &parts).is_err(), "bit {bit} of byte {at} of the head");
        }
    }
    let swapped = vec![parts[1].clone(), parts[0].clone(), parts[2].clone()];
    let damaged = vec![parts[0].clone(), flipped(&parts[1], 1_000, 3), parts[2].clone()];
    for wrong in [&parts[..2], &[], &swapped, &damaged] {
        assert!(decode(&head, wrong).is_err());
    }
}

#[test]
fn what_this_version_does_not_know_is_an_error() {
    let entry = PositionEntry { position: after(), unread_from_ms: 7, range: HashRange::ALL };
    let known = encode_position(&entry);
    assert_eq!(decode_system(&position_key(&shard()), known.clone()), Ok(SystemEntry::Position(shard(), entry)));
    // Field 15, a number: what a later version might add.
    let unknown: Bytes = [known.as_ref(), &[15 << 3, 1]].concat().into();
    assert!(decode_system(&position_key(&shard()), unknown).is_err());
    let kind = wire::PositionEntry {
        position: Some(wire::Position { kind: 4, ..Default::default() }),
        range_start: vec![0; 16],
        range_end: vec![0; 16],
        ..Default::default()
    };
    assert!(decode_system(&position_key(&shard()), kind.encode_to_vec().into()).is_err());
    for key in [&[0u8][..], &[0, b'x'], &[0, b'p', 1], &[0, b'o', 1], &[0, b'c', 1], &[1, b'p', 0, 0]] {
        assert!(decode_system(key, Bytes::new()).is_err(), "{key:?}");
    }
}

#[test]
fn outboxes_stand_in_the_order_of_their_commits() {
    let output = Output { output: "out".into(), partition_key: "k".into(), data: "d".into(), rewind: None };
    let keys = [1, 9, 10, 255, 256, u64::MAX].map(|number| outbox_key(CommitNumber(number)));
    assert!(keys.is_sorted());
    let expected = Ok(SystemEntry::Outbox(CommitNumber(9), vec![output.clone()]));
    assert_eq!(decode_system(&keys[1], encode_outputs(&[output])), expected);
    assert_eq!(decode_system(&clock_key(), encode_clock(7)), Ok(SystemEntry::Clock(7)));
}

#[test]
fn what_is_set_aside_counted_and_awaited_comes_back_as_it_was() {
    let id = OutputId {
        incarnation: Incarnation([1; 16]),
        task: TaskId(2),
        commit: CommitNumber(3),
        index: 4,
        rewind: None,
    };
    let place = RecordPlace { sequence: SequenceNumber([1, 2, 3]), sub_sequence: 4 };
    let (partition_key, data) = ("key".to_owned(), Bytes::from("data"));
    let record = Record { place, arrived_ms: 5, partition_key, data, output: Some(Box::new(id)) };
    let timer = Timer { due_ms: 6, name: "t\u{fc}".into() };
    let contents = [
        (LetterCause::Odd(Oddity::Stray), Content::Record(shard(), record)),
        (LetterCause::Gap, Content::Gap { shard: shard(), from: after(), to: Position::ShardEnd }),
        (LetterCause::Failed, Content::Timer(timer.clone())),
        (LetterCause::Poison, Content::Timer(timer.clone())),
    ];
    let mut entries = Vec::new();
    for (cause, content) in contents {
        let letter = DeadLetter { cause, message: "why".into(), attempts: 7, at_ms: 8, content, folded_before: None };
        let value = encode_dead_letter(&letter);
        let entry = SystemEntry::DeadLetter(9, value.len() as u64, Box::new(letter));
        entries.push((dead_letter_key(9), value, entry));
    }
    for suspect in [Item::Record(shard(), place), Item::Timer(timer.clone())] {
        let attempts = Attempts { suspect, attempts: 10, message: "why".into() };
        entries.push((attempts_key(), encode_attempts(&attempts), SystemEntry::Attempts(attempts)));
    }
    let dropped = Oddity::ALL.into_iter().zip(1..).collect();
    let counts =
        Counts { folded: 1, malformed: 2, dropped, dead_letters: 3, dead_records: 4, redriven: 5, timers_fired: 6 };
    entries.push((counts_key(), encode_counts(&counts), SystemEntry::Counts(counts)));
    entries.push((timer_key(&timer.name), encode_timer(timer.due_ms), SystemEntry::Timer(timer)));
    let upstream = Upstream { stream: StreamIndex(1), incarnation: Incarnation([11; 16]), task: TaskId(12) };
    let indexes = Indexes::new(vec![0..=0, 2..=5]).unwrap();
    let mark = Mark { end: HashKey(13), commit: CommitNumber(14), indexes };
    let start = HashKey(12);
    entries.push((seen_key(&upstream, start), encode_seen(&mark), SystemEntry::Seen(upstream, start, mark)));
    for (key, value, entry) in entries {
        assert_eq!(decode_system(&key, value.clone()), Ok(entry.clone()));
        let unknown: Bytes = [value.as_ref(), &[15 << 3, 1]].concat().into();
        assert!(decode_system(&key, unknown).is_err(), "{entry:?}");
    }
    assert!(Indexes::new(vec![0..=1, 2..=3]).is_none() && Indexes::new(vec![4..=5, 0..=1]).is_none());
}
