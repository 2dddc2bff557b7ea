//! What a task's state tells of its own past: the deployments its commits were of, and what it had passed before a rewind.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::letters::{timer_from_wire, timer_to_wire};
use super::message::{DecodeError, as_written, decode_message};
use super::system::{position_from_wire, position_to_wire};
use super::wire;
use crate::id::{CommitId, CommitNumber, DeploymentNumber, ShardKey, StreamIndex};
use crate::position::{Position, RecordPlace};
use crate::task::{PinnedFrom, Pins, Refold, RefoldedOutputs, Unfolded};
use crate::write_set::{SYSTEM_SPACE, StateKey};

pub(super) const PINS: u8 = b'h';
pub(super) const REFOLD: u8 = b'w';

/// Where the deployments of a task's commits are kept.
pub fn pins_key() -> StateKey {
    Bytes::from_static(&[SYSTEM_SPACE, PINS])
}

/// Where it is kept what a task had passed before a rewind.
pub fn refold_key() -> StateKey {
    Bytes::from_static(&[SYSTEM_SPACE, REFOLD])
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
    let shard = |(shard, position): (&ShardKey, &Position)| wire::PassedShard {
        stream: shard.stream.0.into(),
        shard: shard.shard.0.as_ref().into(),
        position: Some(position_to_wire(*position)),
    };
    let record = |(shard, place): &(ShardKey, RecordPlace)| wire::PassedShard {
        stream: shard.stream.0.into(),
        shard: shard.shard.0.as_ref().into(),
        position: Some(position_to_wire(Position::After(*place))),
    };
    wire::Refold {
        rewind: refold.rewind.0,
        again: refold.outputs == RefoldedOutputs::Again,
        clock_ms: refold.clock_ms,
        passed: refold.positions.iter().map(shard).collect(),
        unfolded: refold.unfolded.records.iter().map(record).collect(),
        unfired: refold.unfolded.timers.iter().map(timer_to_wire).collect(),
    }
    .encode_to_vec()
    .into()
}

pub(super) fn decode_refold(value: Bytes) -> Result<Refold, DecodeError> {
    let wire: wire::Refold = decode_message(value.clone())?;
    let passed = |passed: wire::PassedShard| {
        let stream = u16::try_from(passed.stream).map_err(|_| DecodeError::new("a stream index is over 16 bits"))?;
        let shard = ShardKey { stream: StreamIndex(stream), shard: passed.shard.as_str().into() };
        Ok::<_, DecodeError>((shard, position_from_wire(passed.position)?))
    };
    let record = |unfolded: wire::PassedShard| match passed(unfolded)? {
        (shard, Position::After(place)) => Ok((shard, place)),
        (_, other) => Err(DecodeError::new(format!("a record has no place: {other}"))),
    };
    let positions = wire.passed.into_iter().map(passed).collect::<Result<BTreeMap<_, _>, _>>()?;
    let unfolded = Unfolded {
        records: wire.unfolded.into_iter().map(record).collect::<Result<_, _>>()?,
        timers: wire.unfired.into_iter().map(timer_from_wire).collect(),
    };
    let outputs = if wire.again { RefoldedOutputs::Again } else { RefoldedOutputs::Withhold };
    let refold = Refold { rewind: CommitNumber(wire.rewind), outputs, clock_ms: wire.clock_ms, positions, unfolded };
    as_written(&value, &encode_refold(&refold))?;
    Ok(refold)
}
