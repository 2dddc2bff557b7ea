//! `[jobs.NAME.limits]`: what each task of a job may use. Every limit has a default, and a most that no job can pass.

use std::time::Duration;

use pelton_core::dead_letter::LetterBounds;
use pelton_engine::GuestLimits;
use pelton_engine::guest::limits::{
    ANSWER_BYTES_MAX, BATCH_BYTES_MIN, BATCH_OUTPUT_BYTES_MAX, BATCH_TIMEOUT_MS, BATCH_WRITE_BYTES_MAX, CORE_PARTS_MAX,
    LOG_LINES_MAX, MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, TABLE_ELEMENTS_MAX,
};

use super::document::Table;
use super::value;

const DEAD_LETTERS_MAX: u64 = 1_000_000;
const DEAD_LETTER_BYTES_MAX: u64 = 16 << 30;

/// Takes what the table says.
pub fn resolve(table: &Table<'_>, guest: &mut GuestLimits, letters: &mut LetterBounds) {
    let size = |key, least: usize, greatest: usize| {
        let expected = "a size such as \"64MiB\"";
        table.value(key, expected, |value| value::size_bytes(value, least as u64, greatest as u64))
    };
    let count = |key, least, greatest| {
        table.value(key, "a whole number such as 100", |value| value::number(value, least, greatest))
    };
    set(&mut guest.memory_bytes_max, size("memory", MEMORY_BYTES_MIN, MEMORY_BYTES_MAX));
    let timeout = table.value("batch-timeout", "a duration such as \"500ms\"", |value| {
        let (least, greatest) = BATCH_TIMEOUT_MS.into_inner();
        value::duration_ms(value, Duration::from_millis(least), Duration::from_millis(greatest))
    });
    set(&mut guest.batch_timeout_ms, timeout);
    set(&mut guest.batch_write_bytes_max, size("batch-writes", BATCH_BYTES_MIN, BATCH_WRITE_BYTES_MAX));
    set(&mut guest.batch_output_bytes_max, size("batch-outputs", BATCH_BYTES_MIN, BATCH_OUTPUT_BYTES_MAX));
    set(&mut guest.answer_bytes_max, size("answer", BATCH_BYTES_MIN, ANSWER_BYTES_MAX));
    set(&mut guest.log_lines_max, count("log-lines", 0, LOG_LINES_MAX.into()));
    let elements = TABLE_ELEMENTS_MAX as u64 * u64::from(CORE_PARTS_MAX);
    set(&mut guest.table_elements_max, count("table-elements", 0, elements));
    set(&mut guest.core_parts_max, count("core-parts", 1, CORE_PARTS_MAX.into()));
    set(&mut letters.letters_max, count("dead-letters", 0, DEAD_LETTERS_MAX));
    let bytes = table.value("dead-letter-bytes", "a size such as \"64MiB\"", |value| {
        value::size_bytes(value, 0, DEAD_LETTER_BYTES_MAX)
    });
    set(&mut letters.bytes_max, bytes);
}

/// Takes a value, whose bounds make it fit, where there is one.
fn set<T: TryFrom<u64>>(setting: &mut T, value: Option<u64>) {
    if let Some(value) = value.and_then(|value| T::try_from(value).ok()) {
        *setting = value;
    }
}
