//! What a task's call and its shadow's did with the same, side by side. The shadow's state is the task's own, but for an overlay of
//! the keys in which the two differ: it is empty while they agree, and a key leaves it that both write alike.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use pelton_core::output::Output;
use pelton_core::task::{CallOutcome, Failure, FailureKind};
use pelton_core::timers::TimerChange;
use pelton_core::write_set::{StateKey, WriteSet};

use super::findings::{DifferenceKind, Found, shown};
use crate::store::StoreError;

/// How much an overlay may hold.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub keys: usize,
    /// Of keys and values.
    pub bytes: usize,
}

impl Room {
    pub fn is_passed_by(self, overlay: &WriteSet) -> bool {
        overlay.len() > self.keys || overlay.bytes() > self.bytes
    }
}

/// Compares two calls, and has the overlay hold then what differs after them; once it has no room for more, no key is looked at any more. `own` tells what the task had under a key before. Returns
/// whether the shadow can go on beside the task.
///
/// # Errors
/// When `own` fails.
pub fn compare(
    live: &CallOutcome,
    shadow: &CallOutcome,
    overlay: (&mut WriteSet, Room),
    own: impl Fn(&[u8]) -> Result<Option<Bytes>, StoreError>,
    found: &mut Found,
) -> Result<bool, StoreError> {
    match (live, shadow) {
        (
            CallOutcome::Folded { writes, outputs, timers },
            CallOutcome::Folded { writes: shadow_writes, outputs: shadow_outputs, timers: shadow_timers },
        ) => {
            compare_outputs(outputs, shadow_outputs, found);
            compare_timers(timers, shadow_timers, found);
            compare_writes(writes, shadow_writes, overlay, own, found)?;
            Ok(true)
        }
        // What failed is undone: the two stand where they stood.
        (CallOutcome::Failed(live), CallOutcome::Failed(shadow)) => {
            if (live.kind, live.index) != (shadow.kind, shadow.index) {
                found.differ(DifferenceKind::Failure, || (String::new(), Some(told(live)), Some(told(shadow))));
            }
            Ok(true)
        }
        (CallOutcome::Failed(live), CallOutcome::Folded { .. }) => {
            found.differ(DifferenceKind::Failure, || (String::new(), Some(told(live)), None));
            Ok(true)
        }
        (CallOutcome::Folded { .. }, CallOutcome::Failed(shadow)) => {
            found.differ(DifferenceKind::Failure, || (String::new(), None, Some(told(shadow))));
            Ok(false)
        }
    }
}

fn told(failure: &Failure) -> String {
    let kind = match failure.kind {
        FailureKind::Retry => "retry",
        FailureKind::Poison => "poison",
        FailureKind::Fatal => "fatal",
        FailureKind::NoRoom => "no room",
    };
    format!("{kind}: {}", shown(failure.message.as_bytes()))
}

/// Outputs keep their order for each partition key, and no other.
fn compare_outputs(live: &[Output], shadow: &[Output], found: &mut Found) {
    found.outputs += live.len() as u64;
    if live == shadow {
        return;
    }
    let (mut live, mut shadow) = (by_key(live), by_key(shadow));
    let keys: Vec<_> = live.keys().chain(shadow.keys()).copied().collect();
    for key in keys {
        // A key of both is looked at when it comes first.
        let (live, shadow) = (live.remove(&key).unwrap_or_default(), shadow.remove(&key).unwrap_or_default());
        for at in 0..live.len().max(shadow.len()) {
            let (live, shadow) = (live.get(at), shadow.get(at));
            if live != shadow {
                let (output, partition_key) = (key.0, shown(key.1.as_bytes()));
                let shown = |data: &&Bytes| shown(data);
                found.differ(DifferenceKind::Output, || {
                    (format!("{output}: {partition_key}"), live.map(shown), shadow.map(shown))
                });
            }
        }
    }
}

fn by_key(outputs: &[Output]) -> BTreeMap<(&str, &str), Vec<&Bytes>> {
    let mut by_key: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for output in outputs {
        by_key.entry((output.output.as_str(), output.partition_key.as_str())).or_default().push(&output.data);
    }
    by_key
}

/// What the calls did to timers, each name once and rising.
fn compare_timers(live: &[TimerChange], shadow: &[TimerChange], found: &mut Found) {
    let words = |change: Option<Option<u64>>| {
        change.map(|due| due.map_or("cancelled".to_owned(), |due_ms| format!("set to {due_ms}")))
    };
    joined(
        live.iter().map(|(name, due)| (name, *due)),
        shadow.iter().map(|(name, due)| (name, *due)),
        |name, live, shadow| {
            found.timers += 1;
            if live != shadow {
                found.differ(DifferenceKind::Timer, || (shown(name.as_bytes()), words(live), words(shadow)));
            }
            Ok(())
        },
    )
    .expect("comparing timers reads nothing");
}

fn compare_writes(
    live: &WriteSet,
    shadow: &WriteSet,
    (overlay, room): (&mut WriteSet, Room),
    own: impl Fn(&[u8]) -> Result<Option<Bytes>, StoreError>,
    found: &mut Found,
) -> Result<(), StoreError> {
    joined(live.iter(), shadow.iter(), |key: &StateKey, live, shadow| {
        if room.is_passed_by(overlay) {
            return Ok(());
        }
        found.keys += 1;
        let live = live.map_or_else(|| own(key), |written| Ok(written.clone()))?;
        let shadow = match (shadow, overlay.get(key)) {
            (Some(written), _) => written.clone(),
            (None, Some(kept)) => kept.cloned(),
            (None, None) => own(key)?,
        };
        if live == shadow {
            overlay.remove(key);
            return Ok(());
        }
        let shown_value = |value: &Option<Bytes>| value.as_deref().map(shown);
        found.differ(DifferenceKind::Key, || (shown(&key[1..]), shown_value(&live), shown_value(&shadow)));
        overlay.insert(key.clone(), shadow);
        Ok(())
    })
}

/// Every key of two rising sequences, with what each has under it.
fn joined<K: Ord, V>(
    left: impl Iterator<Item = (K, V)>,
    right: impl Iterator<Item = (K, V)>,
    mut each: impl FnMut(K, Option<V>, Option<V>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (Some((left, _)), Some((right, _))) => left.cmp(right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return Ok(()),
        };
        let left = if order.is_le() { left.next() } else { None };
        let right = if order.is_ge() { right.next() } else { None };
        match (left, right) {
            (Some((key, left)), right) => each(key, Some(left), right.map(|(_, right)| right))?,
            (None, Some((key, right))) => each(key, None, Some(right))?,
            (None, None) => return Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
