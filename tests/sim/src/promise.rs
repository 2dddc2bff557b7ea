//! What a world must keep, and the word that it did not.

use std::fmt;

/// A promise of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// An invariant, by its number in `host/ARCHITECTURE.md`.
    Invariant(u8),
    /// Once nothing goes wrong any more, everything is folded and published within bounds.
    Liveness,
    /// The rules' own assertions hold, and they stop a task only for what happened.
    Assertion,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invariant(number) => number.fmt(f),
            Self::Liveness => f.write_str("liveness"),
            Self::Assertion => f.write_str("assertion"),
        }
    }
}

/// A promise that did not hold, and where that was seen.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// Which.
    pub promise: Promise,
    /// What was seen.
    pub what: String,
}

impl Wrong {
    /// An invariant does not hold.
    pub fn invariant(number: u8, what: impl Into<String>) -> Self {
        Self { promise: Promise::Invariant(number), what: what.into() }
    }

    /// The same, with where it was seen.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        Self { what: format!("{}: {place}", self.what), ..self }
    }
}

/// Whether all is well, and if not, what is wrong.
pub type Verdict = Result<(), Wrong>;

/// Returns what is wrong unless the invariant holds.
macro_rules! ensure {
    ($number:literal, $holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err($crate::promise::Wrong::invariant($number, format!($($text)*)));
        }
    };
}
pub(crate) use ensure;
