//! What a guest may use: what a job may set, and what holds for all. Units stand last in the names.

use std::fmt;

use pelton_core::limits::{BATCH_BYTES, COMMIT_BYTES_MAX, REFOLD_BYTES_MAX, SEAL_BYTES};
use pelton_core::timers::{TIMER_NAME_BYTES_MAX, TIMERS_MAX};
use pelton_core::write_set::WRITE_BYTES;

/// Keys and values that one batch may write, at most.
pub const BATCH_WRITE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Names, partition keys and data of outputs that one batch may emit, at most.
pub const BATCH_OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Values that one `get-many` may answer with, at most.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What an output counts for beside its name, its partition key and its data.
pub const OUTPUT_BYTES: usize = 32;
/// What a key counts for in an answer beside its value: however small the values, looking them up ends.
pub const ANSWER_KEY_BYTES: usize = 128;
/// Entries that one `scan` may answer with.
pub const SCAN_ENTRIES_MAX: usize = 10_000;
/// A `scan` answers with no further entry past this many bytes.
pub const SCAN_BYTES: usize = 1024 * 1024;
/// A failure's message is cut to this.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// A guest's line in the log is cut to this.
pub const LOG_LINE_BYTES_MAX: usize = 4 * 1024;
/// Lines that a task may be allowed to log in a second, at most.
pub const LOG_LINES_MAX: u32 = 100_000;
/// Elements of one table of an instance.
pub const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Core instances, memories and tables of one component instance: enough for guests of interpreted languages.
pub const CORE_PARTS_MAX: u32 = 40;
/// Largest memory any job may grant.
pub const MEMORY_BYTES_MAX: usize = 4 * 1024 * 1024 * 1024;
/// What a guest may hand to one host call: all that a batch may write, with room for what lists take.
pub const CALL_BYTES_MAX: usize = BATCH_WRITE_BYTES_MAX + 16 * 1024 * 1024;
/// Things the host keeps for a guest behind handles: streams, pollables, compare-and-swaps.
pub const RESOURCES_MAX: usize = 1_000;
/// Handles of all kinds that a guest may hold.
pub const HANDLES_MAX: usize = 10_000;
/// Random bytes that one call may ask for.
pub const RANDOM_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes that one write to standard output or error may have.
pub const STDIO_WRITE_BYTES_MAX: usize = 64 * 1024;
/// Cursors of listed keys that are remembered during a call, for guests whose cursors are numbers.
pub const CURSORS_MAX: usize = 10_000;
/// Names and values of the variables that a deployment may grant, all together.
pub const ENV_BYTES_MAX: usize = 64 * 1024;
/// Hosts that a deployment may grant.
pub const HTTP_HOSTS_MAX: usize = 100;
/// Refusals of outbound calls that are told in the log, of each deployment.
pub const REFUSALS_TOLD_MAX: usize = 100;
/// Outbound calls of an instance at a time; one lasts until its answer was read or dropped.
pub const HTTP_CALLS_MAX: usize = 8;
/// Names that the instances of a deployment have looked up at a time. A look-up that nobody waits for any more goes on until the system
/// gives up on it, on a thread that others would have.
pub const LOOKUPS_MAX: usize = 16;
/// Bytes that the body of a request to others may have, or of its answer.
pub const HTTP_BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes that the head of an answer may have.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that the header fields of a request may have, and its method and its authority, each.
pub const HTTP_FIELDS_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a request's body that are taken at once. The host keeps two such chunks for each body that a guest holds.
pub const HTTP_CHUNK_BYTES: usize = 16 * 1024;
/// The engine's epoch moves on this often; deadlines are counted in it.
pub const EPOCH_MS: u64 = 5;
/// Memory that compiling a component may take. Python's, of 18 MB, takes 0.6 GiB.
pub const COMPILE_MEMORY_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Seconds that compiling a component may take of all cores together. Python's takes one for each megabyte.
pub const COMPILE_CPU_S_MAX: u64 = 120;
/// Seconds that compiling a component may take by the clock.
pub const COMPILE_S_MAX: u64 = 100;
/// Seconds that a component which somebody sent waits until it is compiled.
pub const COMPILE_WAIT_S_MAX: u64 = 10;
/// Compiled code of a component. Twice its own bytes are usual, of which the API takes 64 MiB.
pub const CODE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Components compiled at a time.
pub const COMPILING_MAX: usize = 2;
/// Threads that compile a component. Each has memory of its own, so that more of them would need more of it.
pub const COMPILE_THREADS_MAX: usize = 8;

/// What timers that one batch may set take in a commit.
const BATCH_TIMER_BYTES_MAX: usize = TIMERS_MAX * (TIMER_NAME_BYTES_MAX + WRITE_BYTES);
const _: () = assert!(
    BATCH_WRITE_BYTES_MAX
        + BATCH_OUTPUT_BYTES_MAX
        + BATCH_TIMER_BYTES_MAX
        + REFOLD_BYTES_MAX
        + SEAL_BYTES
        + BATCH_BYTES
        < COMMIT_BYTES_MAX
);
const _: () = assert!((CODE_BYTES_MAX as u64) < COMPILE_MEMORY_BYTES_MAX);

/// What a deployment allows each instance of its component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestLimits {
    /// Most linear memory, in bytes. Default 64 MiB.
    pub memory_bytes_max: u64,
    /// Longest a call may run, in milliseconds. Default 5,000.
    pub batch_timeout_ms: u64,
    /// Elements of all its tables together. Default 100,000.
    pub table_elements_max: usize,
    /// Its core instances, memories and tables, of each. Default and most 40.
    pub core_parts_max: u32,
    /// Keys and values that a batch may write, in bytes, with 64 for each write. Default and most 64 MiB.
    pub batch_write_bytes_max: usize,
    /// Names, partition keys and data of outputs that a batch may emit, in bytes, with 32 for each output. Default and most 16 MiB.
    pub batch_output_bytes_max: usize,
    /// Values that one answer may have, in bytes, with 128 for each key. Default and most 16 MiB.
    pub answer_bytes_max: usize,
    /// Lines that a task may log in a second. Default 100.
    pub log_lines_max: u32,
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 64 << 20,
            batch_timeout_ms: 5_000,
            table_elements_max: TABLE_ELEMENTS_MAX,
            core_parts_max: CORE_PARTS_MAX,
            batch_write_bytes_max: BATCH_WRITE_BYTES_MAX,
            batch_output_bytes_max: BATCH_OUTPUT_BYTES_MAX,
            answer_bytes_max: ANSWER_BYTES_MAX,
            log_lines_max: 100,
        }
    }
}

/// Least memory any job may grant, in bytes.
pub const MEMORY_BYTES_MIN: usize = 1024 * 1024;
/// Shortest and longest that a call may be given, in milliseconds.
pub const BATCH_TIMEOUT_MS: std::ops::RangeInclusive<u64> = 10..=600_000;
/// A batch that may write or emit or be answered less than this would hardly be one.
pub const BATCH_BYTES_MIN: usize = 1024;

impl GuestLimits {
    /// Whether each limit is within what any job may set.
    ///
    /// # Errors
    /// Names the first that is not, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("memory_bytes", self.memory_bytes_max, MEMORY_BYTES_MIN as u64..=MEMORY_BYTES_MAX as u64),
            ("batch_timeout_ms", self.batch_timeout_ms, BATCH_TIMEOUT_MS),
            (
                "table_elements",
                self.table_elements_max as u64,
                0..=TABLE_ELEMENTS_MAX as u64 * u64::from(CORE_PARTS_MAX),
            ),
            ("core_parts", self.core_parts_max.into(), 1..=CORE_PARTS_MAX.into()),
            (
                "batch_write_bytes",
                self.batch_write_bytes_max as u64,
                BATCH_BYTES_MIN as u64..=BATCH_WRITE_BYTES_MAX as u64,
            ),
            (
                "batch_output_bytes",
                self.batch_output_bytes_max as u64,
                BATCH_BYTES_MIN as u64..=BATCH_OUTPUT_BYTES_MAX as u64,
            ),
            ("answer_bytes", self.answer_bytes_max as u64, BATCH_BYTES_MIN as u64..=ANSWER_BYTES_MAX as u64),
            ("log_lines", self.log_lines_max.into(), 0..=LOG_LINES_MAX.into()),
        ];
        match bounds.into_iter().find(|(_, value, bounds)| !bounds.contains(value)) {
            Some((name, value, bounds)) => {
                Err(format!("{name} is {value}; from {} to {}", bounds.start(), bounds.end()))
            }
            None => Ok(()),
        }
    }
}

/// A limit of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Linear memory.
    Memory,
    /// Elements of tables.
    TableElements,
    /// Core instances, memories, tables.
    CoreParts,
    /// Writes of a batch.
    BatchWrites,
    /// Outputs of a batch.
    BatchOutputs,
    /// Values in an answer.
    Answer,
}

/// What a guest was refused: it says so when it fails for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// By which limit.
    pub limit: Limit,
    /// How much that allows.
    pub allowed: u64,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, unit, key) = match self.limit {
            Limit::Memory => ("memory", " bytes", "memory"),
            Limit::TableElements => ("elements of tables", "", "table-elements"),
            Limit::CoreParts => ("core instances, memories or tables", " of each", "core-parts"),
            Limit::BatchWrites => ("writes in a batch", " bytes", "batch-writes"),
            Limit::BatchOutputs => ("outputs in a batch", " bytes", "batch-outputs"),
            Limit::Answer => ("values in one answer", " bytes", "answer"),
        };
        write!(f, "it asked for more {what} than its limit of {}{unit}, `{key}` in [jobs.NAME.limits]", self.allowed)
    }
}
