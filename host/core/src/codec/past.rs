//! What a task's state tells of its own past: the deployments its commits were of, what it had passed before a rewind, and the dead
//! letters that were dropped.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::letters::{timer_from_wire, timer_to_wire};
use super::message::{DecodeError, as_written, decode_message};
use super::system::{numbered_key, position_from_wire, position_to_wire};
use super::wire;
use crate::dead_letter::ForgottenLetter;
use crate::id::{CommitId, CommitNumber, DeploymentNumber, ShardKey, StreamIndex};
use crate::position::Position;
use crate::task::{FoldedBefore, Item, PinnedFrom, Pins, Refold, RefoldedOutputs};
use crate::write_set::{SYSTEM_SPACE, StateKey};

pub(super) const PINS: u8 = b'h';
pub(super) const REFOLD: u8 = b'w';
pub(super) const FORGOTTEN: u8 = b'f';

/// Where the deployments of a task's commits are kept.
pub fn pins_key() -> StateKey {
    Bytes::from_static(&[SYSTEM_SPACE, PINS])
}

/// Where it is kept what a task had passed before a rewind.
pub fn refold_key() -> StateKey {
    Bytes::from_static(&[SYSTEM_SPACE, REFOLD])
}

/// Where it is kept that a dead letter was forgotten.
pub fn forgotten_letter_key(number: u64) -> StateKey {
    numbered_key(FORGOTTEN, number)
}

/// The value under [`pins_key`].
pub fn encode_pins(pins: &Pins) -> Bytes {
    let pin = |pin: &PinnedFrom| wire::Pin {
        revision: pin.revision,
        deployment: pin.deployment.0,
        number: pin.number.0,
        sealed_ms: pin.sealed_ms,
        previous_id: Bytes::copy_from_slice(&pin.previous_id.0),
        unread_from_ms: pin.unread_from_ms,
    };
    wire::Pins { pins: pins.kept.iter().map(pin).collect(), forgotten: pins.forgotten }.encode_to_vec().into()
}

pub(super) fn decode_pins(value: Bytes) -> Result<Pins, DecodeError> {
    let wire: wire::Pins = decode_message(value.clone())?;
    let pin = |pin: wire::Pin| {
        let id = pin.previous_id.as_ref().try_into().map(CommitId);
        Ok::<_, DecodeError>(PinnedFrom {
            revision: pin.revision,
            deployment: DeploymentNumber(pin.deployment),
            number: match pin.number {
                0 => return Err(DecodeError::new("a commit has number 0")),
                number => CommitNumber(number),
            },
            sealed_ms: pin.sealed_ms,
            previous_id: id.map_err(|_| DecodeError::new("a commit id has not 16 bytes"))?,
            unread_from_ms: pin.unread_from_ms,
        })
    };
    let pins = Pins { kept: wire.pins.into_iter().map(pin).collect::<Result<_, _>>()?, forgotten: wire.forgotten };
    as_written(&value, &encode_pins(&pins))?;
    Ok(pins)
}

/// The value under [`refold_key`].
pub fn encode_refold(refold: &Refold) -> Bytes {
    let mut wire = wire::Refold {
        rewind: refold.rewind.0,
        again: refold.outputs == RefoldedOutputs::Again,
        clock_ms: refold.clock_ms,
        passed: refold.positions.iter().map(|(shard, position)| passed_to_wire(shard, *position)).collect(),
        ..wire::Refold::default()
    };
    for item in &refold.unfolded {
        match item {
            Item::Record(shard, place) => wire.unfolded.push(passed_to_wire(shard, Position::After(*place))),
            Item::Timer(timer) => wire.unfired.push(timer_to_wire(timer)),
        }
    }
    wire.encode_to_vec().into()
}

pub(super) fn decode_refold(value: Bytes) -> Result<Refold, DecodeError> {
    let wire: wire::Refold = decode_message(value.clone())?;
    let positions = wire.passed.into_iter().map(passed_from_wire).collect::<Result<BTreeMap<_, _>, _>>()?;
    let records = wire.unfolded.into_iter().map(record_from_wire);
    let timers = wire.unfired.into_iter().map(|timer| Ok(Item::Timer(timer_from_wire(timer))));
    let refold = Refold {
        rewind: CommitNumber(wire.rewind),
        outputs: outputs_from_wire(wire.again),
        clock_ms: wire.clock_ms,
        positions,
        unfolded: records.chain(timers).collect::<Result<_, _>>()?,
    };
    as_written(&value, &encode_refold(&refold))?;
    Ok(refold)
}

/// The value under [`forgotten_letter_key`].
pub fn encode_forgotten_letter(letter: &ForgottenLetter) -> Bytes {
    let (record, timer) = match &letter.item {
        Item::Record(shard, place) => (Some(passed_to_wire(shard, Position::After(*place))), None),
        Item::Timer(timer) => (None, Some(timer_to_wire(timer))),
    };
    let folded_before = letter.folded_before.map(folded_before_to_wire);
    wire::ForgottenLetter { number: letter.number.0, record, timer, folded_before }.encode_to_vec().into()
}

pub(super) fn decode_forgotten_letter(value: Bytes) -> Result<ForgottenLetter, DecodeError> {
    let wire: wire::ForgottenLetter = decode_message(value.clone())?;
    let item = match (wire.record, wire.timer) {
        (Some(record), None) => record_from_wire(record)?,
        (None, Some(timer)) => Item::Timer(timer_from_wire(timer)),
        _ => return Err(DecodeError::new("a forgotten letter held neither a record nor a timer")),
    };
    let folded_before = wire.folded_before.map(folded_before_from_wire);
    let letter = ForgottenLetter { item, folded_before, number: CommitNumber(wire.number) };
    as_written(&value, &encode_forgotten_letter(&letter))?;
    Ok(letter)
}

fn passed_to_wire(shard: &ShardKey, position: Position) -> wire::PassedShard {
    wire::PassedShard {
        stream: shard.stream.0.into(),
        shard: shard.shard.0.as_ref().into(),
        position: Some(position_to_wire(position)),
    }
}

fn passed_from_wire(passed: wire::PassedShard) -> Result<(ShardKey, Position), DecodeError> {
    let stream = u16::try_from(passed.stream).map_err(|_| DecodeError::new("a stream index is over 16 bits"))?;
    let shard = ShardKey { stream: StreamIndex(stream), shard: passed.shard.as_str().into() };
    Ok((shard, position_from_wire(passed.position)?))
}

fn record_from_wire(record: wire::PassedShard) -> Result<Item, DecodeError> {
    match passed_from_wire(record)? {
        (shard, Position::After(place)) => Ok(Item::Record(shard, place)),
        (_, other) => Err(DecodeError::new(format!("a record has no place: {other}"))),
    }
}

pub(super) fn folded_before_to_wire(before: FoldedBefore) -> wire::FoldedBefore {
    let again = before.outputs == RefoldedOutputs::Again;
    wire::FoldedBefore { rewind: before.rewind.0, again, clock_ms: before.clock_ms }
}

pub(super) fn folded_before_from_wire(wire: wire::FoldedBefore) -> FoldedBefore {
    let outputs = outputs_from_wire(wire.again);
    FoldedBefore { rewind: CommitNumber(wire.rewind), outputs, clock_ms: wire.clock_ms }
}

fn outputs_from_wire(again: bool) -> RefoldedOutputs {
    if again { RefoldedOutputs::Again } else { RefoldedOutputs::Withhold }
}
