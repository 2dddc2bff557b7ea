//! What becomes of records that are not simply their task's: those outside the range of the shard that delivered them, the
//! strays of aggregates, and repeats. Fixed when a job is created, since each change would leave some record to nobody.

use std::fmt;

/// What to do with a record whose partition key hashes outside the range of the shard that delivered it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// The shard's home task sets it aside.
    #[default]
    DeadLetter,
    /// The shard's home task counts it and passes on.
    Drop,
    /// The shard's home task folds it, though it owns the key no more than another.
    Process,
    /// Every task reads every shard and takes what is its own.
    ReadAll,
}

/// What to do with a record in a KPL aggregate whose effective hash (explicit hash key, or MD5 of its partition key) lies
/// outside the range of the shard that delivered the aggregate. The KPL sends such a one again, others do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregates {
    /// It is set aside: nothing says that the producer was the KPL.
    #[default]
    DeadLetter,
    /// It is dropped and counted: the KPL sends it again.
    PerSubRecord,
    /// As the KCL does: the whole aggregate is dropped and counted.
    KclCompatible,
    /// It is taken as any record.
    AcceptAll,
}

/// The policies of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// For records outside the range of their shard.
    pub out_of_range: OutOfRange,
    /// For strays within aggregates.
    pub aggregates: Aggregates,
}

/// What becomes of a record that no logic is to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It becomes a dead letter.
    DeadLetter(Oddity),
    /// It is counted and passed.
    Drop(Oddity),
}

/// What is odd about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    /// Its partition key hashes outside the shard that delivered it.
    OutOfRange,
    /// It came in an aggregate, and its effective hash lies outside the shard that delivered it.
    Stray,
    /// It came in an aggregate with a stray.
    WithStray,
    /// The job upstream sent it before.
    Repeat,
}

impl Oddity {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::OutOfRange, Self::Stray, Self::WithStray, Self::Repeat];

    /// Its name in figures and stored counts.
    pub fn name(self) -> &'static str {
        match self {
            Self::OutOfRange => "out-of-range",
            Self::Stray => "stray",
            Self::WithStray => "with-stray",
            Self::Repeat => "repeat",
        }
    }
}

macro_rules! named {
    ($type:ident: $($variant:ident = $name:literal),*) => {
        impl $type {
            /// Every choice with its name in configuration.
            pub const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$variant)),*];
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $name),*
                })
            }
        }
    };
}

named!(OutOfRange: DeadLetter = "dead-letter", Drop = "drop", Process = "process", ReadAll = "read-all");
named!(Aggregates: DeadLetter = "dead-letter", PerSubRecord = "per-sub-record", KclCompatible = "kcl-compatible", AcceptAll = "accept-all");
