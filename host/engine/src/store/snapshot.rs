//! A snapshot as parts, and back. A part is a zstd frame with a checksum of its own behind a header:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `PLTS` |
//! | 4 | 1 | format, 1 |
//! | 5 | 4 | CRC-32C of what follows, little-endian |
//! | 9 | .. | a zstd frame of up to [`CHUNK_BYTES`] bytes |
//!
//! The frames' contents, one after another, are the entries in key order: length of the key and length of the value as 4
//! bytes little-endian each, the key with its space byte, the value. An entry may go across parts.

use std::ops::Bound;

use bytes::{Buf as _, Bytes, BytesMut};
use pelton_core::limits::ITEM_PAYLOAD_BYTES_MAX;
use pelton_core::snapshot::{Manifest, StateMark};

use super::{LocalStore, StateReader, StoreError};

const MAGIC: [u8; 4] = *b"PLTS";
const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 9;
/// Bytes of entries in one part: what does not compress at all still fits an item with the frame's overhead.
const CHUNK_BYTES: usize = 370_000;
const ZSTD_LEVEL: i32 = 1;
/// Entries are loaded in transactions of about this many bytes.
const LOAD_BYTES: usize = 8 * 1024 * 1024;

/// What a snapshot holds in all.
#[derive(Clone, Copy, Debug, Default)]
pub struct SnapshotTotals {
    /// Entries.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub state_bytes: u64,
}

/// Makes the parts.
pub struct SnapshotWriter;

impl SnapshotWriter {
    /// Hands every part, in order, to `store`, which says whether to go on.
    ///
    /// # Errors
    /// When the state cannot be read, or `store` ends it.
    pub fn write(reader: &StateReader, mut store: impl FnMut(Bytes) -> bool) -> Result<SnapshotTotals, StoreError> {
        let mut totals = SnapshotTotals::default();
        let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
        for entry in reader.range(Bound::Unbounded, Bound::Unbounded, true)? {
            let (key, value) = entry?;
            totals.entries += 1;
            totals.state_bytes += (key.len() + value.len()) as u64;
            buffer.extend_from_slice(&(key.len() as u32).to_le_bytes());
            buffer.extend_from_slice(&(value.len() as u32).to_le_bytes());
            buffer.extend_from_slice(&key);
            buffer.extend_from_slice(&value);
            while buffer.len() >= CHUNK_BYTES {
                hand_over(&buffer.split_to(CHUNK_BYTES), &mut store)?;
            }
        }
        if !buffer.is_empty() {
            hand_over(&buffer, &mut store)?;
        }
        Ok(totals)
    }
}

fn hand_over(chunk: &[u8], store: &mut impl FnMut(Bytes) -> bool) -> Result<(), StoreError> {
    let frame = zstd::bulk::compress(chunk, ZSTD_LEVEL).map_err(|error| StoreError::Snapshot(error.to_string()))?;
    let mut part = Vec::with_capacity(HEADER_BYTES + frame.len());
    part.extend_from_slice(&MAGIC);
    part.push(FORMAT);
    part.extend_from_slice(&crc32c::crc32c(&frame).to_le_bytes());
    part.extend_from_slice(&frame);
    assert!(part.len() <= ITEM_PAYLOAD_BYTES_MAX, "a part of {} bytes does not fit an item", part.len());
    if store(part.into()) { Ok(()) } else { Err(StoreError::Snapshot("storing its parts ended early".into())) }
}

/// Reads the parts back.
pub struct SnapshotReader;

impl SnapshotReader {
    /// Loads parts, in order, into an empty local copy, which then stands at the mark.
    ///
    /// # Errors
    /// [`StoreError::Snapshot`] when a part is not what was written, or they are not all; else when the disk fails.
    pub fn load(
        store: &mut LocalStore,
        parts: impl Iterator<Item = Bytes>,
        manifest: &Manifest,
        mark: StateMark,
    ) -> Result<(), StoreError> {
        let mut loaded = SnapshotTotals::default();
        let mut buffer = BytesMut::new();
        let (mut entries, mut entries_bytes) = (Vec::new(), 0);
        let mut last = Bytes::new();
        for (index, part) in parts.enumerate() {
            buffer.extend_from_slice(&open_part(index, &part)?);
            while let Some((key, value)) = next_entry(&mut buffer) {
                // No key is empty, so the first has one to rise above too.
                if key <= last {
                    return Err(StoreError::Snapshot(format!("part {index}: its keys do not rise")));
                }
                last = key.clone();
                loaded.entries += 1;
                loaded.state_bytes += (key.len() + value.len()) as u64;
                entries_bytes += key.len() + value.len();
                entries.push((key, value));
            }
            if entries_bytes >= LOAD_BYTES {
                store.load(&entries)?;
                entries.clear();
                entries_bytes = 0;
            }
        }
        if !buffer.is_empty() || (loaded.entries, loaded.state_bytes) != (manifest.entries, manifest.state_bytes) {
            return Err(StoreError::Snapshot(format!(
                "{} entries of {} bytes where the manifest says {} of {}",
                loaded.entries, loaded.state_bytes, manifest.entries, manifest.state_bytes
            )));
        }
        store.load(&entries)?;
        store.loaded(mark)
    }
}

fn open_part(index: usize, part: &[u8]) -> Result<Vec<u8>, StoreError> {
    let wrong = |what: &str| StoreError::Snapshot(format!("part {index}: {what}"));
    if part.len() < HEADER_BYTES || part[..4] != MAGIC {
        return Err(wrong("it does not begin with PLTS"));
    }
    if part[4] != FORMAT {
        return Err(wrong("its format is newer than this version's"));
    }
    let (header, frame) = part.split_at(HEADER_BYTES);
    if crc32c::crc32c(frame).to_le_bytes() != header[5..] {
        return Err(wrong("the checksum does not match"));
    }
    zstd::bulk::decompress(frame, CHUNK_BYTES).map_err(|error| wrong(&format!("decompressing failed: {error}")))
}

fn next_entry(buffer: &mut BytesMut) -> Option<(Bytes, Bytes)> {
    let length = |at: usize| {
        let bytes = buffer.get(at..at + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    let (key, value) = (length(0)?, length(4)?);
    if buffer.len() < 8 + key + value {
        return None;
    }
    buffer.advance(8);
    Some((buffer.split_to(key).freeze(), buffer.split_to(value).freeze()))
}
