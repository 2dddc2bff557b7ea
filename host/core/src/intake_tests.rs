//! A task's intake, told as a script: shards with their ranges and parents, then what is done and what comes of it.

use std::sync::Arc;

use super::*;
use crate::aggregate::parse_id;
use crate::id::{ShardId, StreamIndex};
use crate::job::JobMeta;
use crate::limits::Bounds;
use crate::record::{Gap, Record};
use crate::sequence::SequenceNumber;
use crate::shard::{Shard, ShardMap};

#[path = "intake_queue_tests.rs"]
mod queue_tests;

fn key(shard: &str) -> ShardKey {
    ShardKey { stream: StreamIndex(0), shard: ShardId::from(shard) }
}

fn place(text: &str) -> RecordPlace {
    let (sequence, within) = text.split_once('/').unwrap_or((text, "0"));
    let sub_sequence = within.parse().expect("a place within an aggregate");
    RecordPlace { sequence: sequence.parse().unwrap_or(SequenceNumber::default()), sub_sequence }
}

/// `-` is the beginning of a shard, `end` its end, a number the record passed last.
fn position(text: &str) -> Position {
    match text {
        "-" => Position::TrimHorizon,
        "end" => Position::ShardEnd,
        number => Position::After(place(number)),
    }
}

fn show(position: Position) -> String {
    match position {
        Position::TrimHorizon => "-".into(),
        Position::AtTimestamp(ms) => format!("@{ms}"),
        Position::After(RecordPlace { sequence, sub_sequence: 0 }) => sequence.to_string(),
        Position::After(place) => place.to_string(),
        Position::ShardEnd => "end".into(),
    }
}

/// The hash key whose first byte is this.
fn hash(byte: &str, low: u8) -> HashKey {
    let first = u8::from_str_radix(byte, 16).expect("a byte in hexadecimal");
    HashKey(u128::from_be_bytes([first, low, low, low, low, low, low, low, low, low, low, low, low, low, low, low]))
}

fn range(text: &str) -> HashRange {
    let (start, end) = text.split_once('-').expect("a range");
    HashRange { start: hash(start, 0), end: hash(end, 0xff) }
}

/// `b=00-7f<a`: shard b holds that range and has parent a.
fn shard(text: &str) -> Shard {
    let (id, rest) = text.split_once('=').expect("a shard");
    let (span, parents) = rest.split_once('<').unwrap_or((rest, ""));
    let parents = parents.split('+').filter(|parent| !parent.is_empty()).map(ShardId::from).collect();
    Shard { id: ShardId::from(id), range: range(span), parents, closed: false }
}

/// `a -..3 1 3`: of shard a, up to record 3, records 1 and 3 are the task's. `~9` at the end: none unread is older than 9.
/// `!2` is a record to be dropped, `1=0/7/3` one that the job upstream named output 3 of commit 7 of its task 0.
fn run(text: &str) -> Run {
    let mut words = text.split(' ');
    let shard = key(words.next().expect("a shard"));
    let (after, up_to) = words.next().and_then(|span| span.split_once("..")).expect("a span");
    let (bounds, records): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with('~'));
    let record = |text: &&str| {
        let (at, output) = text.split_once('=').unwrap_or((text, ""));
        let output = parse_id(&format!("{:032}/{output}", 0)).map(Box::new);
        let place = place(at.trim_start_matches('!'));
        Record { place, arrived_ms: 0, partition_key: String::new(), data: Default::default(), output }
    };
    let dropped: Vec<bool> = records.iter().map(|text| text.starts_with('!')).collect();
    let records: Vec<Record> = records.iter().map(record).collect();
    let (asides, order): (Vec<u32>, Vec<u32>) = (0..records.len() as u32).partition(|at| dropped[*at as usize]);
    let asides: Vec<Aside> =
        asides.into_iter().map(|index| Aside { index, fate: Fate::Drop(Oddity::OutOfRange) }).collect();
    let spans = (0..order.len(), 0..asides.len());
    Run {
        after: position(after),
        up_to: position(up_to),
        unread_from_ms: bounds.first().map_or(0, |bound| bound[1..].parse().expect("a time")),
        shard,
        fetch: Some(Arc::new(Fetch { records, order, asides, ..Fetch::default() })),
        span: spans.0,
        asides: spans.1,
        gap: None,
    }
}

/// The records of a run for the logic, those that are set aside in brackets, and a gap.
fn shown(run: &Run) -> Vec<String> {
    let name = |record: &Record| match record.place.sub_sequence {
        0 => format!("{}{}", run.shard.shard, record.place.sequence),
        _ => format!("{}{}", run.shard.shard, record.place),
    };
    let given = run.records().map(name);
    let aside = run.set_aside().map(|(record, _)| format!("({})", name(record)));
    given.chain(aside).chain(run.gap.map(|_| format!("{}-gap", run.shard.shard))).collect()
}

struct Script {
    intake: Intake,
    map: ShardMap,
    meta: JobMeta,
    bounds: Bounds,
    batch: Option<Batch>,
}

impl Script {
    fn entry(&(shard, entry): &(&ShardKey, &PositionEntry)) -> String {
        format!("{}:{}", shard.shard, show(entry.position))
    }

    /// Does one line, and says what came of it.
    fn line(&mut self, line: &str) -> String {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let join = |texts: Vec<String>| texts.join(" ");
        match verb {
            "list" => {
                self.map.update(StreamIndex(0), rest.split(' ').map(shard).collect());
                String::new()
            }
            "wants" => {
                let wants = self.intake.wants(&self.map, &self.meta);
                join(wants.iter().map(|want| format!("{}:{}", want.shard.shard, show(want.after))).collect())
            }
            "orphans" => {
                let orphans = self.intake.orphans(&self.map, &self.meta);
                join(orphans.iter().map(|orphan| orphan.shard.to_string()).collect())
            }
            "offer" => match self.intake.offer(run(rest)) {
                Admission::Taken => "taken".into(),
                Admission::Known => "known".into(),
                Admission::Hole(want) => format!("hole {}", show(want.after)),
            },
            "batch" => {
                self.batch = self.intake.next_batch(&self.bounds, None);
                let runs = self.batch.iter().flat_map(|batch| &batch.runs);
                join(runs.flat_map(shown).collect())
            }
            "put-back" => {
                self.intake.put_back(&self.batch.take().expect("a batch"));
                String::new()
            }
            "suspect" => {
                let (shard, at) = rest.split_once(' ').expect("a shard and a place");
                self.intake.suspect(&key(shard), place(at));
                String::new()
            }
            "suspect-all" => {
                let batch = self.batch.take().expect("a batch");
                self.intake.put_back(&batch);
                self.intake.suspect_all(&batch);
                String::new()
            }
            "lose" => {
                let (shard, until) = rest.split_once(' ').expect("a shard and a time");
                let gap = until.parse().map_or(Gap::ToEnd, Gap::Until);
                let unknown = Intake::unknown_shard(Position::TrimHorizon);
                if self.intake.lose(&key(shard), gap, unknown) { "lost".into() } else { "known".into() }
            }
            "fold" => {
                self.intake.passed(&self.batch.take().expect("a batch"));
                join(self.intake.positions().map(|entry| Self::entry(&entry)).collect())
            }
            "seal" => join(self.intake.seal().iter().map(|(shard, entry)| Self::entry(&(shard, entry))).collect()),
            "advance" => {
                let entry = |text: &str| {
                    let (shard, rest) = text.split_once(':').expect("a position");
                    let position = position(rest);
                    (key(shard), PositionEntry { position, unread_from_ms: 0, range: range("00-ff") })
                };
                self.intake.advance(rest.split(' ').map(entry).collect());
                String::new()
            }
            other => panic!("{other} is no verb"),
        }
    }
}

/// Plays a script for the task that owns a range; `newest` is the greatest shard listed when the job was created. Whatever the script
/// lists was listed then, if it was there, and `listed` and `others` besides.
fn check(slice: &str, newest: &str, known: &str, script: &[(&str, &str)]) {
    let entry = |text: &str| {
        let (shard, rest) = text.split_once(':').expect("a position");
        let (at, span) = rest.rsplit_once('/').expect("a range");
        (key(shard), PositionEntry { position: position(at), unread_from_ms: 0, range: range(span) })
    };
    let lists = script.iter().filter_map(|(line, _)| line.strip_prefix("list "));
    let listed = lists.flat_map(|list| list.split(' ')).map(shard).map(|shard| (shard.id, shard.range));
    let others = [(ShardId::from("listed"), HashRange::ALL), (ShardId::from("others"), range("80-ff"))];
    let mut played = Script {
        intake: Intake::new(
            IntakeRules { slice: range(slice), reads: range(slice), from_job: vec![true] },
            known.split(' ').filter(|text| !text.is_empty()).map(entry),
            [],
        ),
        map: ShardMap::default(),
        meta: JobMeta::of_one_task(ShardId::from(newest), listed.chain(others)),
        bounds: Bounds { batch_records_max: 3, ..Bounds::FULL },
        batch: None,
    };
    for (line, outcome) in script {
        assert_eq!(played.line(line), *outcome, "{line}, in {script:?}");
    }
}

#[test]
fn a_run_is_taken_only_where_it_joins() {
    let script = [
        ("list a=00-ff", ""),
        ("wants", "a:-"),
        ("wants", ""),
        ("offer a -..3 1 3", "taken"),
        ("offer a 5..7 6", "hole 3"),
        ("offer a -..2 1", "known"),
        ("offer a -..6 1 3 5", "taken"),
        ("offer a 6..20 7 8 9 10", "taken"),
        ("offer a 20..end", "taken"),
        ("offer a 20..end", "known"),
        ("batch", "a1 a3 a5"),
        ("fold", "a:6"),
        ("seal", "a:6"),
        // A batch is full in the midst of a run: the rest of it follows, and the records passed over belong to the rest.
        ("batch", "a7 a8 a9"),
        ("fold", "a:9"),
        ("batch", "a10"),
        ("fold", "a:end"),
        ("seal", "a:end"),
        ("seal", ""),
    ];
    check("00-ff", "a", "", &script);
}

#[test]
fn a_child_waits_for_each_parent_that_the_task_reads() {
    // The slice straddles the split of a; b and c merge into d; e lies outside the slice.
    let script = [
        ("list a=00-7f b=00-3f<a c=40-7f<a e=80-ff d=00-7f<b+c", ""),
        ("wants", "a:-"),
        ("offer a -..end 1 2", "taken"),
        ("wants", "b:- c:-"),
        ("offer b -..end 3", "taken"),
        ("wants", ""),
        ("offer c -..end", "taken"),
        ("wants", "d:-"),
        ("offer d -..9 7 9", "taken"),
        ("batch", "a1 a2 b3"),
        ("fold", "a:end b:end c:- d:-"),
        ("batch", "d7 d9"),
        ("fold", "a:end b:end c:end d:9"),
    ];
    check("20-5f", "a", "", &script);
}

#[test]
fn nothing_is_known_of_a_child_before_its_parents_end_is_folded() {
    let script = [
        ("list a=00-ff b=00-ff<a", ""),
        ("wants", "a:-"),
        ("offer a -..end 1", "taken"),
        ("wants", "b:-"),
        ("offer b -..- ~9", "known"),
        ("seal", ""),
        ("batch", "a1"),
        ("offer b -..- ~9", "known"),
        ("seal", ""),
        ("fold", "a:end b:-"),
        ("offer b -..- ~9", "known"),
        ("seal", "a:end b:-"),
    ];
    check("00-ff", "a", "", &script);
}

#[test]
fn a_gap_that_waits_is_not_ruled_out() {
    let script = [
        ("list a=00-ff", ""),
        ("wants", "a:3"),
        ("lose a 5", "lost"),
        ("offer a 3..3 ~9", "known"),
        ("seal", ""),
        ("batch", "a-gap"),
        ("fold", "a:3"),
        // Whoever read it goes on only where somebody asks again.
        ("offer a 3..4 4", "known"),
        ("batch", ""),
        ("wants", "a:3"),
        ("offer a 3..3 ~9", "known"),
        ("seal", "a:3"),
        ("offer a 3..4 4", "taken"),
    ];
    check("00-ff", "a", "a:3/00-ff", &script);
}

#[test]
fn what_lies_behind_is_never_opened_again() {
    // d is known, so that b and c, its parents, are passed; so is their parent a, which is still listed.
    let script = [("list a=00-ff b=00-7f<a c=80-ff<a d=00-ff<b+c e=00-ff<d", ""), ("wants", "d:4"), ("orphans", "")];
    check("00-ff", "a", "d:4/00-ff", &script);
    // b, which lay between, was listed and forgotten while nobody looked.
    check("00-ff", "a", "c:4/00-ff", &[("list a=00-ff c=00-ff<b", ""), ("wants", "c:4"), ("orphans", "")]);
    let sibling = [("list a=00-ff c=80-ff<a d=00-7f<b", ""), ("wants", "c:- d:4"), ("orphans", "")];
    check("00-ff", "a", "d:4/00-7f", &sibling);
    // b is gone, and where it lay nobody knows: it proves nothing of a.
    let unknown = [
        ("list c=00-7f<b", ""),
        ("orphans", "b"),
        ("lose b end", "lost"),
        ("batch", "b-gap"),
        ("fold", "b:end"),
        ("list a=80-ff c=00-7f<b", ""),
        ("wants", "a:- c:-"),
    ];
    check("00-ff", "0", "", &unknown);
}

#[test]
fn a_parent_that_no_listing_shows_is_asked_for() {
    // Created after the job: perhaps lost. Created before it: before the start.
    check("00-ff", "a", "", &[("list c=00-ff<b", ""), ("wants", ""), ("orphans", "b"), ("wants", "")]);
    check("00-ff", "b", "", &[("list c=00-ff<b", ""), ("orphans", ""), ("wants", "c:-")]);
    // Begun, and gone from the listing before its end.
    check("00-ff", "a", "b:4/00-ff", &[("list c=00-ff<b", ""), ("wants", ""), ("orphans", "b")]);
    check("00-ff", "a", "b:4/00-ff", &[("list z=00-ff", ""), ("orphans", "b")]);
    check("00-ff", "a", "b:end/00-ff", &[("list c=00-ff<b", ""), ("orphans", ""), ("wants", "c:-")]);
    // All that the slice needs of the merge came through the other parent.
    check("00-1f", "a", "b:end/00-7f", &[("list d=00-ff<b+c", ""), ("orphans", ""), ("wants", "d:-")]);
    check("00-ff", "a", "b:end/00-7f", &[("list d=00-ff<b+c", ""), ("orphans", "c"), ("wants", "")]);
    // The other parent is listed and not begun: its own parent comes first.
    let deep = [("list a=00-7f b=00-7f<a d=00-ff<b+c", ""), ("wants", "a:-"), ("orphans", "")];
    check("00-1f", "a", "", &deep);
    // Listed when the job was created, and gone since without having been begun.
    check("00-ff", "z", "", &[("list c=00-ff<listed", ""), ("wants", ""), ("orphans", "listed")]);
    // And it held nothing of this task.
    check("00-1f", "z", "", &[("list c=00-ff<gone+others", ""), ("orphans", ""), ("wants", "c:-")]);
    // An ancestor comes first that was begun: what it holds precedes all that may be gone.
    let begun = [
        ("list a=00-ff d=00-ff<b+c", ""),
        ("orphans", ""),
        ("wants", "a:4"),
        ("offer a 4..end 5", "taken"),
        ("orphans", "b c"),
    ];
    check("00-ff", "a", "a:4/00-ff", &begun);
    // It shows again: it is read to its end first.
    let late = [("list c=00-ff<b", ""), ("wants", ""), ("list b=00-ff<a", ""), ("wants", "b:-"), ("orphans", "")];
    check("00-ff", "a", "", &late);
}

#[test]
fn idle_positions_only_lead_forward() {
    let script = [
        ("list a=00-ff b=00-ff<a", ""),
        ("advance a:3", ""),
        ("seal", ""),
        ("advance a:end b:9", ""),
        ("wants", "b:9"),
        ("seal", "a:end b:9"),
    ];
    check("00-ff", "a", "a:5/00-ff", &script);
}

#[test]
fn what_may_be_older_than_the_stream_keeps_is_a_gap() {
    let shard = ShardKey { stream: StreamIndex(0), shard: "a".into() };
    let want = Want { shard, after: Position::TrimHorizon, unread_from_ms: 1_000, excused_ms: 0 };
    // It is told ten seconds early, since no host's clock is Kinesis' own.
    assert_eq!(want.gap(15_000, 24_000), None);
    assert_eq!(want.gap(100, 24_000), None, "younger than the retention");
    assert_eq!(want.gap(15_001, 24_000), Some(1_001 + 60_000), "what is left gets a start");
    let day_ms = 86_400_000;
    assert_eq!(want.gap(day_ms + 1_001, day_ms), Some(11_001 + day_ms / 64));
}
