use pelton_core::write_set::user_key;

use super::super::findings::EXAMPLES_MAX;
use super::*;

/// Enough.
const ROOM: Room = Room { keys: 1_000, bytes: 1 << 20 };

/// A write set from words: `key=value` puts, `key-` deletes.
fn writes(words: &str) -> WriteSet {
    let write = |word: &str| match word.split_once('=') {
        Some((key, value)) => (user_key(key.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes()))),
        None => (user_key(word.trim_end_matches('-').as_bytes()), None),
    };
    words.split_whitespace().map(write).collect()
}

/// The words of a write set.
fn words(writes: &WriteSet) -> String {
    let word = |(key, value): (&StateKey, &Option<Bytes>)| match value {
        Some(value) => format!("{}={}", shown(&key[1..]), shown(value)),
        None => format!("{}-", shown(&key[1..])),
    };
    writes.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// What a call came to: writes, then `>key=data` for outputs and `@name=time` for timers; `!kind` for a failure.
fn outcome(words: &str) -> CallOutcome {
    if let Some(kind) = words.strip_prefix('!') {
        let kind = if kind == "poison" { FailureKind::Poison } else { FailureKind::Retry };
        return CallOutcome::Failed(Failure { kind, index: None, message: "told to".into() });
    }
    let (mut written, mut outputs, mut timers) = (Vec::new(), Vec::new(), Vec::new());
    for word in words.split_whitespace() {
        match (word.strip_prefix('>'), word.strip_prefix('@')) {
            (Some(output), _) => {
                let (key, data) = output.split_once('=').unwrap();
                let data = Bytes::copy_from_slice(data.as_bytes());
                outputs.push(Output { output: "out".into(), partition_key: key.into(), data, rewind: None });
            }
            (_, Some(timer)) => {
                let (name, due) = timer.split_once('=').unwrap();
                timers.push((name.into(), due.parse().ok()));
            }
            _ => written.push(word),
        }
    }
    CallOutcome::Folded { writes: writes(&written.join(" ")), outputs, timers }
}

/// Compares calls over a state and an overlay. Returns the overlay after it, the differences by kind (output, key, timer, failure),
/// and whether the shadow goes on.
fn check(state: &str, overlay: &str, live: &str, shadow: &str) -> (String, [u64; 4], bool) {
    let (state, mut overlay) = (writes(state), writes(overlay));
    let mut found = Found { room: EXAMPLES_MAX, ..Found::default() };
    let own = |key: &[u8]| Ok(state.get(key).flatten().cloned());
    let goes_on = compare(&outcome(live), &outcome(shadow), (&mut overlay, ROOM), own, &mut found).unwrap();
    use DifferenceKind::{Failure, Key, Output, Timer};
    let counts = [Output, Key, Timer, Failure].map(|kind| found.differences.get(&kind).copied().unwrap_or(0));
    assert_eq!(found.examples.len() as u64, counts.iter().sum::<u64>());
    (words(&overlay), counts, goes_on)
}

#[test]
fn the_overlay_holds_what_differs_and_nothing_else() {
    let keys = |differences| [0, differences, 0, 0];
    for (state, overlay, live, shadow, after, differences) in [
        ("a=1", "", "a=2 b-", "a=2 b-", "", 0),
        ("a=1", "", "a=2", "a=3", "a=3", 1),
        // What only one writes differs from what the other has.
        ("a=1", "", "a=2", "", "a=1", 1),
        ("a=1", "", "", "a=2", "a=2", 1),
        ("", "", "a=2", "", "a-", 1),
        ("a=1", "", "", "a-", "a-", 1),
        // Written to what it was, it does not.
        ("a=1", "", "a=1", "", "", 0),
        ("a=1", "", "", "a=1 b-", "", 0),
        // A difference stays until both have the same.
        ("a=1 b=1", "a=9 b=9", "c=1", "c=1", "a=9 b=9", 0),
        ("a=1", "a=9", "a=2", "a=2", "", 0),
        ("a=1", "a=9", "a=9", "", "", 0),
        ("a=1", "a=9", "a=2", "", "a=9", 1),
        ("a=1", "a=9", "", "a=1", "", 0),
        ("a=1", "a-", "a-", "", "", 0),
    ] {
        let found = check(state, overlay, live, shadow);
        assert_eq!(found, (after.to_owned(), keys(differences), true), "{state} | {overlay} | {live} | {shadow}");
    }
}

#[test]
fn outputs_are_compared_in_order_for_each_key_and_timers_by_name() {
    for (live, shadow, outputs, timers) in [
        (">k=1 >j=1 >k=2", ">k=1 >k=2 >j=1", 0, 0),
        (">k=1 >k=2", ">k=2 >k=1", 2, 0),
        (">k=1 >j=1", ">k=1", 1, 0),
        ("", ">k=1 >k=2", 2, 0),
        ("@a=5 @b=cancel", "@a=5 @b=cancel", 0, 0),
        ("@a=5 @b=6", "@a=6 @c=6", 0, 3),
        ("@a=cancel", "", 0, 1),
    ] {
        assert_eq!(check("", "", live, shadow), (String::new(), [outputs, 0, timers, 0], true), "{live} | {shadow}");
    }
}

#[test]
fn a_shadow_that_fails_alone_cannot_go_on() {
    for (live, shadow, failures, goes_on) in [
        ("!retry", "!retry", 0, true),
        ("!retry", "!poison", 1, true),
        // What the task's own call undid the shadow undoes too.
        ("!retry", "a=2", 1, true),
        ("a=2", "!retry", 1, false),
    ] {
        let found = check("a=1", "b=9", live, shadow);
        assert_eq!(found, ("b=9".to_owned(), [0, 0, 0, failures], goes_on), "{live} | {shadow}");
    }
}

#[test]
fn of_many_differences_the_first_are_told() {
    let many: String = (0..50).map(|at| format!("k{at:02}=1 ")).collect();
    let (mut overlay, mut found) = (WriteSet::default(), Found { room: 3, ..Found::default() });
    compare(&outcome(&many), &outcome(""), (&mut overlay, ROOM), |_| Ok(None), &mut found).unwrap();
    assert_eq!((found.keys, found.differences[&DifferenceKind::Key], overlay.len()), (50, 50, 50));
    let told: Vec<_> = found.examples.iter().map(|(_, what, live, _)| (what.as_str(), live.as_deref())).collect();
    assert_eq!(told, ["k00", "k01", "k02"].map(|key| (key, Some("1"))));
}

#[test]
fn an_overlay_takes_no_more_than_one_key_beyond_its_room() {
    let many: String = (0..50).map(|at| format!("k{at:02}=1 ")).collect();
    for (room, held) in [(Room { keys: 10, ..ROOM }, 11), (Room { bytes: 0, ..ROOM }, 1)] {
        let (mut overlay, mut found) = (WriteSet::default(), Found::default());
        let looked = std::cell::Cell::new(0);
        let own = |_: &[u8]| {
            looked.set(looked.get() + 1);
            Ok(None)
        };
        compare(&outcome(&many), &outcome(""), (&mut overlay, room), own, &mut found).unwrap();
        assert_eq!((overlay.len(), found.keys, looked.get()), (held, held as u64, held));
    }
}
