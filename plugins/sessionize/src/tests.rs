//! Sessions told, kept and timed, in a host in memory.

use super::*;
use pelton_task::testing::{FIRST_ARRIVED_MS, Harness};

/// Plays `key@ms` records, then lets time pass, and says which sessions were told, with times after the first.
fn check(records: &str, until_ms: u64, expected: &[&str]) {
    let mut harness = Harness::<Sessionize>::new().config("gap-ms", "100").output("sessions");
    let mut now_ms = 0;
    for record in records.split(' ') {
        let (key, at) = record.split_once('@').expect("a record");
        let at_ms: u64 = at.parse().expect("a time");
        // The harness has each record arrive a millisecond after the one before.
        harness.wait_ms(at_ms.saturating_sub(now_ms)).record("clicks", key, b"").run().unwrap();
        now_ms = at_ms.max(now_ms) + 1;
    }
    harness.run_until(FIRST_ARRIVED_MS + until_ms).unwrap();
    let told = harness.messages("sessions").iter().map(|message| {
        let text = String::from_utf8(message.data.clone()).unwrap();
        let (span, records) = text.split_once(' ').unwrap();
        let times = span.split("..").map(|ms| (ms.parse::<u64>().unwrap() - FIRST_ARRIVED_MS).to_string());
        format!("{} {} {records}", message.partition_key, times.collect::<Vec<_>>().join(".."))
    });
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[test]
fn a_session_is_over_when_nothing_came_for_the_gap() {
    check("a@0 a@50 b@60 a@120", 200, &["b 60..60 1"]);
    check("a@0 a@50 b@60 a@120", 221, &["b 60..60 1", "a 0..120 3"]);
    check("a@0 a@50 a@151", 152, &["a 0..50 2"]);
    check("a@0", 100, &[]);
}

#[test]
fn the_last_sessions_are_kept_and_the_timer_is_that_of_the_first() {
    let mut harness = Harness::<Sessionize>::new().config("gap-ms", "100").output("sessions");
    for _ in 0..5 {
        harness.record("clicks", "a", b"").record("clicks", "b", b"").wait_ms(1_000).run().unwrap();
    }
    let first = harness.state().keys().find(|key| key.starts_with(b"due/")).unwrap();
    let due_ms = u64::from_be_bytes(first[4..12].try_into().unwrap());
    assert_eq!(harness.timers()["next"], due_ms);
    harness.run_until(FIRST_ARRIVED_MS + 10_000).unwrap();
    assert!(harness.timers().is_empty() && !harness.state().keys().any(|key| key.starts_with(b"open/")));
    assert_eq!(harness.state().len(), 2 * KEPT);
    assert_eq!(harness.messages("sessions").len(), 10);
}
