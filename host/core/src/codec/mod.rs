//! How commits and system state are stored. Everything is versioned and strict: what this version does not know is an
//! error, never dropped.
//!
//! # A commit
//!
//! The *body* is the protobuf message [`wire::Commit`], compressed as one zstd frame. The log item holds the *head*:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `PLTC` |
//! | 4 | 1 | format, 1 |
//! | 5 | 1 | 0: the body follows; 1: the body is staged in parts |
//! | 6 | 4 | CRC-32C of the compressed body, little-endian |
//! | 10 | 4 | length of the body before compression, little-endian |
//! | 14 | .. | the compressed body, or the number of parts as 4 bytes little-endian |
//!
//! Parts are the compressed body cut every [`ITEM_PAYLOAD_BYTES_MAX`](crate::limits::ITEM_PAYLOAD_BYTES_MAX) bytes.
//!
//! # System state
//!
//! Keys of the system space (byte 0x00) of a task's state:
//!
//! | key after the space byte | value |
//! |---|---|
//! | `p`, stream index as 2 bytes big-endian, shard id | [`wire::PositionEntry`] |
//! | `o`, commit number as 8 bytes big-endian | [`wire::Outputs`]: what that commit emitted, until all is published |
//! | `c` | time of the newest invocation, milliseconds since 1970, as 8 bytes big-endian |

mod commit;
mod system;
pub mod wire;

pub use commit::{DecodeError, Placement, decode, encode, placement};
pub use system::{
    SystemEntry, clock_key, decode_system, encode_clock, encode_outputs, encode_position, outbox_key, position_key,
};

#[cfg(test)]
mod tests;
