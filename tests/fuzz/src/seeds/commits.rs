//! Commits as the bodies and heads they are stored as, and entries of the system state.

use bytes::Bytes;
use pelton_core::codec::{self, SystemEntry};
use pelton_core::commit::{Commit, CommitKind, Invocation, InvocationKind, InvokedRun};
use pelton_core::counts::Counts;
use pelton_core::dead_letter::{Content, DeadLetter, ForgottenLetter, LetterCause, Timer};
use pelton_core::id::{CommitId, CommitNumber, DeploymentNumber, Epoch, Incarnation, ShardKey, StreamIndex, TaskId};
use pelton_core::output::{Output, OutputId};
use pelton_core::policy::Oddity;
use pelton_core::position::{Position, PositionEntry, RecordPlace, WHOLE};
use pelton_core::record::Record;
use pelton_core::repeats::{Indexes, Mark, Upstream};
use pelton_core::sequence::SequenceNumber;
use pelton_core::slice::{HashKey, HashRange};
use pelton_core::task::{Attempts, FoldedBefore, Item, PinnedFrom, Pins, Refold, RefoldedOutputs};
use pelton_core::write_set::user_key;

use crate::entry::stored;
use crate::packing;

fn shard() -> ShardKey {
    ShardKey { stream: StreamIndex(1), shard: "shardId-000000000007".into() }
}

fn place() -> RecordPlace {
    RecordPlace { sequence: SequenceNumber([1, 2, 3]), sub_sequence: WHOLE }
}

fn timer() -> Timer {
    Timer { due_ms: 15, name: "t\u{fc}".into() }
}

fn letter(cause: LetterCause, content: Content) -> SystemEntry {
    SystemEntry::DeadLetter(9, 0, Box::new(of_now(cause, content)))
}

fn of_now(cause: LetterCause, content: Content) -> DeadLetter {
    DeadLetter { cause, message: "why".into(), attempts: 7, at_ms: 8, content, folded_before: None }
}

fn forgotten(item: Item, folded_before: Option<FoldedBefore>) -> SystemEntry {
    SystemEntry::ForgottenLetter(10, Box::new(ForgottenLetter { item, folded_before, number: CommitNumber(11) }))
}

fn system() -> Vec<(&'static str, SystemEntry)> {
    let id = OutputId {
        incarnation: Incarnation([1; 16]),
        task: TaskId(2),
        commit: CommitNumber(3),
        index: 4,
        rewind: None,
    };
    let output = Some(Box::new(id));
    let record = Record { place: place(), arrived_ms: 5, partition_key: "key".into(), data: "data".into(), output };
    let plain = Record { output: None, ..record.clone() };
    let entry = |position| PositionEntry { position, unread_from_ms: 7, range: HashRange::ALL };
    let gap = Content::Gap { shard: shard(), from: Position::After(place()), to: Position::AtTimestamp(6) };
    let dropped = Oddity::ALL.into_iter().zip(1..).collect();
    let counts =
        Counts { folded: 1, malformed: 2, dropped, dead_letters: 3, dead_records: 4, redriven: 5, timers_fired: 6 };
    let emitted = |data: &str| Output {
        output: "out".into(),
        partition_key: "k".into(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        rewind: (!data.is_empty()).then_some(CommitNumber(8)),
    };
    let pin = |number| PinnedFrom {
        revision: 2,
        deployment: DeploymentNumber(3),
        number: CommitNumber(number),
        sealed_ms: 4,
        previous_id: CommitId([5; 16]),
        unread_from_ms: 6,
    };
    let unfolded = [Item::Record(shard(), place()), Item::Timer(timer())].into();
    let positions = [(shard(), Position::After(place()))].into();
    let folded_before = Some(FoldedBefore { rewind: CommitNumber(7), outputs: RefoldedOutputs::Again, clock_ms: 8 });
    let brought_back = DeadLetter { folded_before, ..of_now(LetterCause::Failed, Content::Timer(timer())) };
    let refold = Refold { rewind: CommitNumber(7), outputs: RefoldedOutputs::Again, clock_ms: 8, positions, unfolded };
    let upstream = Upstream { stream: StreamIndex(1), incarnation: Incarnation([11; 16]), task: TaskId(12) };
    let indexes = Indexes::new(vec![0..=0, 2..=5, 1_000..=u32::MAX]).unwrap();
    let mark = Mark { end: HashKey(1 << 100), commit: CommitNumber(14), indexes };
    let attempts = |suspect| SystemEntry::Attempts(Attempts { suspect, attempts: 10, message: "why".into() });
    vec![
        ("position-after", SystemEntry::Position(shard(), entry(Position::After(place())))),
        ("position-start", SystemEntry::Position(shard(), entry(Position::TrimHorizon))),
        ("position-time", SystemEntry::Position(shard(), entry(Position::AtTimestamp(5)))),
        ("position-end", SystemEntry::Position(shard(), entry(Position::ShardEnd))),
        ("outbox", SystemEntry::Outbox(CommitNumber(9), vec![emitted("1"), emitted("")])),
        ("clock", SystemEntry::Clock(7)),
        ("counts", SystemEntry::Counts(counts)),
        ("letter-record", letter(LetterCause::Odd(Oddity::Stray), Content::Record(shard(), record))),
        ("letter-poison", letter(LetterCause::Poison, Content::Record(shard(), plain))),
        ("letter-gap", letter(LetterCause::Gap, gap)),
        ("letter-timer", letter(LetterCause::Failed, Content::Timer(timer()))),
        ("letter-brought-back", SystemEntry::DeadLetter(9, 0, Box::new(brought_back))),
        ("forgotten-record", forgotten(Item::Record(shard(), place()), folded_before)),
        ("forgotten-timer", forgotten(Item::Timer(timer()), None)),
        ("attempts-record", attempts(Item::Record(shard(), place()))),
        ("attempts-timer", attempts(Item::Timer(timer()))),
        ("timer", SystemEntry::Timer(timer())),
        ("pins", SystemEntry::Pins(Pins { kept: vec![pin(1), pin(9)], forgotten: 1 })),
        ("refold", SystemEntry::Refold(refold)),
        ("seen", SystemEntry::Seen(upstream, HashKey(15), mark)),
    ]
}

/// As the target takes them: one byte for the length of the key, the key, the value.
pub fn entries() -> Vec<(&'static str, Vec<u8>)> {
    let framed = |key: &[u8], value: &[u8]| [&[key.len() as u8][..], key, value].concat();
    let mut entries: Vec<(&str, Vec<u8>)> = Vec::new();
    for (name, entry) in system() {
        let (key, value) = stored(&entry);
        entries.push((name, framed(&key, &value)));
    }
    let (key, value) = stored(&SystemEntry::Timer(timer()));
    entries.push(("timer-cut", framed(&key, &value[1..])));
    entries.push(("key-of-a-later-version", framed(&[0, b'x'], b"")));
    entries
}

fn commit(kind: CommitKind) -> Commit {
    let up_to = Position::After(place());
    let run = InvokedRun { shard: shard(), after: Position::AtTimestamp(5), up_to, records: 6 };
    let kinds = [
        InvocationKind::Records,
        InvocationKind::SetAside(None),
        InvocationKind::SetAside(Some(timer())),
        InvocationKind::Timers(vec![timer(), timer()]),
        InvocationKind::Redrive(16),
    ];
    let invocation =
        |kind| Invocation { time_ms: 13, failed_attempts: 14, born: true, kind, runs: vec![run.clone(), run.clone()] };
    let (invocations, writes) = match kind {
        CommitKind::Fence => (Vec::new(), Vec::new()),
        CommitKind::Rewind(_) => (Vec::new(), writes()),
        CommitKind::Step => (kinds.into_iter().map(invocation).collect(), writes()),
    };
    Commit {
        number: CommitNumber(8),
        id: CommitId([9; 16]),
        previous_id: CommitId([10; 16]),
        epoch: Epoch(11),
        deployment: DeploymentNumber(12),
        kind,
        born: CommitNumber(7),
        invocations,
        writes: std::sync::Arc::new(writes.into_iter().collect()),
    }
}

fn writes() -> Vec<(Bytes, Option<Bytes>)> {
    let mut writes: Vec<_> = system().iter().map(|(_, entry)| stored(entry)).collect();
    writes.push((user_key(b"kept"), "value".into()));
    writes.push((user_key(b"empty"), Bytes::new()));
    let gone = (user_key(b"gone"), None);
    writes.into_iter().map(|(key, value)| (key, Some(value))).chain([gone]).collect()
}

pub fn commits() -> Vec<(&'static str, Vec<u8>)> {
    let stored = |kind| codec::encode(&commit(kind));
    let (fence, step) = (stored(CommitKind::Fence), stored(CommitKind::Step));
    let rewind = stored(CommitKind::Rewind(CommitNumber(3)));
    let (fence_body, step_body) = (packing::body(&fence.head, &[]), packing::body(&step.head, &[]));
    let mut format = fence.head.to_vec();
    format[4] = 2;
    let mut many_parts = packing::staged_head(&fence_body, 2).0;
    many_parts[17] = 0x80;
    // The last write again, and one without its key: field 9 holds a message with key `\x01twice`, or with no field at all.
    let twice = [&fence_body[..], &b"\x4a\x08\x0a\x06\x01twice"[..10].repeat(2)].concat();
    vec![
        ("fence.head", fence.head.to_vec()),
        ("step.head", step.head.to_vec()),
        ("rewind.head", rewind.head.to_vec()),
        ("staged.head", packing::staged_head(&step_body, 2).0),
        ("many-parts.head", many_parts),
        ("newer-format.head", format),
        ("fence.body", fence_body.clone()),
        ("step.body", step_body),
        ("key-twice.body", twice),
        ("no-key.body", [&fence_body[..], b"\x4a\x00"].concat()),
        ("empty-key.body", [&fence_body[..], b"\x4a\x02\x0a\x00"].concat()),
        // Field 15, a number; then an invocation of records with the number of a letter, and one whose attempts have 33 bits.
        ("unknown-field.body", [&fence_body[..], b"\x78\x01"].concat()),
        ("letter-of-records.body", [&fence_body[..], b"\x42\x02\x38\x10"].concat()),
        ("number-too-wide.body", [&fence_body[..], b"\x42\x06\x10\x81\x80\x80\x80\x1f"].concat()),
    ]
}
