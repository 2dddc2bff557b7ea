//! Idle positions as bytes: format 1, then the protobuf message [`IdleWire`], in chunks that fit an item.

use pelton_core::codec::{SystemEntry, decode_system, encode_position, position_key};
use pelton_core::id::{CommitId, TaskId};
use pelton_engine::ports::IdlePositions;
use prost::Message as _;

use crate::manifest::{framed, unframed};

const FORMAT: u8 = 1;
/// Most bytes of a chunk: an item holds 400 KB, and one of this size costs no more to replace than it must.
const CHUNK_BYTES_MAX: usize = 300_000;
/// What framing a task takes in a chunk, at most, in bytes.
const TASK_FRAME_BYTES: usize = 16;

#[derive(Clone, PartialEq, prost::Message)]
struct IdleWire {
    #[prost(message, repeated, tag = "1")]
    tasks: Vec<TaskWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TaskWire {
    #[prost(uint32, tag = "1")]
    task: u32,
    #[prost(bytes = "vec", tag = "2")]
    step_id: Vec<u8>,
    /// As in the system state: key and value.
    #[prost(message, repeated, tag = "3")]
    positions: Vec<PositionWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PositionWire {
    #[prost(bytes = "bytes", tag = "1")]
    key: bytes::Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    entry: bytes::Bytes,
}

/// Encodes positions in chunks. Chunks are put one by one, so a task's positions are never cut: half of them could say how
/// far it is in a child, and not that it passed the parent. A task with more than a chunk holds is left out; its positions
/// are committed before long.
pub(crate) fn encode(positions: &[IdlePositions]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    let (mut wire, mut bytes) = (IdleWire::default(), 0);
    let told = positions.iter().filter(|idle| !idle.entries.is_empty());
    for task in told.map(encode_task) {
        let size = task.encoded_len() + TASK_FRAME_BYTES;
        if size > CHUNK_BYTES_MAX {
            continue;
        }
        if bytes + size > CHUNK_BYTES_MAX {
            chunks.push(framed(FORMAT, &std::mem::take(&mut wire)));
            bytes = 0;
        }
        bytes += size;
        wire.tasks.push(task);
    }
    if !wire.tasks.is_empty() {
        chunks.push(framed(FORMAT, &wire));
    }
    chunks
}

fn encode_task(idle: &IdlePositions) -> TaskWire {
    let positions = idle.entries.iter();
    TaskWire {
        task: idle.task.0.into(),
        step_id: idle.step_id.0.into(),
        positions: positions
            .map(|(shard, entry)| PositionWire { key: position_key(shard), entry: encode_position(entry) })
            .collect(),
    }
}

/// Decodes a chunk.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<IdlePositions>, String> {
    let wire: IdleWire = unframed(FORMAT, bytes)?;
    wire.tasks.into_iter().map(decode_task).collect()
}

fn decode_task(wire: TaskWire) -> Result<IdlePositions, String> {
    let position = |wire: PositionWire| match decode_system(&wire.key, wire.entry) {
        Ok(SystemEntry::Position(shard, entry)) => Ok((shard, entry)),
        Ok(other) => Err(format!("{other:?} where a position was expected")),
        Err(error) => Err(error.to_string()),
    };
    Ok(IdlePositions {
        task: TaskId(u16::try_from(wire.task).map_err(|_| "a task number is over 16 bits")?),
        step_id: wire.step_id.try_into().map(CommitId).map_err(|_| "a step id has not 16 bytes")?,
        entries: wire.positions.into_iter().map(position).collect::<Result<_, _>>()?,
    })
}
