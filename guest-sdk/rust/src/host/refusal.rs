//! Why the host refuses, and what that means for the call.

use std::fmt;

use crate::failure::Failure;
use crate::limits::{DATA_BYTES_MAX, KEY_BYTES_MAX, PARTITION_KEY_CHARS_MAX, TIMER_NAME_BYTES_MAX, VALUE_BYTES_MAX};

/// Why a call on the state was refused; the numbers are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    KeySize(u64),
    ValueSize(u64),
    BatchFull(u64),
    AnswerSize(u64),
    Store(String),
}

/// Why messages were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EmitRefusal {
    UnknownOutput,
    /// In characters.
    PartitionKeySize(u64),
    /// In bytes.
    DataSize(u64),
    /// In bytes.
    BatchFull(u64),
}

/// Why a timer was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TimerRefusal {
    /// In bytes.
    NameSize(u64),
    /// How many there may be.
    TooMany(u64),
}

impl From<TimerRefusal> for Failure {
    fn from(refusal: TimerRefusal) -> Self {
        match refusal {
            TimerRefusal::NameSize(bytes) => {
                Self::poison(format!("the name of a timer has {bytes} bytes; it may have 1 to {TIMER_NAME_BYTES_MAX}"))
            }
            TimerRefusal::TooMany(limit) => Self::poison(format!(
                "the task would have more than {limit} timers; keep an index in the state, and a timer for its first"
            ))
            .of_batch(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeySize(bytes) => write!(f, "a key of the state has {bytes} bytes; it may have 1 to {KEY_BYTES_MAX}"),
            Self::ValueSize(bytes) => {
                write!(f, "a value of the state has {bytes} bytes; it may have up to {VALUE_BYTES_MAX}")
            }
            Self::BatchFull(limit) => {
                write!(f, "the writes of one batch pass the limit of {limit} bytes; write less for each record")
            }
            Self::AnswerSize(limit) => write!(f, "one read of the state passes the limit of {limit} bytes"),
            Self::Store(cause) => write!(f, "the host's store failed: {cause}"),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::KeySize(_) | Refusal::ValueSize(_) => Self::poison(message),
            Refusal::BatchFull(_) | Refusal::AnswerSize(_) => Self::poison(message).of_batch(),
            Refusal::Store(_) => Self::retry(message).of_batch(),
        }
    }
}

impl EmitRefusal {
    /// The failure this is, when it answers for this output.
    pub(crate) fn into_failure(self, output: &str) -> Failure {
        match self {
            Self::UnknownOutput => Failure::fatal(format!(
                "the job has no output {output:?}; add [jobs.NAME.outputs.{output}] to it, or name another"
            ))
            .of_batch(),
            Self::PartitionKeySize(chars) => Failure::poison(format!(
                "a message to output {output:?} has a partition key of {chars} characters; \
                 it may have 1 to {PARTITION_KEY_CHARS_MAX}"
            )),
            Self::DataSize(bytes) => Failure::poison(format!(
                "a message to output {output:?} has {bytes} bytes of data; it may have up to {DATA_BYTES_MAX}"
            )),
            Self::BatchFull(limit) => Failure::poison(format!(
                "the messages of one batch pass the limit of {limit} bytes at output {output:?}; emit less a record"
            ))
            .of_batch(),
        }
    }
}
