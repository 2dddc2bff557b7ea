//! Values of every shape that core's types have.

use std::collections::BTreeMap;

use bytes::Bytes;
use pelton_core::codec::SystemEntry;
use pelton_core::commit::{Commit, CommitKind, Invocation, InvocationKind, InvokedRun};
use pelton_core::counts::Counts;
use pelton_core::dead_letter::{Content, DeadLetter, ForgottenLetter, LetterCause, Timer};
use pelton_core::id::{CommitId, CommitNumber, DeploymentNumber, Epoch, Incarnation, ShardKey, StreamIndex, TaskId};
use pelton_core::output::{Output, OutputId};
use pelton_core::policy::{Aggregates, Oddity, OutOfRange, Policies};
use pelton_core::position::{Position, PositionEntry, RecordPlace, WHOLE};
use pelton_core::record::Record;
use pelton_core::repeats::{Indexes, Mark, Upstream};
use pelton_core::sequence::SequenceNumber;
use pelton_core::slice::{HashKey, HashRange, TaskCount};
use pelton_core::task::{Attempts, FoldedBefore, Item, PinnedFrom, Pins, Refold, RefoldedOutputs};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

pub fn bytes(length_max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=length_max).prop_map(Bytes::from)
}

pub fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..12).prop_map(String::from_iter)
}

/// Numbers at the edges of their widths as often as others.
pub fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..4u64, any::<u32>().prop_map(u64::from), any::<u64>(), Just(u64::MAX)]
}

pub fn hash() -> impl Strategy<Value = HashKey> {
    prop_oneof![any::<u128>(), number().prop_map(u128::from), number().prop_map(|low| u128::MAX - u128::from(low))]
        .prop_map(HashKey)
}

pub fn range() -> impl Strategy<Value = HashRange> {
    (hash(), hash()).prop_map(|(a, b)| HashRange { start: a.min(b), end: a.max(b) })
}

pub fn task_count() -> impl Strategy<Value = TaskCount> {
    prop_oneof![1..20u32, 1..=TaskCount::MAX, select(vec![256, 65_535, 65_536])]
        .prop_map(|count| TaskCount::new(count).unwrap())
}

pub fn place() -> impl Strategy<Value = RecordPlace> {
    let sub_sequence = prop_oneof![number(), Just(WHOLE)];
    (any::<[u64; 3]>(), sub_sequence)
        .prop_map(|(limbs, sub_sequence)| RecordPlace { sequence: SequenceNumber(limbs), sub_sequence })
}

pub fn position() -> impl Strategy<Value = Position> {
    prop_oneof![
        Just(Position::TrimHorizon),
        number().prop_map(Position::AtTimestamp),
        place().prop_map(Position::After),
        Just(Position::ShardEnd),
    ]
}

pub fn shard() -> impl Strategy<Value = ShardKey> {
    let id = prop_oneof![any::<u32>().prop_map(|number| format!("shardId-{number:012}")), text()];
    (any::<u16>(), id)
        .prop_map(|(stream, shard)| ShardKey { stream: StreamIndex(stream), shard: shard.as_str().into() })
}

pub fn timer() -> impl Strategy<Value = Timer> {
    (number(), text()).prop_map(|(due_ms, name)| Timer { due_ms, name })
}

pub fn output_id() -> impl Strategy<Value = OutputId> {
    (any::<[u8; 16]>(), any::<u16>(), number(), any::<u32>(), rewind()).prop_map(
        |(incarnation, task, commit, index, rewind)| OutputId {
            incarnation: Incarnation(incarnation),
            task: TaskId(task),
            commit: CommitNumber(commit),
            index,
            rewind,
        },
    )
}

fn pin() -> impl Strategy<Value = PinnedFrom> {
    (proptest::array::uniform5(1..u64::MAX), any::<[u8; 16]>()).prop_map(
        |([revision, deployment, number, sealed_ms, unread_from_ms], previous_id)| PinnedFrom {
            revision,
            deployment: DeploymentNumber(deployment),
            number: CommitNumber(number),
            sealed_ms,
            previous_id: CommitId(previous_id),
            unread_from_ms,
        },
    )
}

pub fn item() -> impl Strategy<Value = Item> {
    prop_oneof![(shard(), place()).prop_map(|(shard, place)| Item::Record(shard, place)), timer().prop_map(Item::Timer),]
}

fn refolded_outputs() -> impl Strategy<Value = RefoldedOutputs> {
    select(vec![RefoldedOutputs::Withhold, RefoldedOutputs::Again])
}

fn folded_before() -> impl Strategy<Value = Option<FoldedBefore>> {
    let before = (number(), refolded_outputs(), number());
    option::of(before.prop_map(|(rewind, outputs, clock_ms)| FoldedBefore {
        rewind: CommitNumber(rewind),
        outputs,
        clock_ms,
    }))
}

fn forgotten_letter() -> impl Strategy<Value = ForgottenLetter> {
    (item(), folded_before(), number()).prop_map(|(item, folded_before, number)| ForgottenLetter {
        item,
        folded_before,
        number: CommitNumber(number),
    })
}

fn refold() -> impl Strategy<Value = Refold> {
    (number(), refolded_outputs(), number(), btree_map(shard(), position(), 0..4), btree_set(item(), 0..6)).prop_map(
        |(rewind, outputs, clock_ms, positions, unfolded)| Refold {
            rewind: CommitNumber(rewind),
            outputs,
            clock_ms,
            positions,
            unfolded,
        },
    )
}

fn rewind() -> impl Strategy<Value = Option<CommitNumber>> {
    option::of(number().prop_map(CommitNumber))
}

fn output() -> impl Strategy<Value = Output> {
    (text(), text(), bytes(20), rewind()).prop_map(|(output, partition_key, data, rewind)| Output {
        output,
        partition_key,
        data,
        rewind,
    })
}

pub fn record() -> impl Strategy<Value = Record> {
    (place(), number(), text(), bytes(20), option::of(output_id())).prop_map(
        |(place, arrived_ms, partition_key, data, output)| Record {
            place,
            arrived_ms,
            partition_key,
            data,
            output: output.map(Box::new),
        },
    )
}

fn cause() -> impl Strategy<Value = LetterCause> {
    prop_oneof![
        select(Oddity::ALL.to_vec()).prop_map(LetterCause::Odd),
        select(vec![LetterCause::Poison, LetterCause::Failed, LetterCause::Gap]),
    ]
}

fn dead_letter() -> impl Strategy<Value = DeadLetter> {
    let content = prop_oneof![
        (shard(), record()).prop_map(|(shard, record)| Content::Record(shard, record)),
        (shard(), position(), position()).prop_map(|(shard, from, to)| Content::Gap { shard, from, to }),
        timer().prop_map(Content::Timer),
    ];
    (cause(), text(), any::<u32>(), number(), content, folded_before()).prop_map(
        |(cause, message, attempts, at_ms, content, folded_before)| DeadLetter {
            cause,
            message,
            attempts,
            at_ms,
            content,
            folded_before,
        },
    )
}

fn counts() -> impl Strategy<Value = Counts> {
    let dropped = btree_map(select(Oddity::ALL.to_vec()), number(), 0..=4);
    (dropped, proptest::array::uniform6(number())).prop_map(
        |(dropped, [folded, malformed, dead_letters, dead_records, redriven, timers_fired])| Counts {
            folded,
            malformed,
            dropped,
            dead_letters,
            dead_records,
            redriven,
            timers_fired,
        },
    )
}

/// Rising ranges that do not touch: of a set of numbers, those that are neighbours joined.
fn indexes() -> impl Strategy<Value = Indexes> {
    let index = prop_oneof![0..30u32, any::<u32>(), Just(u32::MAX)];
    btree_set(index, 0..12).prop_map(|set| {
        let mut ranges: Vec<std::ops::RangeInclusive<u32>> = Vec::new();
        for index in set {
            match ranges.last_mut() {
                Some(last) if last.end().checked_add(1) == Some(index) => *last = *last.start()..=index,
                _ => ranges.push(index..=index),
            }
        }
        Indexes::new(ranges).unwrap()
    })
}

fn seen() -> impl Strategy<Value = SystemEntry> {
    (any::<[u8; 16]>(), any::<u16>(), any::<u16>(), range(), number(), indexes()).prop_map(
        |(incarnation, stream, task, range, commit, indexes)| {
            let upstream =
                Upstream { stream: StreamIndex(stream), incarnation: Incarnation(incarnation), task: TaskId(task) };
            SystemEntry::Seen(upstream, range.start, Mark { end: range.end, commit: CommitNumber(commit), indexes })
        },
    )
}

/// Every kind of entry; the size of a dead letter is left at 0.
pub fn system_entry() -> impl Strategy<Value = SystemEntry> {
    let entry = (position(), number(), range()).prop_map(|(position, unread_from_ms, range)| PositionEntry {
        position,
        unread_from_ms,
        range,
    });
    let attempts =
        (item(), any::<u32>(), text()).prop_map(|(suspect, attempts, message)| Attempts { suspect, attempts, message });
    prop_oneof![
        (shard(), entry).prop_map(|(shard, entry)| SystemEntry::Position(shard, entry)),
        (number(), vec(output(), 0..4))
            .prop_map(|(commit, outputs)| SystemEntry::Outbox(CommitNumber(commit), outputs)),
        number().prop_map(SystemEntry::Clock),
        counts().prop_map(SystemEntry::Counts),
        (number(), dead_letter()).prop_map(|(number, letter)| SystemEntry::DeadLetter(number, 0, Box::new(letter))),
        (number(), forgotten_letter())
            .prop_map(|(number, letter)| SystemEntry::ForgottenLetter(number, Box::new(letter))),
        attempts.prop_map(SystemEntry::Attempts),
        timer().prop_map(SystemEntry::Timer),
        (vec(pin(), 0..4), number()).prop_map(|(kept, forgotten)| SystemEntry::Pins(Pins { kept, forgotten })),
        refold().prop_map(SystemEntry::Refold),
        seen(),
    ]
}

fn invocation() -> impl Strategy<Value = Invocation> {
    let run = (shard(), position(), position(), any::<u32>()).prop_map(|(shard, after, up_to, records)| InvokedRun {
        shard,
        after,
        up_to,
        records,
    });
    let kind = prop_oneof![
        Just(InvocationKind::Records),
        option::of(timer()).prop_map(InvocationKind::SetAside),
        vec(timer(), 0..4).prop_map(InvocationKind::Timers),
        number().prop_map(InvocationKind::Redrive),
    ];
    (number(), any::<u32>(), any::<bool>(), kind, vec(run, 0..4)).prop_map(
        |(time_ms, failed_attempts, born, kind, runs)| Invocation { time_ms, failed_attempts, born, kind, runs },
    )
}

/// A commit of up to twenty writes.
pub fn commit() -> impl Strategy<Value = Commit> {
    let writes = btree_map(bytes(12), option::of(bytes(40)), 0..20);
    let ids = (any::<[u8; 16]>(), any::<[u8; 16]>());
    let kind = select(vec![CommitKind::Fence, CommitKind::Step, CommitKind::Rewind(CommitNumber(7))]);
    let numbers = proptest::array::uniform4(number());
    (numbers, ids, kind, vec(invocation(), 0..5), writes).prop_map(
        |([number, epoch, deployment, born], (id, previous_id), kind, invocations, writes)| Commit {
            number: CommitNumber(number),
            id: CommitId(id),
            previous_id: CommitId(previous_id),
            epoch: Epoch(epoch),
            deployment: DeploymentNumber(deployment),
            kind,
            born: CommitNumber(born),
            invocations,
            writes: std::sync::Arc::new(writes.into_iter().collect()),
        },
    )
}

/// The entries of a state, by key.
pub fn state() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    btree_map(vec(any::<u8>(), 1..12), vec(any::<u8>(), 0..60), 1..30)
}

pub fn policies() -> impl Strategy<Value = Policies> {
    let choices = |count| 0..count;
    (choices(OutOfRange::NAMES.len()), choices(Aggregates::NAMES.len())).prop_map(|(out_of_range, aggregates)| {
        Policies { out_of_range: OutOfRange::NAMES[out_of_range].1, aggregates: Aggregates::NAMES[aggregates].1 }
    })
}
