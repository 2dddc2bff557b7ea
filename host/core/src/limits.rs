//! Every bound of the rules, with how they relate proved when compiling. Units stand last in the names.

use crate::output::OUTPUT_BYTES_MAX;
use crate::write_set::VALUE_BYTES_MAX;

/// Most bytes of partition keys in an aggregate, counted for each record that has one: many records may refer to one key, which
/// each of them gets, and nothing but this bounds how long it is. Some 65,000 records with the longest keys that Kinesis takes.
pub const AGGREGATE_KEY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest head or part stored as one DynamoDB item, whose limit is 400 KB with keys and attribute names.
pub const ITEM_PAYLOAD_BYTES_MAX: usize = 380_000;
/// Largest commit before compression: what one batch may write and emit on top of a commit about to be sealed.
pub const COMMIT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What a rewind may write, in bytes as a write set weighs them.
pub const REWIND_BYTES_MAX: usize = COMMIT_BYTES_MAX / 2;
/// What a task that was rewound may remember of what was folded before, in bytes: it is in each commit that changes it.
pub const REFOLD_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Most parts of one commit, its body compressed as badly as can be: incompressible data grow by less than a 128th.
pub const COMMIT_PARTS_MAX: usize = (COMMIT_BYTES_MAX + COMMIT_BYTES_MAX / 128).div_ceil(ITEM_PAYLOAD_BYTES_MAX);
/// Open writes and outputs that take so much are sealed without waiting for their age.
pub const SEAL_BYTES: usize = 4 * 1024 * 1024;
/// So many invocations are sealed without waiting for their age.
pub const SEAL_INVOCATIONS: usize = 4_096;
/// Largest data of one package: with its partition key and the packing it must fit a Kinesis record of 1 MiB.
pub const PACKAGE_BYTES_MAX: usize = OUTPUT_BYTES_MAX;
/// Packages sent in one round; the limit of PutRecords.
pub const ROUND_PACKAGES_MAX: usize = 500;
/// Commits whose outputs may wait to be published before the task stops folding.
pub const OUTBOX_COMMITS_MAX: usize = 64;
/// Bytes of outputs that may wait to be published before the task stops folding.
pub const OUTBOX_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most records in one batch.
pub const BATCH_RECORDS_MAX: usize = 10_000;
/// A batch takes no further record past this many bytes.
pub const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Records that may wait in a task's mailbox.
pub const MAILBOX_RECORDS_MAX: usize = 20_000;
/// Bytes that may wait in a task's mailbox; one run over it is still taken by an empty one.
pub const MAILBOX_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A task with acknowledged outputs and nothing else to commit says so after this time.
pub const OUTBOX_CLEAR_MS: u64 = 5_000;
/// A snapshot is due when the log since the last one outgrows this multiple of it.
pub const SNAPSHOT_LOG_MULTIPLE: u64 = 2;
/// And no earlier than this many bytes of log.
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 256 * 1024;
/// However small the commits, so many of them are enough for a snapshot.
pub const SNAPSHOT_COMMITS_MAX: u64 = 10_000;
/// The log is kept so much longer than the window in which a rewind may be asked for: a task may be away when it is, in milliseconds.
pub const REWIND_GRACE_MS: u64 = 600_000;
/// The pause before the first retry of anything; doubled for each further one.
pub const BACKOFF_FIRST_MS: u64 = 50;
/// The longest pause between retries.
pub const BACKOFF_MAX_MS: u64 = 5_000;
/// Arrival times are approximate and not monotonic; bounds made from them keep this distance.
pub const ARRIVAL_MARGIN_MS: u64 = 60_000;
/// How far the time that a host goes by may be off Kinesis' own: the `Date` of a reply has whole seconds, and is as old as the reply.
pub const CLOCK_MARGIN_MS: u64 = 10_000;

/// A gap is taken to reach this part of retention beyond what the stream keeps no longer, so that reading gets a start on the
/// horizon, which moves on.
pub const GAP_HEAD_START_DIVISOR: u64 = 64;
/// And at least so far, in milliseconds.
pub const GAP_HEAD_START_MS_MIN: u64 = 60_000;

/// The bounds a task goes by while it runs. The simulator sets smaller ones, so that what they lead to happens often.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most records in one batch.
    pub batch_records_max: usize,
    /// A batch takes no further record past this many bytes.
    pub batch_bytes: usize,
    /// Open writes and outputs that take so much are sealed without waiting for their age.
    pub seal_bytes: usize,
    /// So many invocations are sealed without waiting for their age.
    pub seal_invocations: usize,
    /// A snapshot is due no earlier than this many bytes of log.
    pub snapshot_log_bytes_min: u64,
    /// However small the commits, so many of them are enough for a snapshot.
    pub snapshot_commits_max: u64,
    /// How much longer the log is kept than the window in which a rewind may be asked for, in milliseconds.
    pub rewind_grace_ms: u64,
}

impl Bounds {
    /// The bounds of this file.
    pub const FULL: Self = Self {
        batch_records_max: BATCH_RECORDS_MAX,
        batch_bytes: BATCH_BYTES,
        seal_bytes: SEAL_BYTES,
        seal_invocations: SEAL_INVOCATIONS,
        snapshot_log_bytes_min: SNAPSHOT_LOG_BYTES_MIN,
        snapshot_commits_max: SNAPSHOT_COMMITS_MAX,
        rewind_grace_ms: REWIND_GRACE_MS,
    };
}

const _: () = assert!(SEAL_BYTES + VALUE_BYTES_MAX < COMMIT_BYTES_MAX);
const _: () = assert!(BATCH_RECORDS_MAX <= MAILBOX_RECORDS_MAX);
const _: () = assert!(BATCH_BYTES <= MAILBOX_BYTES_MAX);

/// The pause before a call for which the host had no room is made again.
pub const NO_ROOM_PAUSE_MS: u64 = 200;

/// The pause before an attempt, 0 for the first: doubled each time, up to a bound.
pub fn backoff_ms(attempt: u32) -> u64 {
    match attempt.checked_sub(1) {
        None => 0,
        Some(doublings) => BACKOFF_FIRST_MS.saturating_mul(1 << doublings.min(20)).min(BACKOFF_MAX_MS),
    }
}
