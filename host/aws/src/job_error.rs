//! Why a job may not run. Each says what differs, where, and what to do; nothing was changed.

use pelton_engine::ports::PortError;

/// Why a job may not run. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// There is no such stream.
    #[error("job {job}: there is no stream {stream}; create it, or mend the name in the configuration")]
    NoStream {
        /// Which job.
        job: String,
        /// Which stream.
        stream: String,
    },
    /// A stream takes no requests now.
    #[error("job {job}: stream {stream} is {status}; wait until it is ACTIVE, or name another")]
    StreamNotReady {
        /// Which job.
        job: String,
        /// Which stream.
        stream: String,
        /// As Kinesis has it.
        status: String,
    },
    /// The name of an input stands for another stream: of another region or account.
    #[error(
        "job {job} was created with stream {known} as its input, and here the name stands for {found}: this is another \
         region or account; run it where it was created, or give the job another name"
    )]
    StreamElsewhere {
        /// Which job.
        job: String,
        /// ARN at its creation.
        known: String,
        /// ARN now.
        found: String,
    },
    /// A stream was deleted and made again.
    #[error(
        "job {job}: stream {stream} was created at {found_ms} ms, but the job began with one created at {known_ms} ms: \
         it was deleted and made again under its name, so the job's positions mean nothing in it; give the job another name"
    )]
    StreamRecreated {
        /// Which job.
        job: String,
        /// Which stream.
        stream: String,
        /// Milliseconds since 1970.
        known_ms: u64,
        /// Milliseconds since 1970.
        found_ms: u64,
    },
    /// Another number of tasks.
    #[error(
        "job {job} has {known} tasks, and the configuration says {asked}: the number never changes; set tasks = {known}, or give the job another name"
    )]
    TaskCount {
        /// Which job.
        job: String,
        /// At its creation.
        known: u32,
        /// In the configuration.
        asked: u32,
    },
    /// Other inputs.
    #[error(
        "job {job} was created with inputs {known:?}, and the configuration says {asked:?}; give the job another name"
    )]
    Inputs {
        /// Which job.
        job: String,
        /// At its creation.
        known: Vec<String>,
        /// In the configuration.
        asked: Vec<String>,
    },
    /// Another start.
    #[error(
        "job {job} was created to start with {known}, and the configuration says {asked}: a job starts once; set start back, or \
         give the job another name"
    )]
    Start {
        /// Which job.
        job: String,
        /// At its creation.
        known: String,
        /// In the configuration.
        asked: String,
    },
    /// Another policy for records.
    #[error(
        "job {job} was created with {setting} = {known:?}, and the configuration says {asked:?}: with a change some record \
         between two tasks' positions would be nobody's; set it back, or give the job another name"
    )]
    Policy {
        /// Which job.
        job: String,
        /// Key of the setting.
        setting: &'static str,
        /// At its creation.
        known: String,
        /// In the configuration.
        asked: String,
    },
    /// A new job would begin later than now.
    #[error(
        "job {job}: start is {asked_ms} ms, and it is {now_ms} ms now: Kinesis reads nothing from the future; set an \
         earlier start, or \"latest\""
    )]
    FutureStart {
        /// Which job.
        job: String,
        /// In the configuration, milliseconds since 1970.
        asked_ms: u64,
        /// By the services' clock, milliseconds since 1970.
        now_ms: u64,
    },
    /// The table is not the one in which the job was created.
    #[error(
        "job {job} was created in table {known}, and this is {found}: it was restored from a backup or made \
         again; its changelog may lack commits whose outputs went out, so it does not run here; name the table that it was \
         created in, or see `pelton recover --help`, which has it go on from what is found here"
    )]
    Table {
        /// Which job.
        job: String,
        /// At its creation.
        known: String,
        /// Now.
        found: String,
    },
    /// There is no job of this name to recover.
    #[error("table {table} has no job {job}; mend the name, or the table's in the configuration")]
    NoJob {
        /// Which job.
        job: String,
        /// Which table.
        table: String,
    },
    /// A job that runs as it is.
    #[error("job {job} needs no recovery: table {table} is the one that it was created in; start it with `pelton run`")]
    NotLost {
        /// Which job.
        job: String,
        /// Which table.
        table: String,
    },
    /// Somebody else recovered it, or is about to.
    #[error("job {job} was recovered by another process meanwhile; what this one did is unused")]
    RecoveredElsewhere {
        /// Which job.
        job: String,
    },
    /// A service failed.
    #[error("job {job}: {error}")]
    Port {
        /// Which job.
        job: String,
        /// What it said.
        error: PortError,
    },
}
