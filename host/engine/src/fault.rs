//! Named points at which a crash is told apart by what is durable. A crash test names one in the environment of the
//! process, which then kills itself there; in any other process a point costs one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// The variable that names a point and how many passes it lets by, such as `after-append:17`.
pub const VARIABLE: &str = "PELTON_FAULT_POINT";

/// Where a process can be told to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// A commit is sealed; nothing of it is in the log.
    BeforeAppend,
    /// A commit is in the log; the task does not know yet.
    AfterAppend,
    /// A task knows its commit to be in the log; the local copy lacks it.
    BeforeApply,
    /// The local copy has the commit.
    AfterApply,
    /// Outputs of a durable commit are about to be sent.
    BeforePublish,
    /// They were acknowledged; the task does not know yet.
    AfterPublish,
    /// All parts of a snapshot are stored, and not its manifest.
    BeforeManifest,
    /// The manifest is stored, and nothing trimmed.
    BeforeTrim,
}

impl FaultPoint {
    /// Every point.
    pub const ALL: [Self; 8] = [
        Self::BeforeAppend,
        Self::AfterAppend,
        Self::BeforeApply,
        Self::AfterApply,
        Self::BeforePublish,
        Self::AfterPublish,
        Self::BeforeManifest,
        Self::BeforeTrim,
    ];

    /// Its name in the variable.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeAppend => "before-append",
            Self::AfterAppend => "after-append",
            Self::BeforeApply => "before-apply",
            Self::AfterApply => "after-apply",
            Self::BeforePublish => "before-publish",
            Self::AfterPublish => "after-publish",
            Self::BeforeManifest => "before-manifest",
            Self::BeforeTrim => "before-trim",
        }
    }
}

struct Armed {
    point: FaultPoint,
    passes_left: AtomicI64,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// Passes a point, or dies there without unwinding or flushing anything.
pub fn pass(point: FaultPoint) {
    if let Some(armed) = ARMED.get_or_init(arm)
        && armed.point == point
        && armed.passes_left.fetch_sub(1, Ordering::Relaxed) == 0
    {
        eprintln!("pelton: dying at {} as {VARIABLE} asks", point.name());
        std::process::abort();
    }
}

fn arm() -> Option<Armed> {
    let text = std::env::var(VARIABLE).ok()?;
    let (name, passes) = text.split_once(':').unwrap_or((&text, "0"));
    let point = FaultPoint::ALL.into_iter().find(|point| point.name() == name);
    let passes = passes.parse::<i64>().ok();
    match (point, passes) {
        (Some(point), Some(passes)) => Some(Armed { point, passes_left: AtomicI64::new(passes) }),
        (None, _) | (_, None) => {
            tracing::warn!("{VARIABLE}={text} names no fault point; write a name such as after-append:17");
            None
        }
    }
}
