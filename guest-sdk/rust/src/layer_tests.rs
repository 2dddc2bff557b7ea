//! What the layer keeps, seen from a task: own writes are read, the host is called as seldom as it can be, and what it
//! refuses is blamed on the right record.

use crate::map::MapScan;
use crate::testing::Harness;
use crate::{Call, Context, Direction, Failure, FailureKind, Map, Record, Task, Value};

const NOTES: Map<str, str> = Map::new("notes/");
const COUNTS: Map<str, u64> = Map::new("counts/");
const LAST: Value<i64> = Value::new("last");

/// A task that does what its records say, one word after another, and says what it saw on the output `seen`.
struct Script;

impl Task for Script {
    fn init(_context: &Context) -> Result<Self, String> {
        Ok(Self)
    }

    fn process(&mut self, record: &Record<'_>, call: &mut Call) -> Result<(), Failure> {
        let script = std::str::from_utf8(record.data()).unwrap();
        for step in script.split_whitespace() {
            let (verb, rest) = step.split_once(':').unwrap_or((step, ""));
            let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
            perform(call, verb, key, value)?;
        }
        Ok(())
    }
}

fn perform(call: &mut Call, verb: &str, key: &str, value: &str) -> Result<(), Failure> {
    match verb {
        "put" => NOTES.put(call, key, value),
        "delete" => NOTES.delete(call, key),
        "add" => COUNTS.add(call, key, value.parse().unwrap()),
        "set" => COUNTS.put(call, key, &value.parse().unwrap()),
        "count" => {
            let count = COUNTS.get(call, key)?.unwrap_or(0);
            call.emit("seen", key, count.to_string().as_bytes())
        }
        "append" => NOTES.update(call, key, |old| Some(old.unwrap_or_default() + value)),
        "get" => {
            let note = NOTES.get(call, key)?.unwrap_or_else(|| "-".into());
            call.emit("seen", key, note.as_bytes())
        }
        "prefetch" => NOTES.prefetch(call, key.split(',')),
        "last" => LAST.update(call, |last| Some(last.unwrap_or(-5) + 1)),
        "scan" => show(NOTES.scan(call, Direction::Forward), call),
        "back" => show(NOTES.scan(call, Direction::Back), call),
        "range" => show(NOTES.scan_range(call, key, value, Direction::Forward), call),
        "key" => call.put(&vec![b'k'; value.parse().unwrap()], b""),
        "value" => call.put(b"value", &vec![0; value.parse().unwrap()]),
        "emit" => call.emit(key, "k", &vec![0; value.parse().unwrap()]),
        verb => Err(Failure::poison(format!("no verb {verb}"))),
    }
}

fn show(mut scan: MapScan<str, str>, call: &mut Call) -> Result<(), Failure> {
    while let Some((key, note)) = scan.next(call)? {
        call.emit("seen", &key, note.as_bytes())?;
    }
    Ok(())
}

fn harness() -> Harness<Script> {
    Harness::new().output("seen")
}

fn seen(harness: &Harness<Script>) -> String {
    let one = |message: &crate::testing::Message| {
        format!("{}={}", message.partition_key, String::from_utf8_lossy(&message.data))
    };
    harness.messages("seen").iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Runs one record after another in one call and compares what was seen.
fn check(scripts: &[&str], expected: &str) -> Harness<Script> {
    let mut harness = harness();
    harness.put("notes/old", "before").put("counts/old", 7u64.to_be_bytes());
    for script in scripts {
        harness.record("in", "key", script);
    }
    harness.run().unwrap();
    assert_eq!(seen(&harness), expected, "{scripts:?}");
    harness
}

#[test]
fn reads_see_own_writes() {
    check(&["put:a=1 get:a", "put:a=2 get:a delete:a get:a"], "a=1 a=2 a=-");
    check(&["get:old delete:old get:old append:old=x get:old"], "old=before old=- old=x");
    check(&["add:a=2 count:a add:a=3 count:a", "add:old=1 count:old"], "a=2 a=5 old=8");
    check(&["set:a=1 add:a=1 count:a", "count:old add:old=1 count:old"], "a=2 old=7 old=8");
}

#[test]
fn scans_see_own_writes_both_ways() {
    check(&["put:b=2 put:a=1 scan", "delete:old put:c=3 back"], "a=1 b=2 old=before c=3 b=2 a=1");
    check(&["put:a=1 put:b=2 put:ba=3 put:c=4 range:b=c"], "b=2 ba=3");
    let mut many = harness();
    for number in 0..2_500 {
        many.put(format!("notes/{number:04}"), "");
    }
    many.put("notes", "below").put("notes0", "above").record("in", "key", "delete:1234 scan back").run().unwrap();
    let keys: Vec<&str> = many.messages("seen").iter().map(|message| message.partition_key.as_str()).collect();
    let (forward, back) = keys.split_at(2_499);
    assert!(forward.is_sorted() && forward.first() == Some(&"0000") && !forward.contains(&"1234"));
    assert!(back.iter().rev().eq(forward.iter()));
}

#[test]
fn the_host_is_called_once_for_what_a_call_does_often() {
    let harness = check(&["add:a=1 add:b=1", "add:a=1 add:old=1"], "");
    assert_eq!(["get", "get-many", "write-many"].map(|name| harness.host_calls(name)), [0, 1, 1]);
    assert_eq!(harness.state()[&b"counts/a"[..]], 2u64.to_be_bytes());
    assert_eq!(harness.state()[&b"counts/old"[..]], 8u64.to_be_bytes());

    let harness = check(&["prefetch:a,old,a", "get:a get:old", "prefetch:old get:old"], "a=- old=before old=before");
    assert_eq!(["get", "get-many", "write-many", "emit-many"].map(|name| harness.host_calls(name)), [0, 1, 0, 1]);

    let harness = check(&["get:old get:old last append:old=2", "last append:old=3"], "old=before old=before");
    assert_eq!(["get", "get-many", "write-many"].map(|name| harness.host_calls(name)), [2, 0, 1]);
    assert_eq!(harness.state()[&b"notes/old"[..]], *b"before23");
    assert_eq!(harness.state()[&b"last"[..]], (-3i64 ^ i64::MIN).to_be_bytes());
}

#[test]
fn a_call_that_holds_too_much_hands_over_early_and_goes_on() {
    let megabytes = "value:=8000000 put:a=1 key:=900 value:=8000000 add:old=1 key:=901 value:=8000000 ".repeat(2);
    let harness = check(&[&megabytes, "get:a count:old"], "a=1 old=9");
    assert_eq!(harness.state()[&b"value"[..]].len(), 8_000_000);

    let mut large = self::harness();
    let prefetch: Vec<String> = (0..5).map(|number| format!("large{number}")).collect();
    for key in &prefetch {
        large.put(format!("notes/{key}"), vec![b'x'; 7_000_000]);
    }
    large.record("in", "key", format!("prefetch:{} append:large4=y", prefetch.join(","))).run().unwrap();
    assert_eq!(large.state()[&b"notes/large4"[..]].len(), 7_000_001);

    check(&[&"emit:seen=900000 ".repeat(12)], &["k="; 12].map(|k| k.to_owned() + &"\0".repeat(900_000)).join(" "));
}

#[test]
fn failures_say_whom_to_blame_and_leave_nothing_behind() {
    let check = |scripts: &[&str], kind, index, message: &str| {
        let mut harness = harness();
        harness.put("counts/odd", "odd");
        let before = harness.state().clone();
        for script in scripts {
            harness.record("in", "key", script);
        }
        let failure = harness.run().unwrap_err();
        assert_eq!((failure.kind(), failure.index()), (kind, index), "{failure}");
        assert!(failure.message().contains(message), "{failure}");
        assert_eq!((harness.state(), harness.messages("seen").len()), (&before, 0));
        harness.record("in", "key", "put:a=1").run().unwrap();
    };
    check(&["put:a=1", "key:=1024 key:=1025"], FailureKind::Poison, Some(1), "has 1025 bytes; it may have 1 to 1024");
    check(&["key:=0"], FailureKind::Poison, Some(0), "has 0 bytes");
    check(&["value:=8388608", "put:a=1", "value:=8388609"], FailureKind::Poison, Some(2), "8388609 bytes");
    check(&["emit:seen=1", "emit:seen=1000001"], FailureKind::Poison, Some(1), "1000001 bytes of data");
    check(&["put:a=1 emit:gone=1"], FailureKind::Fatal, None, "no output \"gone\"");
    check(&["put:a=1 scan", "jump"], FailureKind::Poison, Some(1), "no verb jump");
    check(&["add:odd=1"], FailureKind::Fatal, None, "key \"counts/odd\" is not this task's");

    for script in ["value:=1000", "emit:seen=1000"] {
        let mut harness = harness().batch_limit(1_000);
        let failure = harness.record("in", "key", script).run().unwrap_err();
        assert_eq!((failure.kind(), failure.index()), (FailureKind::Poison, None), "{failure}");
        assert!(failure.message().contains("limit of 1000 bytes"), "{failure}");
    }

    let mut harness = harness();
    harness.record("in", "key", "get:a").store_fault(Some("disk full"));
    let failure = harness.run().unwrap_err();
    assert_eq!((failure.kind(), failure.index()), (FailureKind::Retry, None));
    assert!(failure.message().contains("disk full"));
}
