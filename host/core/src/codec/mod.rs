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
//! | `n` | [`wire::Counts`]: what became of every record |
//! | `d`, number as 8 bytes big-endian | [`wire::DeadLetter`] |
//! | `f`, number as 8 bytes big-endian | [`wire::ForgottenLetter`]: a dead letter that was dropped, for as long as the log goes back so far |
//! | `a` | [`wire::Attempts`]: what the logic fails with, and how often it did |
//! | `t`, name | when the timer is due, milliseconds since 1970, as 8 bytes big-endian |
//! | `h` | [`wire::Pins`]: the deployments that its commits were of |
//! | `w` | [`wire::Refold`]: what had been passed before a rewind, until it is passed again |
//! | `r`, stream index (2 bytes big-endian), incarnation (16 bytes), task (2 bytes big-endian), first hash key (16 bytes big-endian) | [`wire::Seen`] |

mod commit;
mod letters;
mod message;
mod past;
mod system;
pub mod wire;

pub use commit::{Placement, decode, encode, placement};
pub use letters::{
    attempts_key, counts_key, dead_letter_key, decode_dead_letter, encode_attempts, encode_counts, encode_dead_letter,
    encode_seen, encode_timer, seen_key, timer_key,
};
pub use message::DecodeError;
pub use past::{encode_forgotten_letter, encode_pins, encode_refold, forgotten_letter_key, pins_key, refold_key};
pub use system::{
    SystemEntry, clock_key, decode_system, encode_clock, encode_outputs, encode_position, outbox_key, outlives_rewind,
    position_key,
};

#[cfg(test)]
mod tests;
