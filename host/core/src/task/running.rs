//! A running task: takes runs, calls the logic, seals commits, and publishes what is durable.

mod look;

use std::sync::Arc;

use super::effect::{Applied, Call, CallOutcome, Effect, Event};
use super::seal::{Open, Sealed, Snapshots};
use super::{IdSeed, put, unasked};
use crate::append::AppendNext;
use crate::cause::StopCause;
use crate::codec::SystemEntry;
use crate::id::{CommitId, CommitNumber, DeploymentNumber, Epoch, ShardKey, TaskId};
use crate::intake::{Admission, Batch, Intake, Want};
use crate::job::JobMeta;
use crate::limits::{Bounds, backoff_ms};
use crate::outbox::{Outbox, Round};
use crate::position::{Position, PositionEntry};
use crate::record::Run;
use crate::restore::Restore;
use crate::shard::ShardMap;
use crate::snapshot::StateMark;

/// What a running task goes by.
#[derive(Clone, Copy, Debug)]
pub struct RunningRules {
    /// Oldest an uncommitted write becomes, in milliseconds.
    pub commit_interval_ms: u64,
    /// How often a failed batch is tried again.
    pub retries: u32,
    /// The deployment the task is pinned to.
    pub deployment: DeploymentNumber,
    /// Positions are committed alone when those in the log are this old, in milliseconds: an eighth of retention.
    pub positions_age_max_ms: u64,
}

/// What the guest call is at.
#[derive(Debug)]
enum Calling {
    Idle,
    /// The call is under way.
    Under(Arc<Batch>, Invoked),
    /// It failed and is tried again at a time.
    Again(Arc<Batch>, u64),
}

#[derive(Clone, Copy, Debug)]
struct Invoked {
    time_ms: u64,
}

/// A task that owns its log and whose state is restored.
#[derive(Debug)]
pub struct Running {
    task: TaskId,
    meta: Arc<JobMeta>,
    rules: RunningRules,
    bounds: Bounds,
    epoch: Epoch,
    /// The newest durable commit.
    mark: StateMark,
    intake: Intake,
    outbox: Outbox,
    calling: Calling,
    attempts: u32,
    fault: Option<String>,
    open: Open,
    sealed: Option<Sealed>,
    snapshots: Snapshots,
    /// The commit before which the instance was born; none when the next call needs a new one.
    born: Option<CommitNumber>,
    /// Time of the newest invocation.
    clock_ms: u64,
    positions_logged_ms: u64,
    draining: Option<StopCause>,
    records_folded: u64,
    failed_batches: u64,
}

impl Running {
    pub(super) fn new(
        task: TaskId,
        meta: Arc<JobMeta>,
        (rules, bounds): (RunningRules, Bounds),
        restore: &Restore,
        system: Vec<SystemEntry>,
        now_ms: u64,
    ) -> Self {
        let mut positions = Vec::new();
        let mut outbox = Outbox::new(meta.incarnation, task);
        let mut clock_ms = 0;
        for entry in system {
            match entry {
                SystemEntry::Position(shard, entry) => positions.push((shard, entry)),
                SystemEntry::Outbox(commit, outputs) => outbox.push(commit, outputs),
                SystemEntry::Clock(time_ms) => clock_ms = time_ms,
            }
        }
        // Positions are as old as the oldest that is still short of its shard's end; a start makes them no younger.
        let unfinished =
            positions.iter().filter(|(_, entry): &&(_, PositionEntry)| entry.position != Position::ShardEnd);
        let positions_logged_ms = unfinished.map(|(_, entry)| entry.unread_from_ms).min().unwrap_or(now_ms).min(now_ms);
        let manifest = restore.ownership().manifests.iter().max_by_key(|manifest| manifest.at);
        Self {
            task,
            intake: Intake::new(meta.tasks.slice(task), positions),
            meta,
            rules,
            bounds,
            epoch: restore.ownership().epoch,
            mark: restore.mark(),
            outbox,
            calling: Calling::Idle,
            attempts: 0,
            fault: None,
            open: Open::default(),
            sealed: None,
            snapshots: Snapshots::new(manifest, restore.mark()),
            born: None,
            clock_ms,
            positions_logged_ms,
            draining: None,
            records_folded: 0,
            failed_batches: 0,
        }
    }

    /// Takes an event; a cause means that the task stops now, with nothing more to be done.
    pub(super) fn handle(&mut self, now_ms: u64, event: Event, effects: &mut Vec<Effect>) -> Option<StopCause> {
        match event {
            Event::Run(run) => self.take(run, effects),
            Event::Called(outcome) => self.called(now_ms, outcome, effects),
            Event::Put(reply) => {
                let next = self.sealed.as_mut().expect("a put is answered while a commit is sealed").append.put(reply);
                return self.appended(now_ms, next, effects);
            }
            Event::ItemRead(standing) => {
                let sealed = self.sealed.as_mut().expect("a read is answered while a commit is sealed");
                let next = sealed.append.read(standing);
                return self.appended(now_ms, next, effects);
            }
            Event::Published(acknowledged) => match self.outbox.answered(&acknowledged) {
                Round::More => {}
                Round::Complete(commit) => self.open.published(now_ms, commit),
            },
            Event::IdleFound(found) => {
                let believed = found.into_iter().filter(|(step, _)| *step == self.mark.last_step_id);
                believed.for_each(|(_, entries)| self.intake.advance(entries));
            }
            Event::SnapshotTaken(manifest) => {
                if let Some(floor) = self.snapshots.taken(manifest) {
                    effects.push(Effect::Trim(floor));
                }
            }
            Event::Trimmed => self.snapshots.trimmed(),
            Event::Stop => self.drain(StopCause::Asked),
            Event::Tick => {}
            event => unasked(&event),
        }
        None
    }

    /// Does whatever can be done now; a cause means that the task is done.
    pub(super) fn proceed(&mut self, now_ms: u64, ids: &mut IdSeed, effects: &mut Vec<Effect>) -> Option<StopCause> {
        if let Some((packages, attempt)) = self.outbox.next_round() {
            effects.push(Effect::Publish { packages, attempt });
        }
        if self.sealed.is_none() && self.seal_is_due(now_ms) {
            self.seal(now_ms, ids, effects);
        }
        if self.draining.is_none() {
            self.call(now_ms, effects);
        }
        let quiet = matches!(self.calling, Calling::Idle | Calling::Again(..));
        let drained = quiet && self.sealed.is_none() && self.open.is_empty() && self.outbox.is_empty();
        self.draining.take_if(|_| drained)
    }

    fn drain(&mut self, cause: StopCause) {
        self.draining.get_or_insert(cause);
    }

    fn take(&mut self, run: Run, effects: &mut Vec<Effect>) {
        if self.draining.is_some() {
            return;
        }
        let shard = run.shard.clone();
        match self.intake.offer(run) {
            Admission::Taken | Admission::Known => {}
            Admission::Hole(position) => effects.push(Effect::Reread(shard, position)),
        }
    }

    fn call(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let has_room = self.open.bytes() < self.bounds.seal_bytes && !self.outbox.is_full();
        let batch = match &self.calling {
            Calling::Under(..) => return,
            Calling::Again(batch, at_ms) if now_ms >= *at_ms => batch.clone(),
            Calling::Again(..) => return,
            Calling::Idle if !has_room => return,
            Calling::Idle => loop {
                let Some(batch) = self.intake.next_batch(&self.bounds) else { return };
                if batch.records() > 0 {
                    break Arc::new(batch);
                }
                self.fold(&batch);
                if self.draining.is_some() {
                    return;
                }
            },
        };
        self.clock_ms = self.clock_ms.max(now_ms);
        let born = self.born.is_none();
        self.born.get_or_insert(self.next_number());
        effects.push(Effect::Call(Call {
            batch: batch.clone(),
            time_ms: self.clock_ms,
            seed: self.open.seed(self.next_number(), self.attempts),
            born,
            open: self.open.writes(),
            sealed: self.sealed.as_ref().map(|sealed| sealed.writes.clone()),
        }));
        self.calling = Calling::Under(batch, Invoked { time_ms: self.clock_ms });
    }

    fn called(&mut self, now_ms: u64, outcome: CallOutcome, effects: &mut Vec<Effect>) {
        let Calling::Under(batch, invoked) = std::mem::replace(&mut self.calling, Calling::Idle) else {
            panic!("a call is answered while one is under way");
        };
        match outcome {
            CallOutcome::Folded { writes, outputs } => {
                self.records_folded += batch.records() as u64;
                self.open.fold(now_ms, invoked.time_ms, self.attempts, &batch, writes, outputs);
                self.attempts = 0;
                self.fault = None;
                self.fold(&batch);
            }
            CallOutcome::Fatal(message) => {
                self.failed(effects);
                self.fault = Some(message.clone());
                self.drain(StopCause::Logic(message));
            }
            CallOutcome::Failed(fault) => {
                self.failed(effects);
                self.attempts += 1;
                self.fault = Some(fault.clone());
                if self.attempts > self.rules.retries {
                    let (shard, first) = first_record(&batch);
                    self.drain(StopCause::Batch { attempts: self.attempts, shard, first, fault });
                } else {
                    self.calling = Calling::Again(batch, now_ms + backoff_ms(self.attempts));
                }
            }
        }
    }

    /// A call failed: its instance goes with its writes.
    fn failed(&mut self, effects: &mut Vec<Effect>) {
        self.failed_batches += 1;
        self.born = None;
        effects.push(Effect::DropInstance);
    }

    /// Moves the positions past a batch, up to a record set aside.
    fn fold(&mut self, batch: &Batch) {
        self.intake.passed(batch);
        let aside = batch.runs.iter().find_map(|run| Some((run.shard.clone(), run.set_aside?)));
        if let Some((shard, (place, kind))) = aside {
            self.drain(StopCause::SetAside { shard, place, kind });
        }
    }

    fn next_number(&self) -> CommitNumber {
        let newest = self.sealed.as_ref().map_or(self.mark.number, |sealed| sealed.append.commit.number);
        newest.next()
    }

    fn seal_is_due(&self, now_ms: u64) -> bool {
        // Positions and state are sealed as one, so never in the midst of a call.
        if matches!(self.calling, Calling::Under(..)) {
            return false;
        }
        let positions_old = now_ms >= self.positions_logged_ms + self.rules.positions_age_max_ms;
        (self.draining.is_some() && !self.open.is_empty())
            || self.open.is_due(now_ms, self.rules.commit_interval_ms, &self.bounds)
            || (positions_old && self.intake.unsealed().next().is_some())
    }

    fn seal(&mut self, now_ms: u64, ids: &mut IdSeed, effects: &mut Vec<Effect>) {
        let born = self.born.unwrap_or_else(|| self.next_number());
        let header = super::seal::Header {
            number: self.next_number(),
            id: ids.next(),
            epoch: self.epoch,
            deployment: self.rules.deployment,
            born,
            clock_ms: self.clock_ms,
            before: self.mark,
        };
        let sealed = self.open.seal(header, self.intake.seal());
        self.positions_logged_ms = now_ms;
        effects.push(put(&sealed.append, 0));
        self.sealed = Some(sealed);
    }

    fn appended(&mut self, _now_ms: u64, next: AppendNext, effects: &mut Vec<Effect>) -> Option<StopCause> {
        let sealed = self.sealed.as_ref().expect("an append is under way");
        match next {
            AppendNext::Put(attempt) => effects.push(put(&sealed.append, attempt)),
            AppendNext::Read => effects.push(Effect::ReadItem(sealed.append.commit.number)),
            AppendNext::Fenced => {
                return Some(StopCause::Fenced { number: sealed.append.commit.number, epoch: self.epoch });
            }
            AppendNext::Done => {
                let sealed = self.sealed.take().expect("an append is under way");
                self.snapshots.appended(&sealed);
                self.mark = StateMark { log_bytes: self.snapshots.log_bytes(), ..sealed.mark };
                effects.push(Effect::Apply(Applied { writes: sealed.writes.clone(), mark: self.mark }));
                if let Some(mark) = self.snapshots.due(self.mark, &self.bounds) {
                    effects.push(Effect::Snapshot(mark, sealed.snapshot_id()));
                }
                if !sealed.outputs.is_empty() {
                    self.outbox.push(self.mark.number, sealed.outputs);
                }
            }
        }
        None
    }

    pub(super) fn wants(&mut self, map: &ShardMap) -> Vec<Want> {
        self.intake.wants(map, &self.meta)
    }

    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        let retry = match &self.calling {
            Calling::Again(_, at_ms) => Some(*at_ms),
            Calling::Idle | Calling::Under(..) => None,
        };
        let seal = if self.sealed.is_none() { self.open.due_at_ms(self.rules.commit_interval_ms) } else { None };
        retry.into_iter().chain(seal).min()
    }

    pub(super) fn idle_positions(&self) -> Option<(CommitId, Vec<(ShardKey, PositionEntry)>)> {
        let idle = matches!(self.calling, Calling::Idle)
            && self.sealed.is_none()
            && self.open.is_empty()
            && self.intake.waiting().next().is_none();
        let unsealed: Vec<_> = self.intake.unsealed().map(|(shard, entry)| (shard.clone(), *entry)).collect();
        (idle && !unsealed.is_empty()).then_some((self.mark.last_step_id, unsealed))
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// The epoch of this host.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

fn first_record(batch: &Batch) -> (ShardKey, String) {
    let run = batch.runs.iter().find(|run| !run.is_empty()).expect("only a batch with records is called");
    let first = run.records().next().expect("the run is not empty");
    (run.shard.clone(), format!("{}/{}", first.place.sequence, first.place.sub_sequence))
}
