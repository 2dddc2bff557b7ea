//! Every bound a task meets. The host's are those of `wit/task.wit`; the others bound what the SDK keeps in memory.

/// Longest key of the state. The shortest has one byte.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Largest value of the state.
pub const VALUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest name of a timer. The shortest has one byte.
pub const TIMER_NAME_BYTES_MAX: usize = 1_024;
/// Timers that one task may have.
pub const TIMERS_MAX: usize = 100_000;
/// Longest partition key of a message, in characters. The shortest has one.
pub const PARTITION_KEY_CHARS_MAX: usize = 256;
/// Largest data of a message.
pub const DATA_BYTES_MAX: usize = 1_000_000;

/// A call that holds more keys and values than this hands its writes over early and reads again what it needs again.
pub const HELD_BYTES: usize = 16 * 1024 * 1024;
/// A call that holds more unsent messages than this hands them over early.
pub const UNSENT_BYTES: usize = 8 * 1024 * 1024;
/// Most keys asked for in one host call.
pub const READ_KEYS_MAX: usize = 4_096;
/// Entries asked for in one page of a scan; the host gives fewer when they are large.
pub const PAGE_ENTRIES: u32 = 1_000;

const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX < HELD_BYTES);
const _: () = assert!(DATA_BYTES_MAX + 4 * PARTITION_KEY_CHARS_MAX < UNSENT_BYTES);
