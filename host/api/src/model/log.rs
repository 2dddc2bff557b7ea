//! Lines of guests, as `/v1/jobs/{job}/logs` sends them: the JSON in the data of each.

use std::fmt;

use pelton_engine::guest::{GuestLine, LineLevel, LineSource};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A line of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineView {
    /// When, milliseconds since 1970, by the host's clock.
    pub at_ms: u64,
    /// Of which task.
    pub task: u16,
    /// Of which deployment.
    pub deployment: u64,
    /// Whether the deployment is only compared with what the task runs.
    pub shadow: bool,
    /// How much it matters.
    pub level: LevelView,
    /// How it came.
    pub source: SourceView,
    /// Its text.
    pub text: String,
}

/// How much a line matters, as `wasi:logging` has it. What a guest prints is `info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LevelView {
    /// Every step.
    Trace,
    /// For who looks for a fault.
    Debug,
    /// As it should be.
    Info,
    /// Not as it should be.
    Warn,
    /// Something failed.
    Error,
    /// Nothing goes any more.
    Critical,
}

/// How a line came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceView {
    /// By `wasi:logging`.
    Logging,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// From the host: what it refused or left out, and calls that failed.
    Host,
}

impl LevelView {
    /// Every level, the one that matters least first.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Trace, "trace"),
        (Self::Debug, "debug"),
        (Self::Info, "info"),
        (Self::Warn, "warn"),
        (Self::Error, "error"),
        (Self::Critical, "critical"),
    ];

    /// The level of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(level, _)| level)
    }

    /// The names, for people.
    pub fn names() -> String {
        Self::ALL.map(|(_, name)| name).join(", ")
    }
}

impl fmt::Display for LevelView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.into_iter().find(|(level, _)| level == self).map(|(_, name)| name);
        f.pad(name.expect("every level is among all"))
    }
}

impl From<LevelView> for LineLevel {
    fn from(level: LevelView) -> Self {
        match level {
            LevelView::Trace => Self::Trace,
            LevelView::Debug => Self::Debug,
            LevelView::Info => Self::Info,
            LevelView::Warn => Self::Warn,
            LevelView::Error => Self::Error,
            LevelView::Critical => Self::Critical,
        }
    }
}

impl From<LineLevel> for LevelView {
    fn from(level: LineLevel) -> Self {
        match level {
            LineLevel::Trace => Self::Trace,
            LineLevel::Debug => Self::Debug,
            LineLevel::Info => Self::Info,
            LineLevel::Warn => Self::Warn,
            LineLevel::Error => Self::Error,
            LineLevel::Critical => Self::Critical,
        }
    }
}

impl From<GuestLine> for LineView {
    fn from(line: GuestLine) -> Self {
        Self {
            at_ms: line.at_ms,
            task: line.task.0,
            deployment: line.deployment.0,
            shadow: line.shadow,
            level: line.level.into(),
            source: match line.source {
                LineSource::Logging => SourceView::Logging,
                LineSource::Stdout => SourceView::Stdout,
                LineSource::Stderr => SourceView::Stderr,
                LineSource::Host => SourceView::Host,
            },
            text: line.text.as_ref().to_owned(),
        }
    }
}
