//! Rewind: one appended commit that brings back the state and the positions of an earlier one. It holds what differs between the
//! two, so that to whoever restores it is a commit like any other. From there the records since are folded again.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec;
use crate::id::{CommitId, CommitNumber, DeploymentNumber};
use crate::intake::{gap, head_start_ms};
use crate::limits::REWIND_BYTES_MAX;
use crate::mutant::{Mutant, wrong};
use crate::task::refold::RefoldedOutputs;
use crate::write_set::WriteSet;

/// Pins that a task keeps, the newest of them. A rewind reaches no further back.
pub const PINS_KEPT_MAX: usize = 32;

/// A deployment that a task's commits were of, from one of them on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedFrom {
    /// The change of what the job runs that brought it.
    pub revision: u64,
    /// Which.
    pub deployment: DeploymentNumber,
    /// Its first commit.
    pub number: CommitNumber,
    /// When that was sealed, milliseconds since 1970 by its host.
    pub sealed_ms: u64,
    /// Id of the commit before.
    pub previous_id: CommitId,
    /// The records unread by the commit before, and those folded since, arrived no earlier than this, in milliseconds since 1970.
    pub unread_from_ms: u64,
}

/// The deployments that a task's commits were of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Oldest first.
    pub kept: Vec<PinnedFrom>,
    /// The newest change that brought one kept no longer; 0 for none.
    pub forgotten: u64,
}

/// Revisions that were undone: what was committed under them is to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undone {
    /// The first.
    pub since: u64,
    /// The one that undid them, itself not undone.
    pub until: u64,
    /// What becomes of outputs.
    pub outputs: RefoldedOutputs,
}

/// Where a rewind leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewindTo {
    /// To the state after this commit; 0 for the beginning.
    pub number: CommitNumber,
    /// Its id.
    pub id: CommitId,
    /// What becomes of outputs.
    pub outputs: RefoldedOutputs,
    /// The records that are folded again arrived no earlier than this, in milliseconds since 1970.
    pub unread_from_ms: u64,
}

impl RewindTo {
    /// How old the records may be that are folded again, in milliseconds, where that is too old for a rewind to be asked for; none where
    /// all are kept, and for long enough until they are read.
    pub fn too_old_to_begin_ms(self, now_ms: u64, retention_ms: u64) -> Option<u64> {
        self.too_old_ms(now_ms, retention_ms, head_start_ms(retention_ms))
    }

    /// The same for one that was asked for and is about to be done.
    pub fn too_old_to_go_back_ms(self, now_ms: u64, retention_ms: u64) -> Option<u64> {
        self.too_old_ms(now_ms, retention_ms, head_start_ms(retention_ms) / 2)
    }

    fn too_old_ms(self, now_ms: u64, retention_ms: u64, ahead_ms: u64) -> Option<u64> {
        let age_ms = now_ms.saturating_sub(self.unread_from_ms);
        let gone = gap(self.unread_from_ms, now_ms.saturating_add(ahead_ms), retention_ms);
        gone.map(|_| age_ms).filter(|_| !wrong(Mutant::RewindToGone))
    }
}

impl Undone {
    /// Whether what was committed under a revision is to be taken back.
    pub fn holds(&self, revision: u64) -> bool {
        (self.since..self.until).contains(&revision)
    }
}

impl Pins {
    /// Notes what a commit is of that is about to be sealed. Returns whether it is another deployment than before, or brought anew.
    pub fn note(&mut self, pin: PinnedFrom) -> bool {
        let changes =
            self.kept.last().is_none_or(|last| (last.deployment, last.revision) != (pin.deployment, pin.revision));
        if changes {
            self.kept.push(pin);
            let over = self.kept.len().saturating_sub(PINS_KEPT_MAX);
            let forgotten = self.kept.drain(..over).map(|pin| pin.revision).max();
            self.forgotten = self.forgotten.max(forgotten.unwrap_or_default());
        }
        changes
    }

    /// Whether of what was undone so much is forgotten that nobody knows where it began.
    pub fn has_forgotten(&self, undone: Undone) -> bool {
        undone.since <= self.forgotten
    }

    /// Where what was undone leads: to before the first commit under it; none where there is none.
    pub fn rewind_to(&self, undone: &[Undone]) -> Option<(&PinnedFrom, RewindTo)> {
        let (pin, undone) = self.kept.iter().find_map(|pin| {
            let undone = undone.iter().rfind(|undone| undone.holds(pin.revision))?;
            Some((pin, undone))
        })?;
        let number = CommitNumber(pin.number.0 - 1);
        let PinnedFrom { previous_id: id, unread_from_ms, .. } = *pin;
        Some((pin, RewindTo { number, id, outputs: undone.outputs, unread_from_ms }))
    }

    /// The pins as they were at a commit.
    #[must_use]
    pub fn at(&self, number: CommitNumber) -> Self {
        let kept = self.kept.iter().filter(|pin| pin.number <= number).cloned().collect();
        Self { kept, forgotten: self.forgotten }
    }
}

/// An entry of a state, or why it could not be read.
pub type Read<E> = Result<(Bytes, Bytes), E>;

/// What a rewind writes: all in which the state at one commit differs from the state now, both in key order. What tells of the
/// task's own past stays as it is now: outputs on their way, the clock, the pins. None where it is more than a commit holds.
///
/// # Errors
/// When either state cannot be read.
pub fn difference<E>(
    then: impl Iterator<Item = Read<E>>,
    now: impl Iterator<Item = Read<E>>,
) -> Result<Option<WriteSet>, E> {
    let mut writes = WriteSet::default();
    let (mut then, mut now) = (then, now);
    let (mut before, mut after) = (then.next().transpose()?, now.next().transpose()?);
    while before.is_some() || after.is_some() {
        let order = match (&before, &after) {
            (Some((before, _)), Some((after, _))) => before.cmp(after),
            (None, _) => Ordering::Greater,
            (_, None) => Ordering::Less,
        };
        let was = if order.is_le() { std::mem::replace(&mut before, then.next().transpose()?) } else { None };
        let is = if order.is_ge() { std::mem::replace(&mut after, now.next().transpose()?) } else { None };
        let key = was.as_ref().or(is.as_ref()).map(|(key, _)| key.clone()).expect("one of them is there");
        let (was, is) = (was.map(|(_, value)| value), is.map(|(_, value)| value));
        if was != is && !codec::outlives_rewind(&key) {
            writes.insert(key, was);
        }
        if writes.weight() > REWIND_BYTES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(writes))
}

/// The undone revisions that an assignment carries: none for most.
pub type UndoneRevisions = Arc<[Undone]>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_set::user_key;

    fn state(text: &str) -> Vec<(Bytes, Bytes)> {
        let entries = text.split_whitespace().map(|entry| entry.split_once('=').expect("key=value"));
        entries.map(|(key, value)| (user_key(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))).collect()
    }

    fn brought_back(then: &str, now: &str) -> Vec<(Bytes, Option<Bytes>)> {
        let read = |text| state(text).into_iter().map(Ok::<_, ()>);
        let writes = difference(read(then), read(now)).expect("both are read").expect("they are small");
        writes.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    #[test]
    fn a_rewind_writes_what_differs() {
        let value = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
        let key = |text: &str| user_key(text.as_bytes());
        let expected = [(key("b"), value("2")), (key("c"), None), (key("e"), value("5"))];
        assert_eq!(brought_back("a=1 b=2 d=4 e=5", "a=1 b=3 c=9 d=4"), expected);
        assert_eq!(brought_back("", "a=1"), [(key("a"), None)]);
        assert_eq!(brought_back("a=1", ""), [(key("a"), value("1"))]);
        assert_eq!(brought_back("a=1", "a=1"), []);
    }

    fn pins_of(text: &[(u64, u64, u64)]) -> Pins {
        let pin = |(revision, deployment, number): &(u64, u64, u64)| PinnedFrom {
            revision: *revision,
            deployment: DeploymentNumber(*deployment),
            number: CommitNumber(*number),
            sealed_ms: 0,
            previous_id: CommitId([*number as u8; 16]),
            unread_from_ms: 0,
        };
        Pins { kept: text.iter().map(pin).collect(), forgotten: 0 }
    }

    #[test]
    fn a_task_goes_back_to_before_the_first_of_what_was_undone() {
        let undone = |since, until| Undone { since, until, outputs: RefoldedOutputs::Withhold };
        let pins = pins_of(&[(1, 1, 2), (3, 2, 10), (1, 1, 20)]);
        let to = |undone: &[Undone]| pins.rewind_to(undone).map(|(_, to)| to.number.0);
        assert_eq!(to(&[undone(3, 5)]), Some(9));
        assert_eq!(to(&[undone(2, 3)]), None);
        assert_eq!(to(&[undone(3, 4), undone(1, 6)]), Some(1));
        assert_eq!(pins.at(CommitNumber(9)).kept.len(), 1);
    }

    #[test]
    fn what_brought_a_pin_is_known_for_so_long_and_then_known_to_be_forgotten() {
        let mut pins = Pins::default();
        for revision in 1..=PINS_KEPT_MAX as u64 + 2 {
            let pin = pins_of(&[(revision, 1, revision)]).kept.remove(0);
            assert!(pins.note(pin.clone()), "brought anew");
            assert!(!pins.note(pin), "and then the same");
        }
        let undone = |since| Undone { since, until: 100, outputs: RefoldedOutputs::Withhold };
        assert_eq!((pins.kept.len(), pins.forgotten), (PINS_KEPT_MAX, 2));
        assert!(pins.has_forgotten(undone(2)) && !pins.has_forgotten(undone(3)));
    }

    #[test]
    fn records_are_kept_for_as_long_as_it_takes_to_read_them_again() {
        const DAY_MS: u64 = 86_400_000;
        let id = CommitId::default();
        let gone = |unread_from_ms| {
            let to = RewindTo { number: CommitNumber(1), id, outputs: RefoldedOutputs::Withhold, unread_from_ms };
            [to.too_old_to_begin_ms(10 * DAY_MS, DAY_MS), to.too_old_to_go_back_ms(10 * DAY_MS, DAY_MS)]
        };
        let too_old_ms = DAY_MS - head_start_ms(DAY_MS);
        assert_eq!(gone(10 * DAY_MS - too_old_ms), [Some(too_old_ms), None]);
        assert_eq!(gone(10 * DAY_MS - too_old_ms + crate::limits::CLOCK_MARGIN_MS), [None, None]);
        assert_eq!(gone(9 * DAY_MS), [Some(DAY_MS); 2]);
    }
}
