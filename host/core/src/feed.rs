//! The feed of one shard: one reader for all tasks of this host that need it, and a second lane in which those that fell
//! behind are caught up. The feed decides what to read next and who is given it; it does not see the records.

use std::collections::BTreeMap;

use crate::id::TaskId;
use crate::intake::{Want, gap};
use crate::limits::{ARRIVAL_MARGIN_MS, backoff_ms};
use crate::mutant::{Mutant, wrong};
use crate::position::Position;

mod exchange;

pub use exchange::{Delivery, FeedNext, FeedTrouble, Lane, Pace, Reply};

/// Tasks gather this long before the first call, so that those about to be restored are served by it too.
const GATHER_MS: u64 = 150;
/// A task this much behind the others is caught up apart, in milliseconds of arrival time.
const LAGGARD_MS: u64 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Given what the shared lane reads.
    Shared,
    /// Given what the catch-up lane reads.
    CatchUp,
    /// Its mailbox stayed full: given nothing until it has room.
    Full,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    place: Place,
    /// Delivered up to here.
    at: Position,
    unread_from_ms: u64,
    excused_ms: u64,
}

/// What a lane reads by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    /// Nothing yet.
    None,
    /// An iterator, with which records are asked for.
    Iterator,
    /// A subscription, by which they come of themselves: it has a rate of its own, so that no pace holds for it.
    Subscription,
}

#[derive(Clone, Copy, Debug)]
struct Reader {
    position: Position,
    cursor: Cursor,
    unread_from_ms: u64,
    /// The bound that the reply before gave by being caught up. It counts once another reply shows that the shard had not
    /// ended there: the children of an ended shard may hold older records.
    caught_up_ms: u64,
    ready_ms: u64,
    idle_ms: u64,
    failures: u32,
}

/// The feed of one shard.
#[derive(Debug)]
pub struct Feed {
    pace: Pace,
    members: BTreeMap<TaskId, Member>,
    joining: BTreeMap<TaskId, Member>,
    gather_until_ms: u64,
    shared: Option<Reader>,
    catch_up: Option<Reader>,
    last_lane: Lane,
    next_call_ms: u64,
    next_mark_ms: u64,
    caught_up: bool,
}

/// Tasks without records are told this often how far their shard was read.
const MARK_INTERVAL_MS: u64 = 500;

impl Lane {
    fn place(self) -> Place {
        match self {
            Self::Shared => Place::Shared,
            Self::CatchUp => Place::CatchUp,
        }
    }
}

impl Reader {
    fn at(position: Position, unread_from_ms: u64) -> Self {
        Self { position, cursor: Cursor::None, unread_from_ms, caught_up_ms: 0, ready_ms: 0, idle_ms: 0, failures: 0 }
    }
}

impl Feed {
    /// A feed that serves nobody yet.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            members: BTreeMap::new(),
            joining: BTreeMap::new(),
            gather_until_ms: 0,
            shared: None,
            catch_up: None,
            last_lane: Lane::CatchUp,
            next_call_ms: 0,
            next_mark_ms: 0,
            caught_up: false,
        }
    }

    /// A task needs what follows a position.
    pub fn join(&mut self, now_ms: u64, task: TaskId, want: &Want) {
        let Want { after, unread_from_ms, excused_ms, .. } = *want;
        self.seat_later(now_ms, task, Member { place: Place::Full, at: after, unread_from_ms, excused_ms });
    }

    fn seat_later(&mut self, now_ms: u64, task: TaskId, member: Member) {
        self.members.remove(&task);
        self.joining.insert(task, member);
        self.gather_until_ms = if self.shared.is_none() { now_ms + GATHER_MS } else { now_ms };
    }

    /// A task needs nothing more.
    pub fn leave(&mut self, task: TaskId) {
        self.members.remove(&task);
        self.joining.remove(&task);
    }

    /// A task's mailbox stayed full: it is served no more until it has room.
    pub fn full(&mut self, task: TaskId) {
        if let Some(member) = self.members.get_mut(&task) {
            member.place = Place::Full;
        }
    }

    /// A task's mailbox has room again.
    pub fn room(&mut self, now_ms: u64, task: TaskId) {
        if let Some(member) = self.members.get(&task).copied().filter(|member| member.place == Place::Full) {
            self.seat_later(now_ms, task, member);
        }
    }

    /// A task took everything up to a position.
    pub fn delivered(&mut self, task: TaskId, up_to: Position, unread_from_ms: u64) {
        if let Some(member) = self.members.get_mut(&task) {
            member.at = up_to;
            // One that is further than its lane knows more than it.
            member.unread_from_ms = member.unread_from_ms.max(unread_from_ms);
        }
    }

    /// What to do now.
    pub fn next(&mut self, now_ms: u64) -> FeedNext {
        // A lane that all left is not one to join: it may stand before a gap that they passed.
        self.merge_lanes();
        if !self.joining.is_empty() && now_ms >= self.gather_until_ms {
            self.seat_joining();
        }
        self.merge_lanes();
        let is_full = |member: &Member| member.place == Place::Full;
        if wrong(Mutant::LaggardHoldsReader) && self.members.values().any(is_full) {
            return FeedNext::Idle;
        }
        let lanes = match self.last_lane {
            Lane::Shared => [Lane::CatchUp, Lane::Shared],
            Lane::CatchUp => [Lane::Shared, Lane::CatchUp],
        };
        let mut earliest = (!self.joining.is_empty()).then_some(self.gather_until_ms);
        for lane in lanes {
            let Some(reader) = self.reader(lane).filter(|reader| reader.position != Position::ShardEnd) else {
                continue;
            };
            let call = match reader.cursor {
                Cursor::None => FeedNext::Iterate(lane, reader.position),
                Cursor::Iterator => FeedNext::Fetch(lane),
                Cursor::Subscription => continue,
            };
            let ready_ms = reader.ready_ms.max(self.next_call_ms);
            if now_ms >= ready_ms {
                return call;
            }
            earliest = Some(earliest.map_or(ready_ms, |earliest| earliest.min(ready_ms)));
        }
        match earliest {
            earliest if self.listens() => FeedNext::Listen(earliest),
            Some(until_ms) => FeedNext::Wait(until_ms),
            None => FeedNext::Idle,
        }
    }

    /// Seats those who joined: with the shared reader where it is not past them, else in the catch-up lane.
    fn seat_joining(&mut self) {
        let joining = std::mem::take(&mut self.joining);
        if self.shared.is_none() {
            let newest_ms = joining.values().map(|member| member.unread_from_ms).max().unwrap_or_default();
            let near = joining.values().filter(|member| member.unread_from_ms + LAGGARD_MS >= newest_ms);
            self.shared =
                near.min_by_key(|member| member.at).map(|member| Reader::at(member.at, member.unread_from_ms));
        }
        let shared_at = self.shared.map(|reader| reader.position).expect("whoever is newest is near");
        for (task, mut member) in joining {
            member.place = if member.at >= shared_at { Place::Shared } else { Place::CatchUp };
            if member.place == Place::CatchUp && self.catch_up.is_none_or(|reader| member.at < reader.position) {
                self.catch_up = Some(Reader::at(member.at, member.unread_from_ms));
            }
            self.members.insert(task, member);
        }
    }

    /// Dissolves a lane that nobody is in, and joins the catch-up lane to the shared one where it got there.
    fn merge_lanes(&mut self) {
        let seated = |members: &BTreeMap<TaskId, Member>, place| members.values().any(|member| member.place == place);
        if !seated(&self.members, Place::CatchUp) {
            self.catch_up = None;
        }
        if !seated(&self.members, Place::Shared) {
            // The iterator was taken in the other lane; whoever reads keeps one for each.
            self.shared = self.catch_up.take().map(|reader| Reader { cursor: Cursor::None, ..reader });
            self.unite();
        }
        if let (Some(shared), Some(catch_up)) = (self.shared, self.catch_up)
            && catch_up.position >= shared.position
        {
            self.catch_up = None;
            self.unite();
        }
    }

    fn unite(&mut self) {
        for member in self.members.values_mut().filter(|member| member.place == Place::CatchUp) {
            member.place = Place::Shared;
        }
    }

    fn reader(&self, lane: Lane) -> Option<&Reader> {
        match lane {
            Lane::Shared => self.shared.as_ref(),
            Lane::CatchUp => self.catch_up.as_ref(),
        }
    }

    fn reader_mut(&mut self, lane: Lane) -> &mut Reader {
        match lane {
            Lane::Shared => self.shared.as_mut(),
            Lane::CatchUp => self.catch_up.as_mut(),
        }
        .expect("a lane is answered only while it reads")
    }

    /// An iterator was taken.
    pub fn iterated(&mut self, lane: Lane) {
        self.reader_mut(lane).cursor = Cursor::Iterator;
    }

    /// Instead of an iterator for the shared lane, a subscription was begun at its position. Of the two lanes only this one
    /// has one: a shard takes one subscription of a consumer.
    pub fn subscribed(&mut self) {
        self.reader_mut(Lane::Shared).cursor = Cursor::Subscription;
    }

    /// Whether the shared lane is to be given what the subscription pushes. One that is not is to be dropped.
    pub fn listens(&self) -> bool {
        self.shared.is_some_and(|reader| reader.cursor == Cursor::Subscription && reader.position != Position::ShardEnd)
    }

    /// The shared lane is to go on by another cursor, taken at its position.
    pub fn turn_over(&mut self) {
        if let Some(reader) = self.shared.as_mut() {
            reader.cursor = Cursor::None;
        }
    }

    /// A call failed.
    pub fn failed(&mut self, now_ms: u64, lane: Lane, trouble: FeedTrouble) {
        // Kinesis counts calls that fail.
        self.next_call_ms = now_ms + self.pace.call_interval_ms;
        self.last_lane = lane;
        let reader = self.reader_mut(lane);
        match trouble {
            FeedTrouble::Expired => reader.cursor = Cursor::None,
            FeedTrouble::Passing => {
                reader.failures += 1;
                reader.ready_ms = now_ms + backoff_ms(reader.failures);
            }
        }
    }

    /// Records came, or none. Says who is to be given what.
    pub fn fetched(&mut self, now_ms: u64, lane: Lane, reply: Reply) -> Delivery {
        let pace = self.pace;
        let pushed = self.reader_mut(lane).cursor == Cursor::Subscription;
        if !pushed {
            self.last_lane = lane;
            let pause_ms = (reply.bytes * 1_000).div_ceil(pace.bytes_per_s.max(1)).max(pace.call_interval_ms);
            self.next_call_ms = now_ms + pause_ms;
        }

        let reader = self.reader_mut(lane);
        reader.failures = 0;
        reader.idle_ms = match reply.up_to {
            Some(_) => 0,
            // Kinesis walks through stretches without records in empty replies.
            None if !reply.caught_up => 0,
            None => (reader.idle_ms * 2).clamp(pace.call_interval_ms.max(10), pace.idle_interval_max_ms),
        };
        reader.ready_ms = now_ms + reader.idle_ms;
        reader.position = if reply.end { Position::ShardEnd } else { reply.up_to.unwrap_or(reader.position) };
        let passed_ms = reply.arrived_ms.map_or(0, |arrived_ms| arrived_ms.saturating_sub(ARRIVAL_MARGIN_MS));
        let caught_up_ms = if reply.end { 0 } else { reader.caught_up_ms };
        reader.unread_from_ms = reader.unread_from_ms.max(passed_ms).max(caught_up_ms);
        reader.caught_up_ms = if reply.caught_up { now_ms.saturating_sub(ARRIVAL_MARGIN_MS) } else { 0 };
        let (up_to, unread_from_ms) = (reader.position, reader.unread_from_ms);

        if lane == Lane::Shared {
            // A reply that was asked for tells how it was when the service began to read.
            self.caught_up = (reply.caught_up && (reply.up_to.is_none() || pushed)) || reply.end;
        }
        let mark = reply.end || now_ms >= self.next_mark_ms;
        if mark {
            self.next_mark_ms = now_ms + MARK_INTERVAL_MS;
        }
        let place = lane.place();
        let members = self.members.iter().filter(|(_, member)| member.place == place && member.at <= up_to);
        Delivery { up_to, unread_from_ms, members: members.map(|(task, member)| (*task, member.at)).collect(), mark }
    }

    /// The tasks of a lane of whose unread records some may be gone, with up to when those arrived, in milliseconds since
    /// 1970. Kinesis goes on silently behind what it keeps no longer.
    pub fn gap(&self, lane: Lane, now_ms: u64, retention_ms: u64) -> Option<(u64, Vec<TaskId>)> {
        let reader = self.reader(lane)?;
        // The lane's own bound says nothing of a member: one that was away for long may have joined it just now, and one that is
        // further than its lane lacks nothing of what the lane missed.
        let bound_ms = |member: &Member| match wrong(Mutant::GapByLane) {
            true => reader.unread_from_ms,
            false => member.unread_from_ms.max(member.excused_ms),
        };
        let gap_of = |member: &Member| gap(bound_ms(member), now_ms, retention_ms);
        let seated = self.members.iter().filter(|(_, member)| member.place == lane.place());
        let lacking: Vec<(TaskId, u64)> = seated.filter_map(|(task, member)| Some((*task, gap_of(member)?))).collect();
        let until_ms = lacking.iter().map(|(_, until_ms)| *until_ms).max()?;
        Some((until_ms, lacking.into_iter().map(|(task, _)| task).collect()))
    }

    /// Whether the shared reader had nothing more to read when it last asked.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up && self.catch_up.is_none() && self.joining.is_empty()
    }

    /// Everyone served.
    pub fn members(&self) -> impl Iterator<Item = TaskId> {
        self.members.keys().chain(self.joining.keys()).copied()
    }

    /// Those who fell behind.
    pub fn catching_up(&self) -> impl Iterator<Item = TaskId> {
        self.members.iter().filter(|(_, member)| member.place != Place::Shared).map(|(task, _)| *task)
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
