//! Stored forms made from their contents, as the formats are described and not by the code under test: a fuzzer that changes the
//! contents gets past the checksums by this.

use md5::{Digest as _, Md5};

/// The fastest level; any is read.
const ZSTD_LEVEL: i32 = 1;

/// A KPL aggregate with this message.
pub fn aggregate(message: &[u8]) -> Vec<u8> {
    [&[0xF3, 0x89, 0x9A, 0xC2][..], message, &Md5::digest(message)].concat()
}

/// Where the message of an aggregate is, if the bytes are long enough for one.
pub fn aggregate_message(packed: &[u8]) -> Option<&[u8]> {
    let rest = packed.strip_prefix(&[0xF3, 0x89, 0x9A, 0xC2])?;
    rest.get(..rest.len().checked_sub(16)?)
}

/// The head of a commit with this body, all of it in the head.
pub fn inline_head(body: &[u8]) -> Vec<u8> {
    let compressed = zstd::bulk::compress(body, ZSTD_LEVEL).unwrap();
    let mut head = head(0, &compressed, body.len());
    head.extend_from_slice(&compressed);
    head
}

/// The head of a commit with this body, and the body cut into so many parts.
pub fn staged_head(body: &[u8], parts: usize) -> (Vec<u8>, Vec<bytes::Bytes>) {
    let compressed = zstd::bulk::compress(body, ZSTD_LEVEL).unwrap();
    let parts: Vec<bytes::Bytes> =
        compressed.chunks(compressed.len().div_ceil(parts)).map(bytes::Bytes::copy_from_slice).collect();
    let mut head = head(1, &compressed, body.len());
    head.extend_from_slice(&(parts.len() as u32).to_le_bytes());
    (head, parts)
}

fn head(placement: u8, compressed: &[u8], length: usize) -> Vec<u8> {
    let mut head = b"PLTC\x01".to_vec();
    head.push(placement);
    head.extend_from_slice(&crc32c::crc32c(compressed).to_le_bytes());
    head.extend_from_slice(&(length as u32).to_le_bytes());
    head
}

/// The body of a commit, from its head and parts.
pub fn body(head: &[u8], parts: &[bytes::Bytes]) -> Vec<u8> {
    let compressed = if parts.is_empty() { head[14..].to_vec() } else { parts.concat() };
    let length = u32::from_le_bytes(head[10..14].try_into().unwrap());
    zstd::bulk::decompress(&compressed, length as usize).unwrap()
}

/// A part of a snapshot with these contents.
pub fn part(contents: &[u8]) -> Vec<u8> {
    let frame = zstd::bulk::compress(contents, ZSTD_LEVEL).unwrap();
    [b"PLTS\x01", &crc32c::crc32c(&frame).to_le_bytes()[..], &frame].concat()
}

/// One entry of a snapshot's contents.
pub fn snapshot_entry(key: &[u8], value: &[u8]) -> Vec<u8> {
    [&(key.len() as u32).to_le_bytes()[..], &(value.len() as u32).to_le_bytes(), key, value].concat()
}
