//! A feed beside a shard that holds records 1, 2, 3 … and ends after the last.

use super::*;
use crate::id::{ShardKey, StreamIndex};
use crate::position::RecordPlace;
use crate::sequence::SequenceNumber;

fn after(number: u64) -> Position {
    match number {
        0 => Position::TrimHorizon,
        number => Position::After(RecordPlace { sequence: SequenceNumber([0, 0, number]), sub_sequence: 0 }),
    }
}

fn want(at: u64, unread_from_ms: u64) -> Want {
    let shard = ShardKey { stream: StreamIndex(0), shard: "a".into() };
    Want { shard, after: after(at), unread_from_ms, excused_ms: 0 }
}

fn number(position: Position) -> u64 {
    match position {
        Position::TrimHorizon | Position::AtTimestamp(_) => 0,
        Position::After(place) => place.sequence.0[2],
        Position::ShardEnd => u64::MAX,
    }
}

/// Reads as it is told, with one iterator a lane, and writes down what each task was given.
struct Shard {
    feed: Feed,
    records: u64,
    iterators: BTreeMap<Lane, u64>,
    now_ms: u64,
    calls_ms: Vec<u64>,
    given: BTreeMap<TaskId, Vec<u64>>,
    full: Vec<TaskId>,
}

impl Shard {
    fn new(records: u64) -> Self {
        let (iterators, given) = (BTreeMap::new(), BTreeMap::new());
        let feed = Feed::new(Pace::KINESIS);
        Self { feed, records, iterators, now_ms: 1_000_000, calls_ms: Vec::new(), given, full: Vec::new() }
    }

    fn join(&mut self, task: u16, at: u64, unread_from_ms: u64) {
        self.feed.join(self.now_ms, TaskId(task), &want(at, unread_from_ms));
    }

    /// Does the next thing; a fetch brings two records. Says what it did.
    fn step(&mut self) -> String {
        match self.feed.next(self.now_ms) {
            FeedNext::Iterate(lane, position) => {
                self.iterators.insert(lane, number(position));
                self.feed.iterated(lane);
                format!("{lane:?} from {}", number(position))
            }
            FeedNext::Fetch(lane) => {
                let from = self.iterators[&lane];
                let to = self.records.min(from + 2);
                self.iterators.insert(lane, to);
                self.calls_ms.push(self.now_ms);
                let end = to == self.records;
                let arrived_ms = (to > from).then_some(self.now_ms);
                let up_to = (to > from).then_some(after(to));
                let reply = Reply { up_to, arrived_ms, bytes: 200, end, caught_up: end };
                let delivery = self.feed.fetched(self.now_ms, lane, reply);
                for (task, at) in delivery.members {
                    if self.full.contains(&task) {
                        self.feed.full(task);
                        continue;
                    }
                    self.given.entry(task).or_default().extend(from.max(number(at)) + 1..=to);
                    self.feed.delivered(task, delivery.up_to, delivery.unread_from_ms);
                }
                format!("{lane:?} to {to}")
            }
            FeedNext::Wait(until_ms) => {
                self.now_ms = until_ms;
                "wait".into()
            }
            FeedNext::Listen(_) => "listen".into(),
            FeedNext::Idle => "idle".into(),
        }
    }

    /// Goes on until there is nothing to do. Says what was done, without the waits.
    fn run(&mut self) -> Vec<String> {
        let steps = std::iter::repeat_with(|| self.step()).take(1_000).take_while(|step| step != "idle");
        steps.filter(|step| step != "wait").collect()
    }

    fn assert_given(&self, task: u16, from: u64) {
        let expected: Vec<u64> = (from..=self.records).collect();
        assert_eq!(self.given[&TaskId(task)], expected, "task {task} is given each record once");
    }
}

#[test]
fn tasks_that_join_together_are_served_by_one_reader() {
    let mut shard = Shard::new(4);
    shard.join(1, 2, 0);
    shard.join(2, 0, 0);
    assert_eq!(shard.run(), ["Shared from 0", "Shared to 2", "Shared to 4"]);
    shard.assert_given(1, 3);
    shard.assert_given(2, 1);
}

#[test]
fn a_laggard_is_caught_up_apart_and_comes_back() {
    let mut shard = Shard::new(9);
    shard.join(1, 6, 200_000);
    shard.join(2, 0, 100_000);
    let steps = shard.run();
    assert_eq!(steps[..2], ["Shared from 6", "Shared to 8"], "whoever keeps up is not held up");
    assert!(steps.contains(&"CatchUp from 0".to_owned()));
    shard.assert_given(1, 7);
    shard.assert_given(2, 1);
    assert_eq!(shard.feed.catching_up().count(), 0);
}

#[test]
fn a_full_mailbox_is_left_out_and_read_again_from_where_it_was() {
    let mut shard = Shard::new(20);
    shard.join(1, 0, 0);
    shard.join(2, 0, 0);
    shard.full.push(TaskId(2));
    while shard.given.get(&TaskId(1)).is_none_or(|given| given.len() < 10) {
        shard.step();
    }
    assert_eq!(shard.feed.catching_up().collect::<Vec<_>>(), [TaskId(2)]);
    shard.full.clear();
    shard.feed.room(shard.now_ms, TaskId(2));
    shard.run();
    shard.assert_given(1, 1);
    shard.assert_given(2, 1);
}

#[test]
fn a_lane_that_takes_the_others_place_takes_an_iterator_of_its_own() {
    let mut shard = Shard::new(20);
    shard.join(1, 10, 200_000);
    shard.join(2, 0, 100_000);
    while shard.given.get(&TaskId(2)).is_none_or(|given| given.len() < 2) {
        shard.step();
    }
    // The only one in the shared lane leaves; the catch-up reader is the shared one from here on.
    shard.feed.leave(TaskId(1));
    shard.run();
    shard.assert_given(2, 1);
}

#[test]
fn calls_keep_their_pace_even_where_they_fail() {
    let mut shard = Shard::new(60);
    shard.join(1, 0, 200_000);
    shard.join(2, 0, 0);
    for at in 0..200 {
        if at % 5 == 0
            && let FeedNext::Fetch(lane) = shard.feed.next(shard.now_ms)
        {
            shard.calls_ms.push(shard.now_ms);
            shard.feed.failed(shard.now_ms, lane, FeedTrouble::Passing);
        }
        shard.step();
    }
    let pauses = shard.calls_ms.windows(2).map(|calls| calls[1] - calls[0]);
    assert!(pauses.min() >= Some(200), "at most 5 calls a second, whichever the lane: {:?}", shard.calls_ms);
}

#[test]
fn bytes_keep_their_pace() {
    let mut feed = Feed::new(Pace::KINESIS);
    feed.join(0, TaskId(0), &want(0, 0));
    assert_eq!(feed.next(GATHER_MS), FeedNext::Iterate(Lane::Shared, after(0)));
    feed.iterated(Lane::Shared);
    let reply = Reply { up_to: Some(after(1)), arrived_ms: None, bytes: 10 << 20, end: false, caught_up: false };
    feed.fetched(GATHER_MS, Lane::Shared, reply);
    assert_eq!(feed.next(GATHER_MS), FeedNext::Wait(GATHER_MS + 5_000), "10 MiB are 5 seconds of a shard");
}

#[test]
fn an_empty_reply_slows_the_reader_only_at_the_tip() {
    let mut feed = Feed::new(Pace::KINESIS);
    feed.join(0, TaskId(0), &want(0, 0));
    feed.next(GATHER_MS);
    feed.iterated(Lane::Shared);
    let empty = |caught_up| Reply { up_to: None, arrived_ms: None, bytes: 0, end: false, caught_up };
    let mut pauses = Vec::new();
    let mut now_ms = 1_000;
    for caught_up in [false, false, true, true, true, true] {
        feed.fetched(now_ms, Lane::Shared, empty(caught_up));
        let FeedNext::Wait(until_ms) = feed.next(now_ms) else { panic!("a pause follows each call") };
        pauses.push(until_ms - now_ms);
        now_ms = until_ms;
    }
    assert_eq!(pauses, [200, 200, 200, 400, 800, 1_000]);
}

#[test]
fn the_end_of_a_shard_bounds_nothing_by_the_time_it_is_read() {
    let mut feed = Feed::new(Pace::KINESIS);
    feed.join(0, TaskId(0), &want(0, 5));
    feed.next(GATHER_MS);
    feed.iterated(Lane::Shared);
    let reply = |end| Reply { up_to: None, arrived_ms: None, bytes: 0, end, caught_up: true };
    let hour_ms = 3_600_000;
    // The children may hold records as old as the split, which was long ago.
    assert_eq!(feed.fetched(hour_ms, Lane::Shared, reply(false)).unread_from_ms, 5);
    assert_eq!(feed.fetched(hour_ms + 500, Lane::Shared, reply(true)).unread_from_ms, 5);
}

#[test]
fn what_a_subscription_pushes_keeps_no_pace_and_holds_up_no_laggard() {
    let mut feed = Feed::new(Pace::KINESIS);
    feed.join(0, TaskId(1), &want(6, 200_000));
    feed.join(0, TaskId(2), &want(0, 100_000));
    assert_eq!(feed.next(GATHER_MS), FeedNext::Iterate(Lane::Shared, after(6)));
    feed.subscribed();
    let reply = |to| Reply { up_to: Some(after(to)), arrived_ms: None, bytes: 10 << 20, end: false, caught_up: true };
    assert_eq!(feed.next(GATHER_MS), FeedNext::Iterate(Lane::CatchUp, after(0)));
    feed.iterated(Lane::CatchUp);
    feed.fetched(GATHER_MS, Lane::Shared, reply(8));
    assert_eq!(
        feed.next(GATHER_MS),
        FeedNext::Fetch(Lane::CatchUp),
        "ten pushed MiB are none of the five calls a second"
    );
    feed.fetched(GATHER_MS, Lane::CatchUp, reply(5));
    assert_eq!(
        feed.next(GATHER_MS),
        FeedNext::Listen(Some(GATHER_MS + 5_000)),
        "the other lane's pause is no pause of this one"
    );
    let delivery = feed.fetched(GATHER_MS + 10, Lane::Shared, reply(9));
    assert_eq!(delivery.members, [(TaskId(1), after(6))], "what is pushed is for those of its lane");
    // The subscription is refused: the lane goes on by an iterator, where it was.
    feed.turn_over();
    assert!(!feed.listens());
    assert_eq!(feed.next(6_000), FeedNext::Iterate(Lane::Shared, after(9)));
}

#[test]
fn a_subscription_ends_with_its_lane_or_its_shard() {
    let mut feed = Feed::new(Pace::KINESIS);
    feed.join(0, TaskId(1), &want(0, 0));
    feed.next(GATHER_MS);
    feed.subscribed();
    assert_eq!(feed.next(GATHER_MS), FeedNext::Listen(None));
    feed.leave(TaskId(1));
    assert_eq!((feed.next(GATHER_MS), feed.listens()), (FeedNext::Idle, false), "nobody is left to be served");
    feed.join(GATHER_MS, TaskId(1), &want(2, 0));
    assert_eq!(
        feed.next(2 * GATHER_MS),
        FeedNext::Iterate(Lane::Shared, after(2)),
        "another subscription, from where it is needed"
    );
    feed.subscribed();
    let end = Reply { up_to: None, arrived_ms: None, bytes: 0, end: true, caught_up: true };
    assert_eq!(feed.fetched(300, Lane::Shared, end).up_to, Position::ShardEnd);
    assert_eq!((feed.next(300), feed.listens()), (FeedNext::Idle, false));
    assert!(feed.is_caught_up());
}

#[test]
fn who_keeps_up_is_told_of_no_gap_that_its_lane_has() {
    let (day_ms, now_ms) = (86_400_000, 864_000_000);
    let mut feed = Feed::new(Pace::KINESIS);
    // One that a letter excuses opens the lane, a day and an hour behind.
    let excused = Want { excused_ms: now_ms - day_ms + day_ms / 64, ..want(1, now_ms - day_ms - 3_600_000) };
    feed.join(now_ms, TaskId(1), &excused);
    assert_eq!(feed.next(now_ms + GATHER_MS), FeedNext::Iterate(Lane::Shared, after(1)));
    // Others join it: one a minute behind, and one as far behind as the lane, with no letter.
    feed.join(now_ms + GATHER_MS, TaskId(2), &want(50, now_ms - 60_000));
    feed.join(now_ms + GATHER_MS, TaskId(3), &want(1, now_ms - day_ms - 3_600_000));
    feed.next(now_ms + GATHER_MS + 1);
    let told = feed.gap(Lane::Shared, now_ms + GATHER_MS + 2, day_ms).map(|(_, tasks)| tasks);
    assert_eq!(told, Some(vec![TaskId(3)]));
}

#[test]
fn who_was_away_for_long_is_told_of_a_gap_that_its_lane_has_not() {
    let (day_ms, now_ms) = (86_400_000, 864_000_000);
    let mut feed = Feed::new(Pace::UNLIMITED);
    let excused = Want { excused_ms: now_ms, ..want(1, now_ms - day_ms - 3_600_000) };
    feed.join(now_ms, TaskId(1), &excused);
    assert_eq!(feed.next(now_ms + GATHER_MS), FeedNext::Iterate(Lane::Shared, after(1)));
    feed.iterated(Lane::Shared);
    // What the stream kept no longer was passed silently, and nothing came since: the lane stands where it began.
    let nothing = Reply { up_to: None, arrived_ms: None, bytes: 0, end: false, caught_up: true };
    feed.fetched(now_ms + GATHER_MS, Lane::Shared, nothing);
    let delivery = feed.fetched(now_ms + GATHER_MS + 1_000, Lane::Shared, nothing);
    feed.delivered(TaskId(1), delivery.up_to, delivery.unread_from_ms);
    assert_eq!(feed.gap(Lane::Shared, now_ms + GATHER_MS + 1_000, day_ms), None);
    feed.join(now_ms + GATHER_MS + 1_000, TaskId(2), &want(1, now_ms - day_ms - 3_600_000));
    feed.next(now_ms + GATHER_MS + 1_000);
    let told = feed.gap(Lane::Shared, now_ms + GATHER_MS + 2_000, day_ms).map(|(_, tasks)| tasks);
    assert_eq!(told, Some(vec![TaskId(2)]));
}
