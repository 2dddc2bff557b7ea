//! Commits as bytes: encoded once, never changed after they are sent.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use zstd::bulk::{Compressor, Decompressor};

use super::letters::{timer_from_wire, timer_to_wire};
use super::message::{DecodeError, decode_message, dropped};
use super::system::{position_from_wire, position_to_wire};
use super::wire;
use crate::commit::{Commit, CommitKind, Invocation, InvocationKind, InvokedRun, StoredCommit};
use crate::id::{CommitId, CommitNumber, DeploymentNumber, Epoch, ShardKey, StreamIndex};
use crate::limits::{COMMIT_BYTES_MAX, COMMIT_PARTS_MAX, ITEM_PAYLOAD_BYTES_MAX};

const MAGIC: [u8; 4] = *b"PLTC";
const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 14;
const INLINE: u8 = 0;
const STAGED: u8 = 1;
/// The fastest level that still compresses text to a third.
const ZSTD_LEVEL: i32 = 1;
/// The field of [`wire::Commit`] that holds its writes.
const WRITES_TAG: u32 = 9;
/// Tags and lengths of a write, as long as they can be.
const WRITE_OVERHEAD_BYTES: usize = 16;

// Making a context costs as much as compressing a small commit, so that each thread keeps its own.
thread_local! {
    static COMPRESSOR: RefCell<Compressor<'static>> =
        RefCell::new(Compressor::new(ZSTD_LEVEL).expect("a context needs nothing but memory"));
    static DECOMPRESSOR: RefCell<Decompressor<'static>> =
        RefCell::new(Decompressor::new().expect("a context needs nothing but memory"));
}

/// Where the body of a stored commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In the head.
    Inline,
    /// In so many parts, staged beside the log.
    Staged(u32),
}

/// Encodes a commit.
///
/// # Panics
/// When the commit is larger than [`COMMIT_BYTES_MAX`], which the limits of a batch and of sealing rule out.
pub fn encode(commit: &Commit) -> StoredCommit {
    let body = body_of(commit);
    assert!(body.len() <= COMMIT_BYTES_MAX, "a commit of {} bytes passed the limits of its batches", body.len());
    let compressed = COMPRESSOR.with_borrow_mut(|compressor| compressor.compress(&body));
    let compressed = compressed.expect("compressing into memory sized for it succeeds");

    let mut head = Vec::with_capacity(HEADER_BYTES + compressed.len().min(ITEM_PAYLOAD_BYTES_MAX));
    let inline = HEADER_BYTES + compressed.len() <= ITEM_PAYLOAD_BYTES_MAX;
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&[FORMAT, if inline { INLINE } else { STAGED }]);
    head.extend_from_slice(&crc32c::crc32c(&compressed).to_le_bytes());
    head.extend_from_slice(&(body.len() as u32).to_le_bytes());
    let mut parts = Vec::new();
    if inline {
        head.extend_from_slice(&compressed);
    } else {
        let compressed = Bytes::from(compressed);
        let starts = (0..compressed.len()).step_by(ITEM_PAYLOAD_BYTES_MAX);
        parts.extend(starts.map(|start| compressed.slice(start..compressed.len().min(start + ITEM_PAYLOAD_BYTES_MAX))));
        assert!(parts.len() <= COMMIT_PARTS_MAX, "{} parts of one commit", parts.len());
        head.extend_from_slice(&(parts.len() as u32).to_le_bytes());
    }
    StoredCommit { number: commit.number, id: commit.id, kind: commit.kind, head: head.into(), parts }
}

fn body_of(commit: &Commit) -> Vec<u8> {
    let mut body = Vec::with_capacity(commit.writes.bytes() + commit.writes.len() * WRITE_OVERHEAD_BYTES + 1024);
    in_pieces(commit, |piece| body.extend_from_slice(piece));
    body
}

/// Gives the body piece by piece: the message as far as its last field, then each write as [`wire::Commit`] has it, with a tag and a
/// length for the whole, its key and its value. So keys and values need no twin, and are copied once or not at all.
fn in_pieces(commit: &Commit, mut take: impl FnMut(&[u8])) {
    let field_len = |bytes: &[u8]| 1 + encoded_len_varint(bytes.len() as u64) + bytes.len();
    take(&to_wire(commit).encode_to_vec());
    let mut framing = Vec::with_capacity(WRITE_OVERHEAD_BYTES);
    for (key, value) in commit.writes.iter() {
        encode_key(WRITES_TAG, WireType::LengthDelimited, &mut framing);
        encode_varint((field_len(key) + value.as_deref().map_or(0, field_len)) as u64, &mut framing);
        for (tag, bytes) in [(1, Some(key)), (2, value.as_ref())] {
            let Some(bytes) = bytes else { continue };
            encode_key(tag, WireType::LengthDelimited, &mut framing);
            encode_varint(bytes.len() as u64, &mut framing);
            take(&framing);
            take(bytes);
            framing.clear();
        }
    }
}

/// Where a head says the body is.
///
/// # Errors
/// When the head is not of this format, or no commit has so many parts: who reads them asks for each.
pub fn placement(head: &[u8]) -> Result<Placement, DecodeError> {
    if head.len() < HEADER_BYTES || head[..4] != MAGIC {
        return Err(DecodeError::new("not a commit: it does not begin with PLTC"));
    }
    if head[4] != FORMAT {
        return Err(DecodeError::new(format!("format {} is newer than this version's {FORMAT}", head[4])));
    }
    match (head[5], &head[HEADER_BYTES..]) {
        (INLINE, _) => Ok(Placement::Inline),
        (STAGED, &[a, b, c, d]) => match u32::from_le_bytes([a, b, c, d]) {
            count if (1..=COMMIT_PARTS_MAX).contains(&(count as usize)) => Ok(Placement::Staged(count)),
            count => Err(DecodeError::new(format!("{count} parts, where a commit has 1 to {COMMIT_PARTS_MAX}"))),
        },
        (kind, rest) => Err(DecodeError::new(format!("unknown placement {kind} with {} bytes after it", rest.len()))),
    }
}

/// Decodes a commit from its head and, where staged, all of its parts in order.
///
/// # Errors
/// When the checksum or the structure is wrong, or there is a field this version does not know.
pub fn decode(head: &Bytes, parts: &[Bytes]) -> Result<Commit, DecodeError> {
    let compressed = match placement(head)? {
        Placement::Inline => head.slice(HEADER_BYTES..),
        Placement::Staged(count) if parts.len() == count as usize => {
            let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
            parts.iter().for_each(|part| whole.extend_from_slice(part));
            whole.freeze()
        }
        Placement::Staged(count) => {
            return Err(DecodeError::new(format!("{} of {count} parts are there", parts.len())));
        }
    };
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if crc32c::crc32c(&compressed) != number(6) {
        return Err(DecodeError::new("the checksum does not match"));
    }
    let length = number(10) as usize;
    if length > COMMIT_BYTES_MAX {
        return Err(DecodeError::new(format!("a commit of {length} bytes is larger than any can be")));
    }
    let body = DECOMPRESSOR.with_borrow_mut(|decompressor| decompressor.decompress(&compressed, length));
    let body = body.map_err(|error| DecodeError::new(format!("decompressing failed: {error}")))?;
    if body.len() != length {
        return Err(DecodeError::new(format!("{} bytes where {length} were announced", body.len())));
    }
    let body = Bytes::from(body);
    let commit = from_wire(decode_message(body.clone())?)?;
    let mut rest = Some(body.as_ref());
    in_pieces(&commit, |piece| rest = rest.and_then(|rest| rest.strip_prefix(piece)));
    if rest.is_none_or(|rest| !rest.is_empty()) { Err(dropped()) } else { Ok(commit) }
}

fn to_wire(commit: &Commit) -> wire::Commit {
    let run = |run: &InvokedRun| wire::Run {
        stream: run.shard.stream.0.into(),
        shard: run.shard.shard.0.as_ref().into(),
        after: Some(position_to_wire(run.after)),
        up_to: Some(position_to_wire(run.up_to)),
        records: run.records,
    };
    let invocation = |invocation: &Invocation| {
        let (kind, timers, letter) = match &invocation.kind {
            InvocationKind::Records => (0, &[][..], 0),
            InvocationKind::SetAside(timer) => (1, timer.as_slice(), 0),
            InvocationKind::Timers(timers) => (2, timers.as_slice(), 0),
            InvocationKind::Redrive(letter) => (3, &[][..], *letter),
        };
        wire::Invocation {
            time_ms: invocation.time_ms,
            failed_attempts: invocation.failed_attempts,
            runs: invocation.runs.iter().map(run).collect(),
            born: invocation.born,
            kind,
            timers: timers.iter().map(timer_to_wire).collect(),
            letter,
        }
    };
    wire::Commit {
        number: commit.number.0,
        id: Bytes::copy_from_slice(&commit.id.0),
        previous_id: Bytes::copy_from_slice(&commit.previous_id.0),
        epoch: commit.epoch.0,
        deployment: commit.deployment.0,
        kind: match commit.kind {
            CommitKind::Fence => 0,
            CommitKind::Step => 1,
            CommitKind::Rewind(_) => 2,
        },
        rewind_to: if let CommitKind::Rewind(to) = commit.kind { to.0 } else { 0 },
        born: commit.born.0,
        invocations: commit.invocations.iter().map(invocation).collect(),
        // Appended by `append_write`.
        writes: Vec::new(),
    }
}

fn from_wire(wire: wire::Commit) -> Result<Commit, DecodeError> {
    let id = |bytes: &[u8]| match bytes.try_into() {
        Ok(bytes) => Ok(CommitId(bytes)),
        Err(_) => Err(DecodeError::new("a commit id has not 16 bytes")),
    };
    let run = |run: wire::Run| {
        let stream = u16::try_from(run.stream).map_err(|_| DecodeError::new("a stream index is over 16 bits"))?;
        Ok::<_, DecodeError>(InvokedRun {
            shard: ShardKey { stream: StreamIndex(stream), shard: run.shard.as_str().into() },
            after: position_from_wire(run.after)?,
            up_to: position_from_wire(run.up_to)?,
            records: run.records,
        })
    };
    let invocation = |invocation: wire::Invocation| {
        let mut timers = invocation.timers.into_iter().map(timer_from_wire);
        let kind = match invocation.kind {
            0 => InvocationKind::Records,
            1 => InvocationKind::SetAside(timers.next()),
            2 => InvocationKind::Timers(timers.collect()),
            3 => InvocationKind::Redrive(invocation.letter),
            kind => return Err(DecodeError::new(format!("unknown kind of invocation {kind}"))),
        };
        Ok::<_, DecodeError>(Invocation {
            time_ms: invocation.time_ms,
            failed_attempts: invocation.failed_attempts,
            born: invocation.born,
            kind,
            runs: invocation.runs.into_iter().map(run).collect::<Result<_, _>>()?,
        })
    };
    Ok(Commit {
        number: CommitNumber(wire.number),
        id: id(&wire.id)?,
        previous_id: id(&wire.previous_id)?,
        epoch: Epoch(wire.epoch),
        deployment: DeploymentNumber(wire.deployment),
        kind: match wire.kind {
            0 => CommitKind::Fence,
            1 => CommitKind::Step,
            2 => CommitKind::Rewind(CommitNumber(wire.rewind_to)),
            kind => return Err(DecodeError::new(format!("unknown kind of commit {kind}"))),
        },
        born: CommitNumber(wire.born),
        invocations: wire.invocations.into_iter().map(invocation).collect::<Result<_, _>>()?,
        writes: Arc::new(wire.writes.into_iter().map(|write| (write.key, write.value)).collect()),
    })
}
