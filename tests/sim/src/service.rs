//! The services: what a call comes to when it arrives, and whether its sender learns of it.

use std::panic::resume_unwind;

use pelton_core::append::PutReply;
use pelton_core::commit::CommitKind;
use pelton_core::id::{Epoch, ShardKey, TaskId};
use pelton_core::output::Package;
use pelton_core::task::Event;

use crate::dynamo::Write;
use crate::mutants::Slip;
use crate::oracle::Who;
use crate::trace::trace;
use crate::world::{Action, Request, World};

impl World {
    /// Sends a call on its way.
    pub fn send(&mut self, who: Who, request: Request) {
        let delay = self.delay();
        self.after(delay, Action::Serve(who, request));
    }

    /// Sends a reply on its way.
    pub fn answer(&mut self, who: Who, event: Event) {
        let delay = self.delay();
        self.after(delay, Action::Answer(who, Box::new(event)));
    }

    /// A call arrives.
    pub fn serve(&mut self, who: Who, request: Request) {
        match request {
            Request::Put { commit, epoch, answered } => self.serve_put(who, commit, epoch, answered),
            Request::Publish { packages, answered } => self.serve_publish(who, packages, answered),
            Request::Manifest { manifest, answered } => self.serve_manifest(who, manifest, answered),
            Request::Claim { answered } => self.serve_claim(who, answered),
            Request::ReadTail
            | Request::ReadItem(_)
            | Request::ReadManifests
            | Request::ReadLog(_)
            | Request::ReadIdle => self.serve_read(who, request),
        }
    }

    /// A write is sent. Returns whether its sender learns that it stands.
    pub fn write(&mut self, task: TaskId, write: Write) -> bool {
        if self.goes_wrong(self.faults.late) {
            self.cover.late_writes += 1;
            let late = self.rng.between(1, 30_000);
            self.after(late, Action::Land(task, write));
            return false;
        }
        if self.goes_wrong(self.faults.fail) {
            self.cover.failed_calls += 1;
            return false;
        }
        self.table[usize::from(task.0)].land(write);
        let lost = self.goes_wrong(self.faults.lose);
        self.cover.lost_replies += u64::from(lost);
        !lost
    }

    fn serve_claim(&mut self, who: Who, answered: bool) {
        if !answered && self.goes_wrong(self.faults.fail) {
            self.cover.failed_calls += 1;
            return self.send(who, Request::Claim { answered });
        }
        if !answered && self.goes_wrong(self.faults.late) {
            self.cover.late_writes += 1;
            let late = self.rng.between(1, 30_000);
            self.after(late, Action::Serve(who, Request::Claim { answered: true }));
            return self.send(who, Request::Claim { answered });
        }
        let row = &mut self.table[usize::from(who.task.0)].epoch;
        *row += 1;
        let epoch = Epoch(*row);
        let verdict = self.oracle.claimed(who, epoch);
        self.check(verdict);
        if answered {
            return;
        }
        if self.goes_wrong(self.faults.lose) {
            self.cover.lost_replies += 1;
            return self.send(who, Request::Claim { answered });
        }
        trace!(self, "task {}: host {} claims it in epoch {epoch}", who.task, who.host);
        self.answer(who, Event::Claimed(epoch));
    }

    fn serve_read(&mut self, who: Who, request: Request) {
        if self.goes_wrong(self.faults.fail) {
            self.cover.failed_calls += 1;
            return self.send(who, request);
        }
        let items = &self.table[usize::from(who.task.0)];
        let event = match request {
            Request::ReadTail => Event::TailRead(items.tail()),
            Request::ReadItem(number) => Event::ItemRead(items.log.get(&number).map(|item| item.id)),
            Request::ReadManifests => {
                let mut manifests: Vec<_> = items.manifests.values().cloned().collect();
                manifests.sort_by_key(|manifest| manifest.at);
                Event::ManifestsRead(manifests)
            }
            Request::ReadLog(from) => {
                let page = self.rng.between(1, 20) as usize;
                Event::LogRead(items.page(from, page))
            }
            Request::ReadIdle => {
                // Nobody promises that these are the newest.
                let stale = items.idle_before.clone().filter(|_| self.goes_wrong(self.faults.stale));
                let items = &self.table[usize::from(who.task.0)];
                let found = stale.map_or_else(|| items.idle.values().cloned().collect(), |stale| vec![stale]);
                let newest = items.log.values().rev().find(|item| !item.kind.is_fence()).map(|item| item.id);
                self.cover.idle_found += u64::from(found.iter().any(|(step, _)| Some(*step) == newest));
                Event::IdleFound(found)
            }
            other => unreachable!("{other:?} is no read"),
        };
        self.answer(who, event);
    }

    fn serve_put(
        &mut self,
        who: Who,
        commit: std::sync::Arc<pelton_core::commit::StoredCommit>,
        epoch: Epoch,
        answered: bool,
    ) {
        if !answered && self.goes_wrong(self.faults.late) {
            let late = self.rng.between(1, 30_000);
            self.after(late, Action::Serve(who, Request::Put { commit, epoch, answered: true }));
            return self.answer(who, Event::Put(PutReply::Unknown));
        }
        if !answered && self.goes_wrong(self.faults.fail) {
            self.cover.failed_calls += 1;
            return self.answer(who, Event::Put(PutReply::Unknown));
        }
        let conditional = self.slip != Some(Slip::PutWithoutCondition);
        let verdict = self.oracle.arrives(&commit);
        self.check(verdict);
        let items = &mut self.table[usize::from(who.task.0)];
        let floor = items.floor();
        let applied = items.put(&commit, epoch, who.host, conditional);
        trace!(
            self,
            "task {}: host {} puts {:?} {} of epoch {epoch}: {}",
            who.task,
            who.host,
            commit.kind,
            commit.number,
            if applied { "stands" } else { "refused" }
        );
        if applied {
            let map = &self.hosts[who.host].map;
            let shown = |shard: &ShardKey| map.get(shard).is_some();
            let history = self.oracle.stands(who, epoch, &commit, floor, (&self.kinesis, &shown));
            let effective = history.unwrap_or_else(|wrong| resume_unwind(Box::new(wrong)));
            self.cover.puts_below_floor += u64::from(!effective);
            self.cover.fences += u64::from(effective && commit.kind == CommitKind::Fence);
            self.cover.late_puts += u64::from(answered);
            self.cover.tasks_rewound += u64::from(matches!(commit.kind, CommitKind::Rewind(_)));
        } else {
            self.cover.refused_puts += 1;
        }
        if answered {
            return;
        }
        let reply = match applied {
            _ if self.goes_wrong(self.faults.lose) => {
                self.cover.lost_replies += 1;
                PutReply::Unknown
            }
            true => PutReply::Applied,
            false => PutReply::Exists,
        };
        self.answer(who, Event::Put(reply));
    }

    fn serve_manifest(&mut self, who: Who, manifest: pelton_core::snapshot::Manifest, answered: bool) {
        if !answered && self.goes_wrong(self.faults.late) {
            let late = self.rng.between(1, 30_000);
            self.after(late, Action::Serve(who, Request::Manifest { manifest, answered: true }));
            return self.answer(who, Event::SnapshotTaken(None));
        }
        if !answered && self.goes_wrong(self.faults.fail) {
            self.cover.failed_calls += 1;
            return self.answer(who, Event::SnapshotTaken(None));
        }
        self.cover.snapshots += 1;
        trace!(self, "task {}: a snapshot at {} stands, floor {}", who.task, manifest.at, manifest.floor);
        self.table[usize::from(who.task.0)].manifests.insert(manifest.id, manifest.clone());
        if answered {
            return;
        }
        let known = !self.goes_wrong(self.faults.lose);
        self.cover.lost_replies += u64::from(!known);
        self.answer(who, Event::SnapshotTaken(known.then_some(manifest)));
    }

    fn serve_publish(&mut self, who: Who, packages: Vec<Package>, answered: bool) {
        if !answered && self.goes_wrong(self.faults.late) {
            let late = self.rng.between(1, 30_000);
            let acknowledged = vec![false; packages.len()];
            self.after(late, Action::Serve(who, Request::Publish { packages, answered: true }));
            return self.answer(who, Event::Published(acknowledged));
        }
        let mut acknowledged = Vec::with_capacity(packages.len());
        for package in &packages {
            if self.goes_wrong(self.faults.fail) {
                self.cover.failed_calls += 1;
                acknowledged.push(false);
                continue;
            }
            self.sink(who.task, package);
            let lost = self.goes_wrong(self.faults.lose);
            self.cover.lost_replies += u64::from(lost);
            acknowledged.push(!lost);
        }
        if !answered {
            self.answer(who, Event::Published(acknowledged));
        }
    }

    /// A package arrives at the output stream.
    pub fn sink(&mut self, task: TaskId, package: &Package) {
        for (id, data) in &package.entries {
            trace!(self, "task {task}: output {}.{} of {} is published", id.commit, id.index, package.partition_key);
            let verdict = self.oracle.published(task, &package.partition_key, *id, data);
            self.check(verdict);
        }
        for id in self.downstream.take(package) {
            let verdict = self.oracle.delivered(&package.partition_key, id);
            self.check(verdict);
        }
    }
}
