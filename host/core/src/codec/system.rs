//! System state as keys and values: positions, the outbox and the invocation clock; see `letters` for the rest.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::message::{DecodeError, as_written, decode_message};
use super::{letters, past, wire};
use crate::counts::Counts;
use crate::dead_letter::{DeadLetter, ForgottenLetter, Timer};
use crate::id::{CommitNumber, ShardKey, StreamIndex};
use crate::output::Output;
use crate::position::{Position, PositionEntry, RecordPlace};
use crate::repeats::{Mark, Upstream};
use crate::sequence::SequenceNumber;
use crate::slice::{HashKey, HashRange};
use crate::task::{Attempts, Pins, Refold};
use crate::write_set::{SYSTEM_SPACE, StateKey};

const POSITION: u8 = b'p';
const OUTBOX: u8 = b'o';
const CLOCK: u8 = b'c';
pub(super) const COUNTS: u8 = b'n';
pub(super) const DEAD_LETTER: u8 = b'd';
pub(super) const ATTEMPTS: u8 = b'a';
pub(super) const TIMER: u8 = b't';
pub(super) const SEEN: u8 = b'r';

/// An entry of a task's system state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemEntry {
    /// How far the task has come in a shard.
    Position(ShardKey, PositionEntry),
    /// Outputs of a commit, not yet all published.
    Outbox(CommitNumber, Vec<Output>),
    /// Time of the newest invocation, milliseconds since 1970.
    Clock(u64),
    /// What became of every record.
    Counts(Counts),
    /// Something set aside: its number, its size as stored in bytes, and what it is.
    DeadLetter(u64, u64, Box<DeadLetter>),
    /// A dead letter that was forgotten: its number, and what is to be known of it.
    ForgottenLetter(u64, Box<ForgottenLetter>),
    /// What the logic failed with last, and how often.
    Attempts(Attempts),
    /// A timer.
    Timer(Timer),
    /// What was seen of an upstream task, from a hash key on.
    Seen(Upstream, HashKey, Mark),
    /// The deployments that its commits were of.
    Pins(Pins),
    /// What had been passed before a rewind.
    Refold(Refold),
}

/// Whether what stands at a key is not brought back by a rewind: it tells of what happened, whatever is undone.
pub fn outlives_rewind(key: &[u8]) -> bool {
    matches!(key, [SYSTEM_SPACE, OUTBOX | CLOCK | past::PINS | past::REFOLD, ..])
}

/// Where a task's position in a shard is kept.
pub fn position_key(shard: &ShardKey) -> StateKey {
    let mut key = BytesMut::with_capacity(4 + shard.shard.0.len());
    key.put_slice(&[SYSTEM_SPACE, POSITION]);
    key.put_u16(shard.stream.0);
    key.put_slice(shard.shard.0.as_bytes());
    key.freeze()
}

/// Where the unpublished outputs of a commit are kept.
pub fn outbox_key(commit: CommitNumber) -> StateKey {
    numbered_key(OUTBOX, commit.0)
}

/// Keys of a kind, in the order of their numbers.
pub(super) fn numbered_key(kind: u8, number: u64) -> StateKey {
    let mut key = BytesMut::with_capacity(10);
    key.put_slice(&[SYSTEM_SPACE, kind]);
    key.put_u64(number);
    key.freeze()
}

/// Where the time of the newest invocation is kept.
pub fn clock_key() -> StateKey {
    Bytes::from_static(&[SYSTEM_SPACE, CLOCK])
}

/// The value under [`position_key`].
pub fn encode_position(entry: &PositionEntry) -> Bytes {
    wire::PositionEntry {
        position: Some(position_to_wire(entry.position)),
        unread_from_ms: entry.unread_from_ms,
        range_start: entry.range.start.0.to_be_bytes().into(),
        range_end: entry.range.end.0.to_be_bytes().into(),
    }
    .encode_to_vec()
    .into()
}

/// The value under [`outbox_key`].
pub fn encode_outputs(outputs: &[Output]) -> Bytes {
    let outputs = outputs.iter().map(|output| wire::Output {
        output: output.output.clone(),
        partition_key: output.partition_key.clone(),
        data: output.data.clone(),
        rewind: output.rewind.map(|rewind| rewind.0),
    });
    wire::Outputs { outputs: outputs.collect() }.encode_to_vec().into()
}

/// The value under [`clock_key`].
pub fn encode_clock(time_ms: u64) -> Bytes {
    Bytes::copy_from_slice(&time_ms.to_be_bytes())
}

/// Reads one entry of the system space.
///
/// # Errors
/// When the key or the value is not one this version writes.
pub fn decode_system(key: &[u8], value: Bytes) -> Result<SystemEntry, DecodeError> {
    let unknown = || DecodeError::new(format!("unknown system key {key:02x?}"));
    match key {
        [SYSTEM_SPACE, POSITION, high, low, shard @ ..] => {
            let stream = StreamIndex(u16::from_be_bytes([*high, *low]));
            let shard = std::str::from_utf8(shard).map_err(|_| unknown())?.into();
            let entry = entry_from_wire(decode_message(value.clone())?)?;
            as_written(&value, &encode_position(&entry))?;
            Ok(SystemEntry::Position(ShardKey { stream, shard }, entry))
        }
        [SYSTEM_SPACE, OUTBOX, number @ ..] => {
            let number = u64::from_be_bytes(number.try_into().map_err(|_| unknown())?);
            let wire: wire::Outputs = decode_message(value.clone())?;
            let outputs = wire.outputs.into_iter().map(|output| Output {
                output: output.output,
                partition_key: output.partition_key,
                data: output.data,
                rewind: output.rewind.map(CommitNumber),
            });
            let outputs: Vec<Output> = outputs.collect();
            as_written(&value, &encode_outputs(&outputs))?;
            Ok(SystemEntry::Outbox(CommitNumber(number), outputs))
        }
        [SYSTEM_SPACE, CLOCK] => {
            let bytes = value.as_ref().try_into().map_err(|_| DecodeError::new("the clock has not 8 bytes"))?;
            Ok(SystemEntry::Clock(u64::from_be_bytes(bytes)))
        }
        [SYSTEM_SPACE, COUNTS] => letters::decode_counts(value).map(SystemEntry::Counts),
        [SYSTEM_SPACE, DEAD_LETTER, number @ ..] => {
            let number = u64::from_be_bytes(number.try_into().map_err(|_| unknown())?);
            let bytes = value.len() as u64;
            Ok(SystemEntry::DeadLetter(number, bytes, Box::new(letters::decode_dead_letter(value)?)))
        }
        [SYSTEM_SPACE, past::FORGOTTEN, number @ ..] => {
            let number = u64::from_be_bytes(number.try_into().map_err(|_| unknown())?);
            Ok(SystemEntry::ForgottenLetter(number, Box::new(past::decode_forgotten_letter(value)?)))
        }
        [SYSTEM_SPACE, ATTEMPTS] => letters::decode_attempts(value).map(SystemEntry::Attempts),
        [SYSTEM_SPACE, TIMER, name @ ..] => {
            let name = std::str::from_utf8(name).map_err(|_| unknown())?.to_owned();
            let bytes = value.as_ref().try_into().map_err(|_| DecodeError::new("a timer has not 8 bytes"))?;
            Ok(SystemEntry::Timer(Timer { due_ms: u64::from_be_bytes(bytes), name }))
        }
        [SYSTEM_SPACE, past::PINS] => past::decode_pins(value).map(SystemEntry::Pins),
        [SYSTEM_SPACE, past::REFOLD] => past::decode_refold(value).map(SystemEntry::Refold),
        [SYSTEM_SPACE, SEEN, whose @ ..] => {
            let (upstream, start) = letters::decode_seen_key(whose).ok_or_else(unknown)?;
            let mark = letters::decode_seen(value)?;
            if start > mark.end {
                return Err(DecodeError::new("a range ends before it begins"));
            }
            Ok(SystemEntry::Seen(upstream, start, mark))
        }
        _ => Err(unknown()),
    }
}

fn entry_from_wire(wire: wire::PositionEntry) -> Result<PositionEntry, DecodeError> {
    let range = HashRange { start: hash_from_bytes(&wire.range_start)?, end: hash_from_bytes(&wire.range_end)? };
    if range.start > range.end {
        return Err(DecodeError::new("a range ends before it begins"));
    }
    Ok(PositionEntry { position: position_from_wire(wire.position)?, unread_from_ms: wire.unread_from_ms, range })
}

pub(super) fn hash_from_bytes(bytes: &[u8]) -> Result<HashKey, DecodeError> {
    let bytes = bytes.try_into().map_err(|_| DecodeError::new("a hash key has not 16 bytes"))?;
    Ok(HashKey(u128::from_be_bytes(bytes)))
}

pub(super) fn position_to_wire(position: Position) -> wire::Position {
    let mut wire = wire::Position::default();
    match position {
        Position::TrimHorizon => {}
        Position::AtTimestamp(ms) => {
            wire.kind = 1;
            wire.at_ms = ms;
        }
        Position::After(place) => {
            wire.kind = 2;
            wire.sequence = place.sequence.0.iter().flat_map(|limb| limb.to_be_bytes()).collect();
            wire.sub_sequence = place.sub_sequence;
        }
        Position::ShardEnd => wire.kind = 3,
    }
    wire
}

pub(super) fn position_from_wire(wire: Option<wire::Position>) -> Result<Position, DecodeError> {
    let wire = wire.ok_or_else(|| DecodeError::new("a position is missing"))?;
    match wire.kind {
        0 => Ok(Position::TrimHorizon),
        1 => Ok(Position::AtTimestamp(wire.at_ms)),
        2 => {
            let limbs: &[u8; 24] = wire
                .sequence
                .as_slice()
                .try_into()
                .map_err(|_| DecodeError::new("a sequence number has not 24 bytes"))?;
            let limb = |at: usize| limbs[at..at + 8].iter().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
            let sequence = SequenceNumber([limb(0), limb(8), limb(16)]);
            Ok(Position::After(RecordPlace { sequence, sub_sequence: wire.sub_sequence }))
        }
        3 => Ok(Position::ShardEnd),
        kind => Err(DecodeError::new(format!("unknown kind of position {kind}"))),
    }
}
