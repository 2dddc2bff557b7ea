//! A host: performs the effects of its tasks, crashes between any two of them, starts again with what its disk kept.

use std::collections::BTreeSet;
use std::panic::resume_unwind;

use bytes::Bytes;
use pelton_core::cause::StopCause;
use pelton_core::codec::{self, SystemEntry};
use pelton_core::commit::CommitKind;
use pelton_core::dead_letter::LetterBounds;
use pelton_core::id::{CommitId, CommitNumber, TaskId};
use pelton_core::limits::backoff_ms;
use pelton_core::position::Position;
use pelton_core::snapshot::{Manifest, StateMark};
use pelton_core::task::{Applied, Effect, Event, IdSeed, LastStraw, NewSnapshot, OnGap, RunningRules, Task};
use pelton_core::write_set::SYSTEM_SPACE;

use crate::dynamo::Write;
use crate::mutants::Slip;
use crate::oracle::Who;
use crate::promise::Wrong;
use crate::shape::Shape;
use crate::slips;
use crate::store::{State, Store};
use crate::trace::trace;
use crate::world::{Action, Chore, HANG_MS, Host, Instance, Request, World};

/// How exactly a host keeps time, milliseconds.
const TICK_MS: u64 = 100;

impl World {
    /// A host starts, with the disk it has.
    pub fn restart(&mut self, host: usize) {
        if self.hosts[host].up || self.heir.is_some_and(|heir| heir != host) {
            return;
        }
        let before = std::mem::take(&mut self.hosts[host]);
        let life = before.life + 1;
        self.hosts[host] =
            Host { life, up: true, clock_off_ms: before.clock_off_ms, stores: before.stores, ..Host::default() };
        trace!(self, "host {host} starts, life {life}");
        for action in [Action::List(host, life), Action::Tick(host, life), Action::Fsync(host, life)] {
            self.after(0, action);
        }
        self.after(5_000, Action::SaveIdle(host, life));
    }

    /// A host dies; what it did not make durable goes with it.
    pub fn crash(&mut self, host: usize) {
        self.cover.crashes += 1;
        trace!(self, "host {host} crashes");
        let lost_disk = self.goes_wrong(self.faults.disk);
        self.cover.disks_lost += u64::from(lost_disk);
        let rng = &mut self.rng;
        let dead = &mut self.hosts[host];
        dead.up = false;
        dead.tasks.clear();
        dead.readers.clear();
        for store in dead.stores.values_mut() {
            let mark = store.mark;
            let kept = if rng.chance(5_000) { 0 } else { rng.below(store.volatile() as u64 + 1) as usize };
            store.crash(kept);
            if self.slip == Some(Slip::MarkSurvivesCrash) {
                store.mark = mark;
            }
        }
        if lost_disk {
            dead.stores.clear();
            // What is put in its place may be another's, from another history of the same task.
            if rng.chance(3_000) {
                let task = TaskId(rng.below(u64::from(self.shape.tasks)) as u16);
                let tail = self.table[usize::from(task.0)].tail();
                let number = CommitNumber(rng.between(1, tail.number.0.max(1)));
                dead.stores.insert(task, Store::foreign(number, CommitId(rng.bytes16()), tail.epoch));
                self.cover.foreign_disks += 1;
            }
        }
        let pause = self.rng.between(1, 8_000);
        self.after(pause, Action::Restart(host));
    }

    /// A host sets out to own a task.
    pub fn start_task(&mut self, host: usize, task: TaskId) {
        if self.hosts[host].tasks.contains_key(&task) {
            return;
        }
        self.instances += 1;
        let who = Who { host, life: self.hosts[host].life, task, instance: self.instances };
        // In the end whoever runs the job lets it go on.
        let healing = self.heir.is_some();
        let Shape { letters_max, letter_bytes_max, .. } = self.shape;
        let (letters_max, bytes_max) = if healing { (u64::MAX, u64::MAX) } else { (letters_max, letter_bytes_max) };
        let rules = RunningRules {
            commit_interval_ms: self.shape.commit_interval_ms,
            retries: self.shape.retries,
            last_straw: if healing { LastStraw::DeadLetter } else { self.shape.last_straw },
            on_gap: if healing { OnGap::Continue } else { self.shape.on_gap },
            letters: LetterBounds { letters_max, bytes_max },
            from_job: (0..self.shape.streams).map(|stream| stream < self.shape.upstream_streams).collect(),
            assignment: self.rollout.assignment(task),
            positions_age_max_ms: self.shape.positions_age_max_ms,
            rewind_window_ms: self.shape.rewind_window_ms,
        };
        let ids = IdSeed::new(self.rng.bytes16());
        let machine = Task::new(task, self.meta.clone(), rules, ids).bounded(self.shape.bounds);
        let instance = Instance {
            who,
            task: machine,
            assignment: self.rollout.assignment(task),
            trial_failures: 0,
            ready: false,
            full: BTreeSet::new(),
            sent: None,
            deferred: Vec::new(),
        };
        self.hosts[host].tasks.insert(task, instance);
        self.step(who, Event::Start);
    }

    pub fn instance(&mut self, who: Who) -> Option<&mut Instance> {
        let host = &mut self.hosts[who.host];
        let alive = host.up && host.life == who.life;
        host.tasks.get_mut(&who.task).filter(|instance| alive && instance.who == who)
    }

    /// Gives a task an event and does what it asks for.
    pub fn step(&mut self, who: Who, event: Event) {
        let now = self.host_now(who.host);
        let event = self.slip_event(who, event);
        let idle_found = matches!(event, Event::IdleFound(_));
        let ends = matches!(&event, Event::Run(run) if run.up_to == Position::ShardEnd);
        let Some(instance) = self.instance(who) else { return };
        let mut effects = Vec::new();
        instance.task.step(now, event, &mut effects);
        if idle_found {
            instance.ready = true;
        }
        let asked = effects.iter().any(|effect| matches!(effect, Effect::LookForShards));
        let look = idle_found || ends || (asked && self.slip != Some(Slip::NoLook));
        for effect in effects {
            if self.goes_wrong(self.faults.crash) {
                self.cover.crashes_amid_effects += 1;
                return self.crash(who.host);
            }
            self.perform(who, effect);
        }
        if look {
            self.want(who);
        }
        self.give_room(who);
    }

    fn perform(&mut self, who: Who, effect: Effect) {
        match effect {
            Effect::Claim => self.send(who, Request::Claim { answered: false }),
            Effect::ReadTail => self.send(who, Request::ReadTail),
            Effect::ReadItem(number) => self.send(who, Request::ReadItem(number)),
            Effect::ReadManifests => self.send(who, Request::ReadManifests),
            Effect::ReadLog(number) => self.send(who, Request::ReadLog(number)),
            Effect::Ready => {
                self.send(who, Request::ReadIdle);
            }
            Effect::Put { commit, epoch, attempt } => {
                let commit = self.slip_put(who, commit.stored().clone(), attempt);
                let fence = commit.kind == CommitKind::Fence;
                let pause = backoff_ms(attempt) + if fence { self.rng.below(self.shape.fence_ms) } else { 0 };
                self.cover.staged_commits += u64::from(!commit.parts.is_empty());
                self.after(pause, Action::Work(who, Chore::Stage { commit, epoch, part: 0 }));
            }
            Effect::OpenLocal | Effect::ResetLocal | Effect::LoadSnapshot(_) | Effect::LoadSystem(_) => {
                self.perform_local(who, effect);
            }
            Effect::Apply(applied) => self.apply(who, applied),
            Effect::Call(call) => {
                let hangs = self.hung == Some(who.task);
                let pause = if hangs { HANG_MS } else { self.rng.below(self.shape.call_ms) };
                self.after(pause, Action::Work(who, Chore::Call(call)));
            }
            Effect::Reread(want) => {
                self.cover.holes += 1;
                trace!(self, "task {}: host {} has a hole in {} after {}", who.task, who.host, want.shard, want.after);
                self.reread(who, &want);
            }
            Effect::Publish { packages, attempt } => {
                self.cover.repeats_published += u64::from(attempt > 0);
                let delay = backoff_ms(attempt) + self.delay();
                self.after(delay, Action::Serve(who, Request::Publish { packages, answered: false }));
            }
            Effect::Snapshot(snapshot) => self.snapshot(who, snapshot),
            Effect::Rewind(to) => {
                let pause = self.rng.below(3_000);
                self.after(pause, Action::Work(who, Chore::Rewind(to)));
            }
            Effect::Trim(floor) => self.after(1, Action::Work(who, Chore::Trim(floor))),
            Effect::DropInstance | Effect::LookForShards => {}
            Effect::Swap(assignment) => self.swap(who, assignment),
            Effect::TrialFailed(tried, _) => self.trial_failed(who, tried.deployment),
            Effect::Stopped(cause) => self.stopped(who, &cause),
        }
    }

    pub fn store(&mut self, who: Who) -> &mut Store {
        self.hosts[who.host].stores.entry(who.task).or_default()
    }

    pub fn apply(&mut self, who: Who, applied: Applied) {
        let verdict = self.oracle.local(who.task, applied.mark);
        self.check(verdict);
        let running = self.instance(who).and_then(|instance| instance.task.running());
        let waits = running.is_some_and(|running| !running.outbox().is_empty());
        if waits && self.slip == Some(Slip::PublishAhead) {
            self.publish_writes(who, &applied.writes, applied.mark.number);
        }
        self.store(who).apply(applied);
        if self.goes_wrong(1_000) {
            self.store(who).fsync();
        }
    }

    fn perform_local(&mut self, who: Who, effect: Effect) {
        match effect {
            Effect::OpenLocal => {
                let mark = self.store(who).mark;
                trace!(self, "task {}: host {} has a local copy at {}", who.task, who.host, mark.number);
                self.answer(who, Event::LocalOpened(mark));
            }
            Effect::ResetLocal => {
                self.cover.rebuilt += 1;
                let durably = self.rng.chance(5_000);
                self.store(who).replace(State::new(), StateMark::default(), durably);
                self.answer(who, Event::LocalReset);
            }
            Effect::LoadSnapshot(manifest) => {
                self.after(1, Action::Work(who, Chore::Load { manifest, part: 0, state: State::new() }));
            }
            Effect::LoadSystem(mark) => {
                let store = self.store(who);
                assert_eq!(store.mark, mark, "the local copy stands where the restore says");
                let system = store.state.iter().filter(|(key, _)| key[0] == SYSTEM_SPACE);
                let system = system.map(|(key, value)| codec::decode_system(key, value.clone()));
                let mut system = system.collect::<Result<Vec<_>, _>>().expect("system state decodes");
                if self.slip == Some(Slip::ForgetRepeats) {
                    system.retain(|entry| !matches!(entry, SystemEntry::Seen(..)));
                }
                let state = self.hosts[who.host].stores[&who.task].state.clone();
                trace!(
                    self,
                    "task {}: host {} is restored up to {}: {} entries",
                    who.task,
                    who.host,
                    mark.number,
                    state.len()
                );
                self.answer(who, Event::SystemLoaded(system));
            }
            other => unreachable!("{other:?} is not about the local copy"),
        }
    }

    fn snapshot(&mut self, who: Who, snapshot: NewSnapshot) {
        let NewSnapshot { mark, id, taken_ms, floor } = snapshot;
        let slip = self.slip;
        let store = self.store(who);
        assert_eq!(store.mark, mark, "a snapshot is of the local copy as it stands");
        let entries = store.state.iter().map(|(key, value)| (key.clone(), value.clone()));
        let entries: Vec<(Bytes, Bytes)> = entries.filter(|(key, _)| slips::is_in_snapshot(slip, key)).collect();
        let state_bytes = entries.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        let chunk = self.rng.between(1, 40) as usize;
        let parts: Vec<Vec<(Bytes, Bytes)>> = entries.chunks(chunk).map(<[_]>::to_vec).collect();
        let manifest = Manifest {
            id,
            at: mark.number,
            at_id: mark.id,
            at_epoch: mark.epoch,
            last_step_id: mark.last_step_id,
            taken_ms,
            floor,
            parts: parts.len() as u32,
            entries: entries.len() as u64,
            state_bytes,
        };
        let manifest = self.slip_manifest(who, manifest);
        self.after(1, Action::Work(who, Chore::Snapshot { manifest, parts: parts.into(), part: 0 }));
    }

    fn stopped(&mut self, who: Who, cause: &StopCause) {
        trace!(self, "task {}: host {} stops it: {cause}", who.task, who.host);
        match cause {
            StopCause::Asked => self.cover.drained += 1,
            StopCause::Fenced { .. } => self.cover.zombies_fenced += 1,
            StopCause::ClaimLost { .. } => self.cover.claims_lost += 1,
            StopCause::FenceTrimmed { .. } => self.cover.fences_trimmed += 1,
            StopCause::Failing { .. } => self.cover.batches_given_up += 1,
            StopCause::Gap { .. } if self.shape.on_gap == OnGap::Stop => self.cover.stopped_at_gaps += 1,
            StopCause::DeadLettersFull { letters, bytes, .. }
                if *letters <= self.shape.letters_max && *bytes <= self.shape.letter_bytes_max =>
            {
                self.cover.letters_full += 1;
            }
            StopCause::CorruptCommit { .. } | StopCause::MissingCommit { .. } | StopCause::CorruptSnapshot { .. } => {
                let what = format!("a state can be restored: task {}: {cause}", who.task);
                resume_unwind(Box::new(Wrong::invariant(3, what)));
            }
            StopCause::Logic(_) if self.cover.fatal_calls > 0 => {}
            StopCause::RewindRecordsGone { .. } if self.shape.retention_ms.is_some() => self.withdraw(who),
            StopCause::Logic(_)
            | StopCause::Gap { .. }
            | StopCause::DeadLettersFull { .. }
            | StopCause::RewindTooLarge { .. }
            | StopCause::RewindOutOfReach { .. }
            | StopCause::RewindRecordsGone { .. }
            | StopCause::Store(_)
            | StopCause::Service(_) => panic!("nothing stops a task but its like: task {}: {cause}", who.task),
        }
        self.hosts[who.host].tasks.remove(&who.task);
        for reader in self.hosts[who.host].readers.values_mut() {
            reader.feed.leave(who.task);
        }
    }

    /// What is applied on a host becomes durable now and then.
    pub fn fsync(&mut self, host: usize, life: u32) {
        self.hosts[host].stores.values_mut().for_each(Store::fsync);
        let pause = self.rng.between(1_000, 15_000);
        self.after(pause, Action::Fsync(host, life));
    }

    /// The positions of idle tasks replace those the host had kept.
    pub fn save_idle(&mut self, host: usize, life: u32) {
        let instances: Vec<TaskId> = self.hosts[host].tasks.keys().copied().collect();
        for task in instances {
            let idle = self.hosts[host].tasks[&task].task.idle_positions();
            let idle = idle.map(|(step, entries)| (step, self.slip_idle(entries)));
            self.write(task, Write::Idle((host, life), idle));
        }
        let pause = self.rng.between(1_000, 10_000);
        self.after(pause, Action::SaveIdle(host, life));
    }

    /// Time passes on a host.
    pub fn tick(&mut self, host: usize, life: u32) {
        let now = self.host_now(host);
        let running = |instance: &&Instance| instance.task.running().is_some();
        let running = self.hosts[host].tasks.values().filter(running);
        let due = |instance: &&Instance| instance.task.wake_at_ms().is_some_and(|wake_ms| wake_ms <= now);
        let due: Vec<Who> = running.filter(due).map(|instance| instance.who).collect();
        for who in due {
            self.step(who, Event::Tick);
        }
        self.after(TICK_MS, Action::Tick(host, life));
        if self.heir == Some(host) && self.hosts[host].up {
            let missing = self.meta.tasks.tasks().filter(|task| !self.hosts[host].tasks.contains_key(task));
            missing.collect::<Vec<_>>().into_iter().for_each(|task| self.start_task(host, task));
        }
    }
}
