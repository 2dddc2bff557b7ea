//! What comes from outside: records, reshards, and the whims of hosts, which claim, stop, crash and sleep.

use pelton_core::id::TaskId;
use pelton_core::task::Event;

use crate::world::{Action, World, trace};

impl World {
    /// Puts a few records.
    pub fn put_records(&mut self) {
        if self.now > self.traffic_until {
            return;
        }
        for _ in 0..self.rng.between(1, 3) {
            let stream = self.rng.below(self.shape.streams);
            let key = format!("s{stream}k{}", self.rng.below(self.shape.keys));
            // Arrival times are not monotonic.
            let arrived_ms = self.now - if self.rng.chance(2_000) { self.rng.below(50_000) } else { 0 };
            let record = self.kinesis.put(stream as usize, &key, arrived_ms.max(self.meta.created_ms));
            self.oracle.put(&record);
            self.cover.records += 1;
            trace!(
                self,
                "put {} at {} into input {stream}",
                String::from_utf8_lossy(&record.data),
                record.place.sequence
            );
        }
        let pause = self.rng.between(1, 2 * self.shape.put_every_ms);
        self.after(pause, Action::Put);
    }

    /// Splits, merges, or lets a shard be forgotten that every task passed.
    pub fn reshard(&mut self) {
        if self.now > self.traffic_until {
            return;
        }
        let stream = self.rng.below(self.shape.streams) as usize;
        let did = match self.rng.below(5) {
            0 | 1 => self.kinesis.split(&mut self.rng, stream).inspect(|_| self.cover.splits += 1),
            2 | 3 => self.kinesis.merge(&mut self.rng, stream).inspect(|_| self.cover.merges += 1),
            _ => self.forget(),
        };
        if let Some(did) = did {
            trace!(self, "{did}");
        }
        let pause = self.rng.between(1, 2 * self.shape.reshard_every_ms);
        self.after(pause, Action::Reshard);
    }

    fn forget(&mut self) -> Option<String> {
        let passed = |world: &Self, key: &pelton_core::id::ShardKey| {
            let range = world.kinesis.shard(key).shard.range;
            let tasks = world.meta.tasks;
            let touching: Vec<TaskId> = tasks.tasks().filter(|task| tasks.slice(*task).touches(&range)).collect();
            world.oracle.passed_by_all(key, &touching)
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
        if !self.hosts[host].up {
            return;
        }
        let task = TaskId(self.rng.below(u64::from(self.shape.tasks)) as u16);
        match self.rng.below(10) {
            0..=4 => self.start_task(host, task),
            5 if self.faults.crash > 0 => self.crash(host),
            6 | 7 if self.faults.crash > 0 => {
                self.cover.pauses += 1;
                let pause = if self.rng.chance(7_000) { self.rng.below(5_000) } else { self.rng.below(40_000) };
                trace!(self, "host {host} sleeps for {pause} ms");
                self.hosts[host].asleep_until = self.now + pause;
            }
            8 => {
                if let Some(who) = self.hosts[host].tasks.get(&task).map(|instance| instance.who) {
                    trace!(self, "host {host} is to stop task {task}");
                    self.step(who, Event::Stop);
                }
            }
            // Whatever nobody runs is taken.
            _ => {
                let runs = |task: &TaskId| self.hosts.iter().any(|host| host.tasks.contains_key(task));
                let idle: Vec<TaskId> = self.meta.tasks.tasks().filter(|task| !runs(task)).collect();
                idle.into_iter().for_each(|task| self.start_task(host, task));
            }
        }
    }
}
