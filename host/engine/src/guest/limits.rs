//! What a guest may use. Units stand last in the names.

use pelton_core::limits::{COMMIT_BYTES_MAX, SEAL_BYTES};

/// Keys and values that one batch may write.
pub const BATCH_WRITE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Partition keys and data that one batch may emit.
pub const BATCH_OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Values that one `get-many` may answer with.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Entries that one `scan` may answer with.
pub const SCAN_ENTRIES_MAX: usize = 10_000;
/// A `scan` answers with no further entry past this many bytes.
pub const SCAN_BYTES: usize = 1024 * 1024;
/// A failure's message is cut to this.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// A line of a guest's standard output or error is cut to this.
pub const LOG_LINE_BYTES_MAX: usize = 4 * 1024;
/// Elements of an instance's tables.
pub const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Core instances, memories and tables of one component instance: enough for guests of interpreted languages.
pub const CORE_PARTS_MAX: u32 = 40;
/// Largest memory any job may grant.
pub const MEMORY_BYTES_MAX: usize = 4 * 1024 * 1024 * 1024;
/// The engine's epoch moves on this often; deadlines are counted in it.
pub const EPOCH_MS: u64 = 5;

const _: () = assert!(BATCH_WRITE_BYTES_MAX + BATCH_OUTPUT_BYTES_MAX + SEAL_BYTES < COMMIT_BYTES_MAX);
