//! What comes from outside: records, reshards, and the whims of hosts, which claim, stop, crash and sleep.

use pelton_core::dead_letter::Content;
use pelton_core::id::{ShardKey, StreamIndex, TaskId};
use pelton_core::policy::OutOfRange;
use pelton_core::slice::HashKey;
use pelton_core::task::Event;

use crate::kinesis::{Kinesis, Meant, Put};
use crate::producer;
use crate::rng::Rng;
use crate::shape::Shape;
use crate::store::Store;
use crate::trace::trace;
use crate::upstream::Sent;
use crate::world::{ARRIVAL_OFF_MS_MAX, Action, World};

/// How many aggregates producers may still send again.
const AGGREGATES_KEPT: usize = 8;

/// What stood among dead letters is remembered up to here.
const LETTERS_SEEN_MAX: usize = 60;

impl World {
    /// Puts a few records.
    pub fn put_records(&mut self) {
        if self.now > self.traffic_until {
            return;
        }
        for _ in 0..self.rng.between(1, 3) {
            // The first streams are the job's upstream alone, if it has one, but for what is odd.
            let stream = self.rng.below(self.shape.streams);
            let is_upstream = stream < self.shape.upstream_streams;
            if is_upstream && self.rng.chance(9_000) {
                continue;
            }
            if self.rng.chance(self.shape.odd) {
                self.cover.odd_puts += 1;
                let put = producer::odd(&mut self.rng, &mut self.kinesis, stream as usize, self.shape.keys);
                self.put_raw(stream as usize, &put);
                if put.is_aggregate && self.aggregates.len() < AGGREGATES_KEPT {
                    self.aggregates.push((stream as usize, put));
                }
                continue;
            }
            if is_upstream {
                continue;
            }
            let key = format!("s{stream}k{}", self.rng.below(self.shape.keys));
            let arrived_ms = self.arrival(stream as usize, HashKey::of(&key));
            let put = self.kinesis.put(stream as usize, &key, arrived_ms);
            self.note_put(put);
        }
        let pause = self.rng.between(1, 2 * self.shape.put_every_ms);
        self.after(pause, Action::Put);
    }

    /// When a record put now is said to have arrived: arrival times are not monotonic. In a shard of the job's start none is from
    /// before the job, since what is put there after it would not be told from what was there.
    fn arrival(&mut self, stream: usize, hash: HashKey) -> u64 {
        let earlier = if self.rng.chance(2_000) { self.rng.below(ARRIVAL_OFF_MS_MAX) } else { 0 };
        let is_start = self.kinesis.open_shard(stream, hash) <= self.meta.inputs[stream].newest_shard;
        (self.now - earlier).max(if is_start { self.meta.created_ms } else { 0 })
    }

    /// Puts a Kinesis record.
    pub fn put_raw(&mut self, stream: usize, put: &Put) {
        let arrived_ms = self.arrival(stream, put.hash);
        let meant = self.kinesis.put_raw(stream, put, arrived_ms);
        self.note_put(meant);
    }

    fn note_put(&mut self, put: Vec<(ShardKey, Meant)>) {
        let Some((shard, _)) = put.first().cloned() else { return };
        let meant: Vec<Meant> = put.into_iter().map(|(_, meant)| meant).collect();
        self.cover.records += meant.len() as u64;
        for Meant { record, .. } in &meant {
            trace!(self, "put {} at {} into {shard}", String::from_utf8_lossy(&record.data), record.place);
        }
        self.oracle.put(&shard, &self.kinesis.shard(&shard).shard, &meant);
    }

    /// A task of the job upstream does the next thing.
    pub fn step_upstream(&mut self, task: usize) {
        let may_commit = self.now < self.traffic_until;
        let was_done = self.upstream[task].is_done();
        match self.upstream[task].step(&mut self.rng, &mut self.kinesis, may_commit) {
            Sent::Put(stream, put) => self.put_raw(stream, &put),
            Sent::Late(stream, put) => {
                let late = self.rng.between(1, 20_000);
                self.after(late, Action::Late(stream, put));
            }
            Sent::Lost | Sent::Nothing => {}
        }
        self.cover.upstream_repeats += u64::from(!was_done && !self.upstream[task].is_done());
        if may_commit || !self.upstream[task].is_done() {
            let pause = self.rng.between(1, 2 * self.shape.put_every_ms);
            self.after(pause, Action::Upstream(task));
        }
    }

    /// What streams keep no longer is gone.
    pub fn trim_streams(&mut self) {
        if let Some(retention_ms) = self.shape.retention_ms.filter(|_| self.heir.is_none()) {
            // Not at once, and never before its time by any host's clock.
            for shard in self.kinesis.trim(self.now.saturating_sub(retention_ms)) {
                trace!(self, "{shard} is gone");
            }
            self.after(1_000, Action::Trim);
        }
    }

    /// Asks a task of a host for one of its dead letters to be folded after all or forgotten; or for one that it had once.
    fn redrive(&mut self, host: usize) {
        let of_task = |(task, store): (&TaskId, &Store)| {
            store.letters().map(|(number, letter)| (*task, number, letter)).collect()
        };
        let stand: Vec<_> = self.hosts[host].stores.iter().flat_map::<Vec<_>, _>(of_task).collect();
        let new: Vec<_> = stand.iter().filter(|one| !self.letters_seen.contains(one)).cloned().collect();
        self.letters_seen.extend(new);
        self.letters_seen.drain(..self.letters_seen.len().saturating_sub(LETTERS_SEEN_MAX));
        // What is there now, or as it was seen at any time.
        let letters = if self.rng.chance(5_000) { &stand } else { &self.letters_seen };
        if letters.is_empty() {
            return;
        }
        let (task, number, letter) = letters[self.rng.below(letters.len() as u64) as usize].clone();
        let Some(who) = self.hosts[host].tasks.get(&task).map(|instance| instance.who) else { return };
        // A gap can only be forgotten.
        let forgets = if matches!(letter.content, Content::Gap { .. }) { 5_000 } else { 1_500 };
        if self.rng.chance(forgets) {
            self.cover.forgets += 1;
            self.oracle.asked_to_forget(task, number);
            return self.step(who, Event::Forget(number, Box::new(letter)));
        }
        for _ in 0..self.rng.between(1, 2) {
            self.step(who, Event::Redrive(number, Box::new(letter.clone())));
        }
    }

    /// Splits, merges, or lets a shard be forgotten that every task passed.
    pub fn reshard(&mut self) {
        if self.now > self.traffic_until {
            return;
        }
        self.downstream.change(&mut self.rng);
        let stream = self.rng.below(self.shape.streams) as usize;
        let did = match self.rng.below(5) {
            0 | 1 => self.kinesis.split(&mut self.rng, stream).inspect(|_| self.cover.splits += 1),
            2 | 3 => self.kinesis.merge(&mut self.rng, stream).inspect(|_| self.cover.merges += 1),
            _ => self.forget(),
        };
        self.send_again(stream);
        if let Some(did) = did {
            trace!(self, "{did}");
        }
        let pause = self.rng.between(1, 2 * self.shape.reshard_every_ms);
        self.after(pause, Action::Reshard);
    }

    /// Aggregates made before a reshard are sent again after it.
    fn send_again(&mut self, stream: usize) {
        let (stale, others) = std::mem::take(&mut self.aggregates).into_iter().partition(|(of, _)| *of == stream);
        self.aggregates = others;
        let stale: Vec<_> = stale;
        for (stream, put) in stale {
            self.cover.stale_aggregates += 1;
            let put = producer::again(&mut self.rng, &mut self.kinesis, &put);
            let late = self.rng.below(3_000);
            self.after(late, Action::Late(stream, put));
        }
    }

    fn forget(&mut self) -> Option<String> {
        let passed = |world: &Self, key: &ShardKey| {
            let range = world.kinesis.shard(key).shard.range;
            let tasks = world.meta.tasks;
            let all = world.meta.policies.out_of_range == OutOfRange::ReadAll;
            let reads = |task: &TaskId| all || tasks.slice(*task).touches(&range);
            let readers: Vec<TaskId> = tasks.tasks().filter(reads).collect();
            world.oracle.passed_by_all(key, &readers, world.shape.rewind_window_ms > 0)
        };
        let gone = self.kinesis.closed().into_iter().find(|key| passed(self, key))?;
        self.kinesis.forget(&gone);
        self.cover.forgotten += 1;
        Some(format!("{gone} is listed no more"))
    }

    /// A host does as it likes.
    pub fn whim(&mut self, host: usize) {
        if self.heir.is_some() {
            return;
        }
        let pause = self.rng.between(1, 2 * self.shape.whim_every_ms);
        self.after(pause, Action::Whim(host));
        if !self.hosts[host].up || self.hosts[host].asleep_until > self.now {
            return;
        }
        let task = TaskId(self.rng.below(u64::from(self.shape.tasks)) as u16);
        if self.rng.chance(5_000) {
            self.redrive(host);
        }
        match self.rng.below(14) {
            10 | 11 => self.deploy(),
            0..=3 => self.start_task(host, task),
            5 if self.faults.crash > 0 => self.crash(host),
            6 | 7 if self.faults.crash > 0 => {
                self.cover.pauses += 1;
                let short = if self.shape.retention_ms.is_some() { 3_000 } else { 7_000 };
                let pause =
                    if self.rng.chance(short) { self.rng.below(5_000) } else { self.rng.below(self.shape.sleep_ms) };
                trace!(self, "host {host} sleeps for {pause} ms");
                self.hosts[host].asleep_until = self.now + pause;
            }
            8 => {
                if let Some(who) = self.hosts[host].tasks.get(&task).map(|instance| instance.who) {
                    trace!(self, "host {host} is to stop task {task}");
                    self.step(who, Event::Stop);
                }
            }
            12 => self.hosts[host].clock_off_ms = self.some_clock(),
            // Whatever nobody runs is taken.
            _ => {
                let runs = |task: &TaskId| self.hosts.iter().any(|host| host.tasks.contains_key(task));
                let idle: Vec<TaskId> = self.meta.tasks.tasks().filter(|task| !runs(task)).collect();
                idle.into_iter().for_each(|task| self.start_task(host, task));
            }
        }
    }
}

/// What was there before the job: records, reshards, and shards that no listing shows any more.
pub fn before_creation(rng: &mut Rng, shape: &Shape, kinesis: &mut Kinesis, now: &mut u64) {
    for _ in 0..rng.below(4) {
        for _ in 0..rng.below(15) {
            let stream = rng.below(shape.streams);
            let key = format!("s{stream}k{}", rng.below(shape.keys));
            let arrived = *now - rng.below(20_000);
            kinesis.put(stream as usize, &key, arrived);
            *now += rng.below(5_000);
        }
        let stream = rng.below(shape.streams) as usize;
        kinesis.now_ms = *now;
        drop(if rng.chance(5_000) { kinesis.split(rng, stream) } else { kinesis.merge(rng, stream) });
    }
    let closed = kinesis.closed();
    if rng.chance(4_000) {
        // What expired first was closed first.
        let gone = rng.below(closed.len() as u64 + 1) as usize;
        closed.iter().filter(|key| key.stream == StreamIndex(0)).take(gone).for_each(|key| kinesis.forget(key));
    }
}
