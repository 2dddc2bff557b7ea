//! What came of comparing a shadow with its tasks: counts, times, and the first differences in words. Of a bounded size, however long
//! it goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use pelton_core::id::{DeploymentNumber, TaskId};

/// Differences that are told in words, of a task and of a job.
pub const EXAMPLES_MAX: usize = 10;
/// A key or a value in an example is cut to this.
const TEXT_BYTES_MAX: usize = 96;
/// Times are counted in so many steps for each doubling.
const STEPS: usize = 4;

/// What can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// An output: another, one more or one less for its partition key.
    Output,
    /// A key of the state.
    Key,
    /// A timer that a call set or cancelled.
    Timer,
    /// Whether a call failed, and how.
    Failure,
}

/// A difference in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// What differs.
    pub kind: DifferenceKind,
    /// In which task.
    pub task: TaskId,
    /// The time that the call was told, milliseconds since 1970.
    pub at_ms: u64,
    /// What the call was given: the shard and sequence number of its first record, or its first timer.
    pub given: String,
    /// Which key, output or timer; nothing for a failure.
    pub what: String,
    /// What the task has there, if anything.
    pub live: Option<String>,
    /// What the shadow has there, if anything.
    pub shadow: Option<String>,
}

/// What one call's comparison found.
#[derive(Debug, Default)]
pub struct Found {
    pub outputs: u64,
    pub keys: u64,
    pub timers: u64,
    pub differences: BTreeMap<DifferenceKind, u64>,
    /// Kind, what, and what either has there.
    pub examples: Vec<(DifferenceKind, String, Option<String>, Option<String>)>,
    /// How many examples are wanted yet.
    pub room: usize,
}

impl Found {
    /// Takes note of a difference; words are made only where they are wanted.
    pub fn differ(&mut self, kind: DifferenceKind, words: impl FnOnce() -> (String, Option<String>, Option<String>)) {
        *self.differences.entry(kind).or_default() += 1;
        if self.examples.len() < self.room {
            let (what, live, shadow) = words();
            self.examples.push((kind, what, live, shadow));
        }
    }
}

/// What calls cost.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// Time of calls with records, in nanoseconds.
    pub ns: u64,
    /// Records in them.
    pub records: u64,
    /// Linear memory of the largest instance, in bytes.
    pub memory_bytes: u64,
    /// Records by how long each took.
    steps: BTreeMap<u16, u64>,
}

impl Cost {
    /// Takes note of a call with so many records.
    pub fn add(&mut self, took: Duration, records: u64) {
        if records == 0 {
            return;
        }
        let ns = took.as_nanos() as u64;
        self.ns += ns;
        self.records += records;
        *self.steps.entry(step(ns / records)).or_default() += records;
    }

    /// The time in which so many of a hundred records were done at most, in nanoseconds, as near as a fifth of it; 0 without any.
    pub fn record_ns(&self, percent: u64) -> u64 {
        let wanted = (self.records * percent).div_ceil(100);
        let mut passed = 0;
        let found = self.steps.iter().find(|(_, records)| {
            passed += *records;
            passed >= wanted
        });
        found.filter(|_| self.records > 0).map_or(0, |(step, _)| bound(*step))
    }

    fn merge(&mut self, other: &Self) {
        self.ns += other.ns;
        self.records += other.records;
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        other.steps.iter().for_each(|(step, records)| *self.steps.entry(*step).or_default() += records);
    }
}

/// The step of a time.
fn step(ns: u64) -> u16 {
    let ns = ns.max(STEPS as u64);
    let doublings = ns.ilog2();
    (doublings as usize * STEPS + (ns >> (doublings - STEPS.ilog2())) as usize % STEPS) as u16
}

/// The longest time of a step, in nanoseconds.
fn bound(step: u16) -> u64 {
    let (doublings, part) = (u32::from(step) / STEPS as u32, u128::from(step) % STEPS as u128);
    ((STEPS as u128 + part + 1) << (doublings - STEPS.ilog2())).saturating_sub(1).try_into().unwrap_or(u64::MAX)
}

/// What came of a shadow so far, on this host.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The shadow.
    pub deployment: DeploymentNumber,
    /// How much time it may take, in hundredths of what the task's own calls take.
    pub share_percent: u32,
    /// Stretches of calls that were compared, each begun with new instances on both sides.
    pub windows: u64,
    /// Calls compared.
    pub calls: u64,
    /// Records in them.
    pub records: u64,
    /// Outputs compared.
    pub outputs: u64,
    /// Writes of keys compared.
    pub keys: u64,
    /// Timers set or cancelled that were compared.
    pub timers: u64,
    /// Differences, by kind.
    pub differences: BTreeMap<DifferenceKind, u64>,
    /// The first of them.
    pub examples: Vec<Example>,
    /// What the task's own calls cost that were compared.
    pub live: Cost,
    /// What the shadow's cost.
    pub shadow: Cost,
    /// Windows that ended because more of the state differed than is kept.
    pub cut: u64,
    /// Windows that ended because a call of the shadow took too long.
    pub late: u64,
    /// Why a window that was due could not begin, last.
    pub obstacle: Option<String>,
}

impl Findings {
    /// Nothing yet.
    pub fn new(deployment: DeploymentNumber, share_percent: u32) -> Self {
        Self {
            deployment,
            share_percent,
            windows: 0,
            calls: 0,
            records: 0,
            outputs: 0,
            keys: 0,
            timers: 0,
            differences: BTreeMap::new(),
            examples: Vec::new(),
            live: Cost::default(),
            shadow: Cost::default(),
            cut: 0,
            late: 0,
            obstacle: None,
        }
    }

    /// Takes what a comparison found, of a call of a task.
    pub fn take(&mut self, found: Found, task: TaskId, at_ms: u64, given: impl Fn() -> String) {
        self.calls += 1;
        self.outputs += found.outputs;
        self.keys += found.keys;
        self.timers += found.timers;
        found.differences.iter().for_each(|(kind, count)| *self.differences.entry(*kind).or_default() += count);
        for (kind, what, live, shadow) in found.examples {
            self.examples.push(Example { kind, task, at_ms, given: given(), what, live, shadow });
        }
    }

    /// Adds those of another task.
    pub fn merge(&mut self, other: Self) {
        self.windows += other.windows;
        self.calls += other.calls;
        self.records += other.records;
        self.outputs += other.outputs;
        self.keys += other.keys;
        self.timers += other.timers;
        self.cut += other.cut;
        self.late += other.late;
        other.differences.iter().for_each(|(kind, count)| *self.differences.entry(*kind).or_default() += count);
        self.live.merge(&other.live);
        self.shadow.merge(&other.shadow);
        self.obstacle = self.obstacle.take().or(other.obstacle);
        self.examples.extend(other.examples);
        self.examples.sort_by_key(|example| example.at_ms);
        self.examples.truncate(EXAMPLES_MAX);
    }
}

/// Bytes for people: as text where they are one, else in hexadecimal; the beginning, where there are many.
pub fn shown(bytes: &[u8]) -> String {
    let is_text = |text: &str| !text.chars().any(char::is_control);
    let (mut text, rest) = match std::str::from_utf8(bytes) {
        Ok(text) if is_text(text) => {
            let end = text.floor_char_boundary(TEXT_BYTES_MAX);
            (text[..end].to_owned(), text.len() - end)
        }
        _ => {
            let end = bytes.len().min(TEXT_BYTES_MAX / 2);
            let digits = bytes[..end].iter().map(|byte| format!("{byte:02x}"));
            (std::iter::once("0x".to_owned()).chain(digits).collect(), bytes.len() - end)
        }
    };
    if rest > 0 {
        text.push_str(&format!("… and {rest} bytes more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_near_as_a_fifth() {
        for ns in [4, 5, 7, 8, 100, 999, 1_000_000, 123_456_789, u64::MAX / 2] {
            let found = bound(step(ns));
            assert!(found >= ns && found as f64 <= ns as f64 * 1.26, "{ns}: {found}");
        }
        let mut cost = Cost::default();
        (1..=100u64).for_each(|at| cost.add(Duration::from_nanos(at * 1_000), 1));
        let near = |found: u64, ns: u64| (ns..=ns * 5 / 4).contains(&found);
        assert!(near(cost.record_ns(50), 50_000) && near(cost.record_ns(99), 99_000), "{cost:?}");
        assert_eq!((cost.records, cost.ns, Cost::default().record_ns(50)), (100, 5_050_000, 0));
    }

    #[test]
    fn bytes_are_shown_as_what_they_are_and_shortened() {
        assert_eq!(shown("läuft".as_bytes()), "läuft");
        assert_eq!(shown(&[0, 255]), "0x00ff");
        assert_eq!(shown(&[b'a'; 100]), format!("{}… and 4 bytes more", "a".repeat(96)));
        assert_eq!(shown(&[1; 50]), format!("0x{}… and 2 bytes more", "01".repeat(48)));
    }
}
