//! What came of a shadow.

use pelton_engine::{Cost, DifferenceKind, Example, Findings};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceView {
    /// An output: another, one more or one less for its partition key.
    Output,
    /// A key of the state.
    Key,
    /// A timer that a call set or cancelled.
    Timer,
    /// Whether a call failed, and how.
    Failure,
}

/// How many differences of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DifferencesView {
    /// Outputs: another, one more or one less for a partition key.
    pub outputs: u64,
    /// Writes of keys after which the two states differ there.
    pub keys: u64,
    /// Timers that one call set or cancelled and the other not, or to another time.
    pub timers: u64,
    /// Calls of which one failed and the other not, or in another way.
    pub failures: u64,
}

impl DifferencesView {
    /// All together.
    pub fn total(&self) -> u64 {
        self.outputs + self.keys + self.timers + self.failures
    }
}

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComparedView {
    /// Stretches of calls, each begun with new instances on both sides.
    pub windows: u64,
    /// Calls.
    pub calls: u64,
    /// Records in them.
    pub records: u64,
    /// Outputs.
    pub outputs: u64,
    /// Writes of keys.
    pub keys: u64,
    /// Timers set or cancelled.
    pub timers: u64,
}

/// What the compared calls of one side cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CostView {
    /// Time for each record, on average, in nanoseconds.
    pub record_ns: u64,
    /// Half of the records took no longer, each taken to be as long as the others of its call.
    pub record_ns_p50: u64,
    /// And 99 of a hundred.
    pub record_ns_p99: u64,
    /// Linear memory of the largest instance.
    pub memory_bytes: u64,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExampleView {
    /// What differs.
    pub kind: DifferenceView,
    /// In which task.
    pub task: u16,
    /// The time that the call was told.
    pub at_ms: u64,
    /// What the call was given: stream, shard and sequence number of its first record, or its first timer.
    pub given: String,
    /// Which key or timer, or which output and partition key; empty for a failure.
    pub what: String,
    /// What the task has there, its beginning, as text or in hexadecimal after 0x; null for nothing.
    pub live: Option<String>,
    /// What the shadow has there.
    pub shadow: Option<String>,
}

/// What came of a shadow so far, on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FindingsView {
    /// The shadow.
    pub deployment: u64,
    /// How much time it may take, in hundredths of what the tasks' own calls take.
    pub share_percent: u32,
    /// What was compared.
    pub compared: ComparedView,
    /// How much differed.
    pub differences: DifferencesView,
    /// The first differences.
    pub examples: Vec<ExampleView>,
    /// What the tasks' own calls cost that were compared.
    pub live: CostView,
    /// What the shadow's cost.
    pub shadow: CostView,
    /// Windows that ended because more of the state differed than is kept.
    pub cut: u64,
    /// Windows that ended because a call of the shadow took too long.
    pub late: u64,
    /// Why a window that was due could not begin, last; null where each could.
    pub obstacle: Option<String>,
}

impl From<DifferenceKind> for DifferenceView {
    fn from(kind: DifferenceKind) -> Self {
        match kind {
            DifferenceKind::Output => Self::Output,
            DifferenceKind::Key => Self::Key,
            DifferenceKind::Timer => Self::Timer,
            DifferenceKind::Failure => Self::Failure,
        }
    }
}

impl From<&Cost> for CostView {
    fn from(cost: &Cost) -> Self {
        Self {
            record_ns: cost.ns.checked_div(cost.records).unwrap_or(0),
            record_ns_p50: cost.record_ns(50),
            record_ns_p99: cost.record_ns(99),
            memory_bytes: cost.memory_bytes,
        }
    }
}

impl From<Example> for ExampleView {
    fn from(example: Example) -> Self {
        let Example { kind, task, at_ms, given, what, live, shadow } = example;
        Self { kind: kind.into(), task: task.0, at_ms, given, what, live, shadow }
    }
}

impl From<Findings> for FindingsView {
    fn from(found: Findings) -> Self {
        let count = |kind| found.differences.get(&kind).copied().unwrap_or(0);
        Self {
            deployment: found.deployment.0,
            share_percent: found.share_percent,
            compared: ComparedView {
                windows: found.windows,
                calls: found.calls,
                records: found.records,
                outputs: found.outputs,
                keys: found.keys,
                timers: found.timers,
            },
            differences: DifferencesView {
                outputs: count(DifferenceKind::Output),
                keys: count(DifferenceKind::Key),
                timers: count(DifferenceKind::Timer),
                failures: count(DifferenceKind::Failure),
            },
            live: (&found.live).into(),
            shadow: (&found.shadow).into(),
            examples: found.examples.into_iter().map(Into::into).collect(),
            cut: found.cut,
            late: found.late,
            obstacle: found.obstacle,
        }
    }
}
