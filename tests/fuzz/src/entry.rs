//! Entries of the system state, brought back to how they are stored.

use bytes::Bytes;
use pelton_core::codec::{self, SystemEntry};
use pelton_core::write_set::StateKey;

/// The key and the value of an entry.
pub fn stored(entry: &SystemEntry) -> (StateKey, Bytes) {
    match entry {
        SystemEntry::Position(shard, entry) => (codec::position_key(shard), codec::encode_position(entry)),
        SystemEntry::Outbox(commit, outputs) => (codec::outbox_key(*commit), codec::encode_outputs(outputs)),
        SystemEntry::Clock(time_ms) => (codec::clock_key(), codec::encode_clock(*time_ms)),
        SystemEntry::Counts(counts) => (codec::counts_key(), codec::encode_counts(counts)),
        SystemEntry::DeadLetter(number, _, letter) => {
            (codec::dead_letter_key(*number), codec::encode_dead_letter(letter))
        }
        SystemEntry::ForgottenLetter(number, letter) => {
            (codec::forgotten_letter_key(*number), codec::encode_forgotten_letter(letter))
        }
        SystemEntry::Attempts(attempts) => (codec::attempts_key(), codec::encode_attempts(attempts)),
        SystemEntry::Timer(timer) => (codec::timer_key(&timer.name), codec::encode_timer(timer.due_ms)),
        SystemEntry::Pins(pins) => (codec::pins_key(), codec::encode_pins(pins)),
        SystemEntry::Refold(refold) => (codec::refold_key(), codec::encode_refold(refold)),
        SystemEntry::Seen(upstream, start, mark) => (codec::seen_key(upstream, *start), codec::encode_seen(mark)),
    }
}

/// An entry that is read is stored as the very bytes it was read from: nothing of them was dropped.
pub fn check(key: &[u8], value: &Bytes) {
    if let Ok(entry) = codec::decode_system(key, value.clone()) {
        let (stored_key, stored_value) = stored(&entry);
        assert_eq!((stored_key.as_ref(), &stored_value), (key, value), "{entry:?} is stored otherwise");
    }
}
