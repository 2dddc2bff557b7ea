//! A host's side of Kinesis: listings, one feed a shard, and the mailboxes it fills.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pelton_core::feed::{Delivery, Feed, FeedNext, FeedTrouble, Lane, Pace, Reply};
use pelton_core::id::{ShardKey, StreamIndex, TaskId};
use pelton_core::intake::Want;
use pelton_core::position::Position;
use pelton_core::record::{Gap, Record, Run};
use pelton_core::route::{RouteRules, route};
use pelton_core::task::Event;

use crate::kinesis::{Fetched, Iterator};
use crate::mutants::Slip;
use crate::oracle::Who;
use crate::trace::trace;
use crate::world::{Action, Host, Instance, Reader, World};

impl World {
    /// A host lists the streams, perhaps as they were.
    pub fn list(&mut self, host: usize, life: u32) {
        let mut changed = false;
        for stream in 0..self.kinesis.streams() {
            let stale = self.goes_wrong(self.faults.stale);
            self.cover.stale_listings += u64::from(stale);
            let ago = if stale { self.rng.between(1, 4) as usize } else { 0 };
            let listing = self.kinesis.list(stream, ago);
            let ids = || listing.iter().map(|shard| shard.id.to_string()).collect::<Vec<_>>().join(" ");
            trace!(self, "host {host} lists, of input {stream}, {}", ids());
            changed |= self.hosts[host].map.update(StreamIndex(stream as u16), listing);
        }
        if changed {
            let tasks: Vec<Who> = self.hosts[host].tasks.values().map(|instance| instance.who).collect();
            tasks.into_iter().for_each(|who| self.want(who));
        }
        self.ask_again(host, life);
        let pause = self.rng.between(200, 2_000);
        self.after(pause, Action::List(host, life));
    }

    /// Shards that no listing showed are asked for until it is known that they are gone.
    fn ask_again(&mut self, host: usize, life: u32) {
        let is_gone = |world: &Self, shard: &ShardKey| world.trims && world.kinesis.shard(shard).forgotten;
        let asked = std::mem::take(&mut self.hosts[host].asked);
        let (gone, open): (BTreeSet<_>, _) = asked.into_iter().partition(|(shard, _)| is_gone(self, shard));
        self.hosts[host].asked = open;
        for (shard, who) in gone {
            if self.hosts[host].life == life && self.hosts[host].up {
                self.step(who, Event::Lost(shard, Gap::ToEnd));
            }
        }
    }

    /// Has the shards read that a task wants now.
    pub fn want(&mut self, who: Who) {
        let now = self.host_now(who.host);
        let host = &mut self.hosts[who.host];
        let instance = host.tasks.get_mut(&who.task).filter(|instance| instance.who == who && instance.ready);
        let Some(instance) = instance.filter(|_| host.life == who.life) else { return };
        let mut lost = Vec::new();
        let wants = instance.task.wants(&host.map);
        let epoch = instance.task.epoch();
        for orphan in instance.task.orphans(&host.map) {
            let gone = self.kinesis.shard(&orphan).forgotten;
            if gone && self.trims {
                lost.push((orphan, Gap::ToEnd));
                continue;
            }
            // One that lost the task without knowing it may also miss what the new owner passed since.
            let owns = self.table[usize::from(who.task.0)].epoch == epoch.0;
            assert!(!(gone && owns), "no gap where nothing is lost: task {} waits for {orphan}", who.task);
            self.hosts[who.host].asked.insert((orphan, who));
        }
        for want in self.slip_wants(who, wants) {
            let gap = self.shape.retention_ms.and_then(|retention_ms| want.gap(now, retention_ms));
            if let Some(until_ms) = gap.filter(|_| self.slip != Some(Slip::SilentGaps)) {
                lost.push((want.shard, Gap::Until(until_ms)));
                continue;
            }
            trace!(self, "task {}: host {} wants {} after {}", who.task, who.host, want.shard, want.after);
            let pace = Pace { call_interval_ms: 50, ..Pace::KINESIS };
            let readers = &mut self.hosts[who.host].readers;
            let new = || Reader { feed: Feed::new(pace), iterators: BTreeMap::new(), busy: false, token: 0 };
            let reader = readers.entry(want.shard.clone()).or_insert_with(new);
            reader.feed.join(now, who.task, &want);
            self.wake(who.host, &want.shard, 0);
        }
        for (shard, gap) in lost {
            trace!(self, "task {}: of {shard} {gap}", who.task);
            self.step(who, Event::Lost(shard, gap));
        }
    }

    /// The tasks of a lane whose unread records may be gone.
    fn gap_of(&mut self, host: usize, shard: &ShardKey, lane: Lane) -> Option<(Vec<TaskId>, Gap)> {
        let (now, retention_ms) = (self.host_now(host), self.shape.retention_ms?);
        let (until_ms, tasks) = self.hosts[host].readers[shard].feed.gap(lane, now, retention_ms)?;
        (self.slip != Some(Slip::SilentGaps)).then_some((tasks, Gap::Until(until_ms)))
    }

    /// Tasks are served no more, and told why.
    fn tell_lost(&mut self, host: usize, shard: &ShardKey, tasks: Vec<TaskId>, gap: Gap) {
        let life = self.hosts[host].life;
        trace!(self, "host {host} tells {tasks:?} of {shard}: {gap}; {:?}", self.hosts[host].readers[shard].feed);
        for task in tasks {
            let Host { readers, tasks, up, life: now, .. } = &mut self.hosts[host];
            if !*up || *now != life {
                return;
            }
            readers.get_mut(shard).expect("it tells").feed.leave(task);
            if let Some(who) = tasks.get(&task).map(|instance| instance.who) {
                self.step(who, Event::Lost(shard.clone(), gap));
            }
        }
    }

    /// A hole is read again.
    pub fn reread(&mut self, who: Who, want: &Want) {
        let now = self.host_now(who.host);
        if let Some(reader) = self.hosts[who.host].readers.get_mut(&want.shard) {
            reader.feed.join(now, who.task, want);
        }
        self.wake(who.host, &want.shard, 0);
    }

    /// A feed is asked what to do, after a pause; earlier wake-ups count no more.
    fn wake(&mut self, host: usize, shard: &ShardKey, pause_ms: u64) {
        let life = self.hosts[host].life;
        let Some(reader) = self.hosts[host].readers.get_mut(shard) else { return };
        reader.token += 1;
        let token = reader.token;
        self.after(pause_ms, Action::Feed(host, life, shard.clone(), token));
    }

    /// Asks a feed what to do.
    pub fn feed(&mut self, host: usize, shard: &ShardKey, token: u64) {
        let now = self.host_now(host);
        let Some(reader) = self.hosts[host].readers.get_mut(shard).filter(|reader| reader.token == token) else {
            return;
        };
        if reader.busy {
            return;
        }
        match reader.feed.next(now) {
            FeedNext::Idle => {}
            FeedNext::Listen(_) => unreachable!("nobody subscribes here"),
            FeedNext::Wait(until) => self.wake(host, shard, until.saturating_sub(now).max(1)),
            next @ (FeedNext::Iterate(..) | FeedNext::Fetch(_)) => {
                reader.busy = true;
                self.cover.catch_ups += u64::from(matches!(next, FeedNext::Iterate(Lane::CatchUp, _)));
                let (life, delay) = (self.hosts[host].life, self.delay());
                self.after(delay, Action::Read(host, life, shard.clone(), next));
            }
        }
    }

    /// A call to Kinesis comes to something.
    pub fn read(&mut self, host: usize, shard: &ShardKey, next: FeedNext) {
        let now = self.host_now(host);
        let (throttled, lost) = (self.goes_wrong(self.faults.throttle), self.goes_wrong(self.faults.lose));
        let limit = self.rng.between(0, self.shape.fetch_records as u64) as usize;
        let reader = self.hosts[host].readers.get_mut(shard).expect("a call is of a reader");
        reader.busy = false;
        match next {
            FeedNext::Iterate(lane, _) | FeedNext::Fetch(lane) if throttled => {
                self.cover.throttled += 1;
                reader.feed.failed(now, lane, FeedTrouble::Passing);
            }
            FeedNext::Iterate(..) if self.kinesis.shard(shard).forgotten && self.trims => {
                let members: Vec<TaskId> = reader.feed.members().collect();
                self.tell_lost(host, shard, members, Gap::ToEnd);
            }
            FeedNext::Iterate(lane, position) => {
                let position = match (position, self.slip) {
                    (Position::After(place), Some(Slip::SkipRestOfAggregate)) => Position::after_all_of(place.sequence),
                    (position, _) => position,
                };
                let next = self.kinesis.index(shard, position);
                reader.iterators.insert(lane, Iterator { next, taken_ms: self.now });
                reader.feed.iterated(lane);
            }
            FeedNext::Fetch(lane) => {
                let iterator = *reader.iterators.get(&lane).expect("a fetch follows an iterator");
                if self.now > iterator.taken_ms + self.shape.iterator_ms {
                    self.cover.expired_iterators += 1;
                    reader.feed.failed(now, lane, FeedTrouble::Expired);
                } else if lost {
                    self.cover.lost_replies += 1;
                    reader.feed.failed(now, lane, FeedTrouble::Passing);
                } else {
                    let fetched = self.kinesis.fetch(shard, iterator.next, limit);
                    reader.iterators.insert(lane, Iterator { next: fetched.next, taken_ms: self.now });
                    self.fetched(host, shard, lane, fetched);
                }
            }
            FeedNext::Wait(_) | FeedNext::Listen(_) | FeedNext::Idle => unreachable!("no call"),
        }
        self.wake(host, shard, 0);
    }

    /// A reply is there: whoever may have lost what it begins behind is told, and all others are given it.
    fn fetched(&mut self, host: usize, shard: &ShardKey, lane: Lane, fetched: Fetched) {
        let now = self.host_now(host);
        if let Some((members, gap)) = self.gap_of(host, shard, lane) {
            self.tell_lost(host, shard, members, gap);
        }
        let Some(reader) = self.hosts[host].readers.get_mut(shard) else { return };
        let last = fetched.records.last();
        let reply = Reply {
            up_to: last.map(|record| Position::after_all_of(record.place.sequence)),
            arrived_ms: last.map(|record| record.arrived_ms),
            bytes: fetched.records.iter().map(|record| record.data.len() as u64).sum(),
            end: fetched.end,
            caught_up: fetched.caught_up,
        };
        let delivery = reader.feed.fetched(now, lane, reply);
        trace!(self, "host {host} reads {shard} in lane {lane:?}: {reply:?} -> {delivery:?}");
        self.deliver(host, shard, delivery, fetched.records);
    }

    fn deliver(&mut self, host: usize, shard: &ShardKey, delivery: Delivery, records: Vec<Record>) {
        let life = self.hosts[host].life;
        let range = self.kinesis.shard(shard).shard.range;
        let from_job = u64::from(shard.stream.0) < self.shape.upstream_streams;
        let rules = RouteRules { tasks: self.meta.tasks, policies: self.meta.policies, from_job };
        let routed = route(range, &rules, records);
        let home = self.meta.tasks.task_of(range.start);
        let (fetch, spans) = (Arc::new(routed.fetch), routed.spans);
        for (task, after) in delivery.members {
            let span = match self.slip {
                Some(Slip::RouteByShard) if task == home => 0..fetch.order.len(),
                Some(Slip::RouteByShard) => 0..0,
                _ => spans.iter().find(|(owner, _)| *owner == task).map_or(0..0, |(_, span)| span.clone()),
            };
            let answers = match self.slip {
                Some(Slip::AsidesForAll) => true,
                Some(Slip::AsidesForNobody) => false,
                _ => task == home,
            };
            let asides = if answers { 0..fetch.asides.len() } else { 0..0 };
            let has_records = !span.is_empty() || !asides.is_empty();
            if !has_records && !delivery.mark {
                continue;
            }
            if self.hosts[host].life != life || !self.hosts[host].up {
                return;
            }
            // After the end of a shard nothing would tell that the end was lost.
            let dropped = delivery.up_to != Position::ShardEnd && self.goes_wrong(self.faults.drop_run);
            let Host { readers, tasks, .. } = &mut self.hosts[host];
            let reader = readers.get_mut(shard).expect("it delivers");
            let Some(instance) = tasks.get_mut(&task) else { continue };
            if has_records && waiting(instance) >= self.shape.mailbox_records {
                self.cover.full_mailboxes += 1;
                instance.full.insert(shard.clone());
                reader.feed.full(task);
                continue;
            }
            reader.feed.delivered(task, delivery.up_to, delivery.unread_from_ms);
            if dropped {
                self.cover.runs_dropped += 1;
                continue;
            }
            let run = Run {
                after,
                up_to: delivery.up_to,
                unread_from_ms: delivery.unread_from_ms,
                shard: shard.clone(),
                fetch: has_records.then(|| fetch.clone()),
                span,
                asides,
                gap: None,
            };
            let who = instance.who;
            trace!(self, "task {task}: host {host} is given {} records of {shard} up to {}", run.len(), run.up_to);
            self.step(who, Event::Run(run));
        }
    }

    /// A mailbox that was full tells its feeds when it is half empty.
    pub fn give_room(&mut self, who: Who) {
        let now = self.host_now(who.host);
        let Host { readers, tasks, .. } = &mut self.hosts[who.host];
        let Some(instance) = tasks.get_mut(&who.task).filter(|instance| instance.who == who) else { return };
        if instance.full.is_empty() || waiting(instance) > self.shape.mailbox_records / 2 {
            return;
        }
        let full = std::mem::take(&mut instance.full);
        for shard in &full {
            if let Some(reader) = readers.get_mut(shard) {
                reader.feed.room(now, who.task);
            }
        }
        full.iter().for_each(|shard| self.wake(who.host, shard, 0));
    }
}

/// How many records wait for a task.
fn waiting(instance: &Instance) -> usize {
    let running = instance.task.running();
    running.map_or(0, |running| running.intake().waiting().map(Run::len).sum())
}
