//! System state as keys and values: counts, dead letters, attempts, timers, and what was seen of jobs upstream.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::message::{DecodeError, as_written, decode_message};
use super::past::{folded_before_from_wire, folded_before_to_wire};
use super::system::{
    ATTEMPTS, COUNTS, DEAD_LETTER, SEEN, TIMER, hash_from_bytes, numbered_key, position_from_wire, position_to_wire,
};
use super::wire;
use crate::aggregate::{id_text, parse_id};
use crate::counts::Counts;
use crate::dead_letter::{Content, DeadLetter, LetterCause, Timer};
use crate::id::{CommitNumber, Incarnation, ShardKey, StreamIndex, TaskId};
use crate::policy::Oddity;
use crate::position::{Position, RecordPlace};
use crate::record::Record;
use crate::repeats::{Indexes, Mark, Upstream};
use crate::slice::HashKey;
use crate::task::{Attempts, Item};
use crate::write_set::{SYSTEM_SPACE, StateKey};

const POISON: u32 = 8;
const FAILED: u32 = 9;
const GAP: u32 = 10;

/// Where the counts are kept.
pub fn counts_key() -> StateKey {
    Bytes::from_static(&[SYSTEM_SPACE, COUNTS])
}

/// Where a dead letter is kept.
pub fn dead_letter_key(number: u64) -> StateKey {
    numbered_key(DEAD_LETTER, number)
}

/// Where the attempts are kept.
pub fn attempts_key() -> StateKey {
    Bytes::from_static(&[SYSTEM_SPACE, ATTEMPTS])
}

/// Where a timer is kept.
pub fn timer_key(name: &str) -> StateKey {
    [&[SYSTEM_SPACE, TIMER], name.as_bytes()].concat().into()
}

/// Where it is kept what was seen of an upstream task, from a hash key on.
pub fn seen_key(upstream: &Upstream, start: HashKey) -> StateKey {
    let mut key = BytesMut::with_capacity(38);
    key.put_slice(&[SYSTEM_SPACE, SEEN]);
    key.put_u16(upstream.stream.0);
    key.put_slice(&upstream.incarnation.0);
    key.put_u16(upstream.task.0);
    key.put_u128(start.0);
    key.freeze()
}

pub(super) fn decode_seen_key(whose: &[u8]) -> Option<(Upstream, HashKey)> {
    let (stream, rest) = whose.split_first_chunk::<2>()?;
    let (incarnation, rest) = rest.split_first_chunk::<16>()?;
    let (task, start) = rest.split_first_chunk::<2>()?;
    let (stream, task) = (StreamIndex(u16::from_be_bytes(*stream)), TaskId(u16::from_be_bytes(*task)));
    let upstream = Upstream { stream, incarnation: Incarnation(*incarnation), task };
    Some((upstream, HashKey(u128::from_be_bytes(start.try_into().ok()?))))
}

/// The value under [`timer_key`].
pub fn encode_timer(due_ms: u64) -> Bytes {
    Bytes::copy_from_slice(&due_ms.to_be_bytes())
}

/// The value under [`counts_key`].
pub fn encode_counts(counts: &Counts) -> Bytes {
    let dropped = counts
        .dropped
        .iter()
        .map(|(oddity, records)| wire::Dropped { oddity: oddity_to_wire(*oddity), records: *records });
    wire::Counts {
        folded: counts.folded,
        malformed: counts.malformed,
        dropped: dropped.collect(),
        dead_letters: counts.dead_letters,
        dead_records: counts.dead_records,
        redriven: counts.redriven,
        timers_fired: counts.timers_fired,
    }
    .encode_to_vec()
    .into()
}

pub(super) fn decode_counts(value: Bytes) -> Result<Counts, DecodeError> {
    let wire: wire::Counts = decode_message(value.clone())?;
    let dropped = wire.dropped.iter().map(|dropped| Ok((oddity_from_wire(dropped.oddity)?, dropped.records)));
    let counts = Counts {
        folded: wire.folded,
        malformed: wire.malformed,
        dropped: dropped.collect::<Result<BTreeMap<_, _>, DecodeError>>()?,
        dead_letters: wire.dead_letters,
        dead_records: wire.dead_records,
        redriven: wire.redriven,
        timers_fired: wire.timers_fired,
    };
    as_written(&value, &encode_counts(&counts))?;
    Ok(counts)
}

/// The value under [`dead_letter_key`].
pub fn encode_dead_letter(letter: &DeadLetter) -> Bytes {
    let mut wire = wire::DeadLetter {
        cause: match letter.cause {
            LetterCause::Odd(oddity) => oddity_to_wire(oddity),
            LetterCause::Poison => POISON,
            LetterCause::Failed => FAILED,
            LetterCause::Gap => GAP,
        },
        message: letter.message.clone(),
        attempts: letter.attempts,
        at_ms: letter.at_ms,
        folded_before: letter.folded_before.map(folded_before_to_wire),
        ..wire::DeadLetter::default()
    };
    match &letter.content {
        Content::Record(shard, record) => {
            (wire.stream, wire.shard) = shard_to_wire(shard);
            wire.record = Some(record_to_wire(record));
        }
        Content::Gap { shard, from, to } => {
            (wire.stream, wire.shard) = shard_to_wire(shard);
            wire.gap_from = Some(position_to_wire(*from));
            wire.gap_to = Some(position_to_wire(*to));
        }
        Content::Timer(timer) => wire.timer = Some(timer_to_wire(timer)),
    }
    wire.encode_to_vec().into()
}

/// Reads what [`encode_dead_letter`] wrote.
///
/// # Errors
/// When the value is not one this version writes.
pub fn decode_dead_letter(value: Bytes) -> Result<DeadLetter, DecodeError> {
    let wire: wire::DeadLetter = decode_message(value.clone())?;
    let shard = shard_from_wire(wire.stream, &wire.shard)?;
    let content = match (wire.record, wire.gap_from, wire.gap_to, wire.timer) {
        (Some(record), None, None, None) => Content::Record(shard, record_from_wire(record)?),
        (None, from @ Some(_), to @ Some(_), None) => {
            Content::Gap { shard, from: position_from_wire(from)?, to: position_from_wire(to)? }
        }
        (None, None, None, Some(timer)) => Content::Timer(timer_from_wire(timer)),
        _ => return Err(DecodeError::new("a dead letter holds neither a record nor a gap nor a timer")),
    };
    let letter = DeadLetter {
        cause: match wire.cause {
            POISON => LetterCause::Poison,
            FAILED => LetterCause::Failed,
            GAP => LetterCause::Gap,
            oddity => LetterCause::Odd(oddity_from_wire(oddity)?),
        },
        message: wire.message,
        attempts: wire.attempts,
        at_ms: wire.at_ms,
        content,
        folded_before: wire.folded_before.map(folded_before_from_wire),
    };
    as_written(&value, &encode_dead_letter(&letter))?;
    Ok(letter)
}

/// The value under [`attempts_key`].
pub fn encode_attempts(attempts: &Attempts) -> Bytes {
    let mut wire =
        wire::Attempts { attempts: attempts.attempts, message: attempts.message.clone(), ..wire::Attempts::default() };
    match &attempts.suspect {
        Item::Record(shard, place) => {
            (wire.stream, wire.shard) = shard_to_wire(shard);
            wire.place = Some(position_to_wire(Position::After(*place)));
        }
        Item::Timer(timer) => wire.timer = Some(timer_to_wire(timer)),
    }
    wire.encode_to_vec().into()
}

pub(super) fn decode_attempts(value: Bytes) -> Result<Attempts, DecodeError> {
    let wire: wire::Attempts = decode_message(value.clone())?;
    let suspect = match (wire.place, wire.timer) {
        (place @ Some(_), None) => Item::Record(shard_from_wire(wire.stream, &wire.shard)?, place_from_wire(place)?),
        (None, Some(timer)) => Item::Timer(timer_from_wire(timer)),
        _ => return Err(DecodeError::new("attempts are of neither a record nor a timer")),
    };
    let attempts = Attempts { suspect, attempts: wire.attempts, message: wire.message };
    as_written(&value, &encode_attempts(&attempts))?;
    Ok(attempts)
}

/// The value under [`seen_key`].
pub fn encode_seen(mark: &Mark) -> Bytes {
    wire::Seen {
        end: mark.end.0.to_be_bytes().into(),
        commit: mark.commit.0,
        indexes: mark.indexes.ranges().iter().flat_map(|range| [*range.start(), *range.end()]).collect(),
    }
    .encode_to_vec()
    .into()
}

pub(super) fn decode_seen(value: Bytes) -> Result<Mark, DecodeError> {
    let wire: wire::Seen = decode_message(value.clone())?;
    let (pairs, rest) = wire.indexes.as_chunks::<2>();
    let indexes = Indexes::new(pairs.iter().map(|[first, last]| *first..=*last).collect());
    let indexes = indexes.filter(|_| rest.is_empty()).ok_or_else(|| DecodeError::new("indexes seen are not rising"))?;
    let mark = Mark { end: hash_from_bytes(&wire.end)?, commit: CommitNumber(wire.commit), indexes };
    as_written(&value, &encode_seen(&mark))?;
    Ok(mark)
}

pub(super) fn timer_to_wire(timer: &Timer) -> wire::Timer {
    wire::Timer { name: timer.name.clone(), due_ms: timer.due_ms }
}

pub(super) fn timer_from_wire(wire: wire::Timer) -> Timer {
    Timer { due_ms: wire.due_ms, name: wire.name }
}

fn oddity_to_wire(oddity: Oddity) -> u32 {
    match oddity {
        Oddity::OutOfRange => 0,
        Oddity::Stray => 1,
        Oddity::WithStray => 2,
        Oddity::Repeat => 3,
    }
}

fn oddity_from_wire(wire: u32) -> Result<Oddity, DecodeError> {
    let oddity = Oddity::ALL.into_iter().find(|oddity| oddity_to_wire(*oddity) == wire);
    oddity.ok_or_else(|| DecodeError::new(format!("unknown oddity {wire}")))
}

fn shard_to_wire(shard: &ShardKey) -> (u32, String) {
    (shard.stream.0.into(), shard.shard.0.as_ref().into())
}

fn shard_from_wire(stream: u32, shard: &str) -> Result<ShardKey, DecodeError> {
    let stream = u16::try_from(stream).map_err(|_| DecodeError::new("a stream index is over 16 bits"))?;
    Ok(ShardKey { stream: StreamIndex(stream), shard: shard.into() })
}

fn record_to_wire(record: &Record) -> wire::Record {
    wire::Record {
        place: Some(position_to_wire(Position::After(record.place))),
        arrived_ms: record.arrived_ms,
        partition_key: record.partition_key.clone(),
        data: record.data.clone(),
        output: record.output.as_deref().map(id_text).unwrap_or_default(),
    }
}

fn record_from_wire(wire: wire::Record) -> Result<Record, DecodeError> {
    let output = match wire.output.as_str() {
        "" => None,
        text => Some(parse_id(text).ok_or_else(|| DecodeError::new("an output's id is not one"))?),
    };
    Ok(Record {
        place: place_from_wire(wire.place)?,
        arrived_ms: wire.arrived_ms,
        partition_key: wire.partition_key,
        data: wire.data,
        output: output.map(Box::new),
    })
}

fn place_from_wire(wire: Option<wire::Position>) -> Result<RecordPlace, DecodeError> {
    match position_from_wire(wire)? {
        Position::After(place) => Ok(place),
        position => Err(DecodeError::new(format!("{position} is no record's place"))),
    }
}
