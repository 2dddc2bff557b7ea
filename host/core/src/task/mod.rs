//! A task: the machine that moves its state, its positions and its outputs as one. It claims, restores, folds, commits and
//! publishes, and says what it needs done; it never does anything itself. Whatever crashes between two effects, the next
//! owner finds a state that a prefix of the changelog explains.

mod attempts;
mod effect;
mod pin;
mod refold;
mod rewind;
mod running;
mod seal;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::append::Append;
use crate::cause::StopCause;
use crate::claim::{Claim, ClaimNext, Ownership};
use crate::commit::CommitKind;
use crate::id::{CommitId, CommitNumber, DeploymentNumber, Epoch, ShardKey, TaskId};
use crate::job::JobMeta;
use crate::limits::Bounds;
use crate::position::PositionEntry;
use crate::restore::{AfterApply, Restore, RestoreNext};
use crate::shard::ShardMap;
use crate::snapshot::StateMark;
use running::Origin;
use seal::Snapshots;

pub use attempts::{Attempts, Item};
pub use effect::{Applied, Call, CallOutcome, Effect, Event, Failure, FailureKind, Given, NewSnapshot, Work};
pub use pin::{Assignment, Trial};
pub use refold::{FoldedBefore, Refold, RefoldedOutputs};
pub use rewind::{PINS_KEPT_MAX, PinnedFrom, Pins, RewindTo, Undone, UndoneRevisions, difference};
pub use running::{LastStraw, OnGap, OutOfReach, Reach, Running, RunningRules};

/// Random ids from one random seed, each used once.
#[derive(Clone, Debug)]
pub struct IdSeed {
    seed: [u8; 16],
    used: u64,
}

impl IdSeed {
    /// Ids from a seed that no other process and task has.
    pub fn new(seed: [u8; 16]) -> Self {
        Self { seed, used: 0 }
    }

    fn next(&mut self) -> CommitId {
        use md5::{Digest as _, Md5};
        self.used += 1;
        CommitId(Md5::new().chain_update(self.seed).chain_update(self.used.to_be_bytes()).finalize().into())
    }
}

/// Where a task is in its life on this host.
#[derive(Debug)]
enum Phase {
    /// Not begun.
    New,
    Claiming(Claim),
    Restoring(Restore),
    /// The state stands at the fence; its system part is being read.
    Loading(Restore),
    Running(Box<Running>),
    Stopped,
}

/// One task of a job, as its owner runs it.
#[derive(Debug)]
pub struct Task {
    id: TaskId,
    meta: Arc<JobMeta>,
    rules: RunningRules,
    bounds: Bounds,
    ids: IdSeed,
    phase: Phase,
    /// Stop was asked for before the task ran.
    stop_asked: bool,
    /// Of a task that ran and has stopped, how far back it can go.
    past: Option<(Pins, CommitNumber)>,
    /// Of a task that has stopped, the epoch it had.
    epoch_before: Epoch,
}

/// What a phase looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseName {
    /// Becoming the owner.
    Claiming,
    /// Bringing the local state up to the log.
    Restoring,
    /// Folding records.
    Running,
    /// On its way back to an earlier commit.
    Rewinding,
    /// Committing and publishing what is left.
    Draining,
    /// Stopped.
    Stopped,
}

impl Task {
    /// A task that does nothing until [`Event::Start`].
    pub fn new(id: TaskId, meta: Arc<JobMeta>, rules: RunningRules, ids: IdSeed) -> Self {
        let (phase, bounds) = (Phase::New, Bounds::FULL);
        Self { id, meta, rules, bounds, ids, phase, stop_asked: false, past: None, epoch_before: Epoch(0) }
    }

    /// The same task with other bounds.
    #[must_use]
    pub fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Which task.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Where it is in its life.
    pub fn phase(&self) -> PhaseName {
        match &self.phase {
            Phase::New | Phase::Claiming(_) => PhaseName::Claiming,
            Phase::Restoring(_) | Phase::Loading(_) => PhaseName::Restoring,
            Phase::Running(running) if running.is_undone() => PhaseName::Rewinding,
            Phase::Running(running) if running.is_draining() => PhaseName::Draining,
            Phase::Running(_) => PhaseName::Running,
            Phase::Stopped => PhaseName::Stopped,
        }
    }

    /// The running part, while there is one.
    pub fn running(&self) -> Option<&Running> {
        match &self.phase {
            Phase::Running(running) => Some(running),
            Phase::New | Phase::Claiming(_) | Phase::Restoring(_) | Phase::Loading(_) | Phase::Stopped => None,
        }
    }

    /// What it runs, or is to run once it can; of one that has stopped, what it ran.
    pub fn assignment(&self) -> &Assignment {
        self.running().map_or(&self.rules.assignment, Running::assignment)
    }

    /// Whether the task's log and streams reach back to before what is to be undone; none while it is not known yet.
    pub fn reaches(&self, undone: Undone, reach: Reach) -> Option<Result<(), OutOfReach>> {
        let (pins, floor) = self.running().map(Running::past).or_else(|| self.past.clone())?;
        Some(reach.check(&pins, undone, floor))
    }

    /// Its epoch on this host, 0 before it is known; it stays that when the task stops.
    pub fn epoch(&self) -> Epoch {
        match &self.phase {
            Phase::New => Epoch(0),
            Phase::Stopped => self.epoch_before,
            Phase::Claiming(claim) => claim.epoch(),
            Phase::Restoring(restore) | Phase::Loading(restore) => restore.ownership().epoch,
            Phase::Running(running) => running.epoch(),
        }
    }

    /// When the task next has something to do by itself, in milliseconds.
    pub fn wake_at_ms(&self) -> Option<u64> {
        self.running().and_then(Running::wake_at_ms)
    }

    /// Takes an event and says what it needs done, in this order.
    ///
    /// # Panics
    /// When an event answers something that was not asked for.
    pub fn step(&mut self, now_ms: u64, event: Event, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Stopped) {
            return;
        }
        match event {
            Event::Broken(cause) => {
                if let Phase::Running(running) = &mut self.phase
                    && running.is_withdrawn(&cause)
                {
                    return running.load_again(effects);
                }
                return self.stop(cause, effects);
            }
            Event::Stop if !matches!(self.phase, Phase::Running(_)) => {
                self.stop_asked = true;
                return self.stop(StopCause::Asked, effects);
            }
            Event::Tick | Event::Run(_) | Event::Lost(..) | Event::Redrive(..) | Event::Forget(..) | Event::Renew
                if !matches!(self.phase, Phase::Running(_)) =>
            {
                return;
            }
            Event::Assign(assignment) if !matches!(self.phase, Phase::Running(_)) => {
                self.rules.assignment = assignment;
                return;
            }
            event => self.dispatch(now_ms, event, effects),
        }
        if let Phase::Running(running) = &mut self.phase
            && let Some(cause) = running.proceed(now_ms, &mut self.ids, effects)
        {
            self.stop(cause, effects);
        }
    }

    fn dispatch(&mut self, now_ms: u64, event: Event, effects: &mut Vec<Effect>) {
        match (&mut self.phase, event) {
            (Phase::New, Event::Start) => {
                self.phase = Phase::Claiming(Claim::new(self.ids.next()));
                effects.push(Effect::Claim);
            }
            (Phase::Claiming(claim), event) => {
                let next = match event {
                    Event::Claimed(epoch) => claim.claimed(epoch),
                    Event::TailRead(tail) => claim.tail(tail),
                    Event::Put(reply) => claim.put(reply),
                    Event::ItemRead(standing) => claim.read(standing),
                    Event::ManifestsRead(manifests) => claim.manifests(manifests),
                    event => return unasked(&event),
                };
                self.claim_next(next, effects);
            }
            (Phase::Restoring(restore), event) => {
                let next = match event {
                    Event::LocalOpened(mark) => restore.local_opened(mark),
                    Event::LocalReset => restore.local_reset(),
                    Event::SnapshotLoaded(outcome) => restore.snapshot_loaded(outcome),
                    Event::LogRead(page) => restore.log_read(page),
                    Event::ManifestsRead(manifests) => restore.manifests(manifests),
                    event => return unasked(&event),
                };
                self.restore_next(next, effects);
            }
            (Phase::Loading(restore), Event::SystemLoaded(loaded)) => {
                let Ownership { epoch, manifests, .. } = restore.ownership();
                let mark = restore.mark();
                let origin = Origin { epoch: *epoch, mark, snapshots: Snapshots::new(manifests, mark) };
                let rules = (self.rules.clone(), self.bounds);
                let running = Running::new(self.id, self.meta.clone(), rules, origin, loaded, now_ms);
                self.phase = Phase::Running(Box::new(running));
                effects.extend([Effect::Swap(self.rules.assignment.clone()), Effect::Ready]);
            }
            (Phase::Running(running), Event::SystemLoaded(loaded)) => running.begin_anew(loaded, now_ms, effects),
            (Phase::Running(running), event) => {
                if let Some(cause) = running.handle(now_ms, event, &mut self.ids, effects) {
                    self.stop(cause, effects);
                }
            }
            (_, event) => unasked(&event),
        }
    }

    fn claim_next(&mut self, next: ClaimNext, effects: &mut Vec<Effect>) {
        match next {
            ClaimNext::Claim => effects.push(Effect::Claim),
            ClaimNext::ReadTail => effects.push(Effect::ReadTail),
            ClaimNext::Put(append, attempt) => effects.push(put(&append, attempt)),
            ClaimNext::Read(number) => effects.push(Effect::ReadItem(number)),
            ClaimNext::ReadManifests => effects.push(Effect::ReadManifests),
            ClaimNext::Owned(ownership) => {
                self.phase = Phase::Restoring(Restore::new(ownership));
                effects.push(Effect::OpenLocal);
            }
            ClaimNext::Lost(cause) => self.stop(cause, effects),
        }
    }

    fn restore_next(&mut self, next: RestoreNext, effects: &mut Vec<Effect>) {
        match next {
            RestoreNext::OpenLocal => effects.push(Effect::OpenLocal),
            RestoreNext::ResetLocal => effects.push(Effect::ResetLocal),
            RestoreNext::LoadSnapshot(manifest) => effects.push(Effect::LoadSnapshot(manifest)),
            RestoreNext::ReadLog(number) => effects.push(Effect::ReadLog(number)),
            RestoreNext::ReadManifests => effects.push(Effect::ReadManifests),
            RestoreNext::Stop(cause) => self.stop(cause, effects),
            RestoreNext::Complete => self.load(effects),
            RestoreNext::Apply(commits, after) => {
                for (commit, mark) in commits {
                    effects.push(Effect::Apply(Applied { writes: commit.writes, mark }));
                }
                match after {
                    AfterApply::ReadLog(number) => effects.push(Effect::ReadLog(number)),
                    AfterApply::Complete => self.load(effects),
                }
            }
        }
    }

    fn load(&mut self, effects: &mut Vec<Effect>) {
        match std::mem::replace(&mut self.phase, Phase::Stopped) {
            Phase::Restoring(restore) => {
                effects.push(Effect::LoadSystem(restore.mark()));
                self.phase = Phase::Loading(restore);
            }
            phase => unreachable!("a restore completes only while restoring, not in {phase:?}"),
        }
    }

    fn stop(&mut self, cause: StopCause, effects: &mut Vec<Effect>) {
        if let Phase::Running(running) = &self.phase {
            self.past = Some(running.past());
            // One that could not be rewound knows what it was to be.
            self.rules.assignment = match cause {
                StopCause::RewindOutOfReach { .. }
                | StopCause::RewindRecordsGone { .. }
                | StopCause::RewindTooLarge { .. } => running.told().clone(),
                _ => running.assignment().clone(),
            };
        } else {
            self.past = None;
        }
        self.epoch_before = self.epoch();
        self.phase = Phase::Stopped;
        effects.push(Effect::Stopped(cause));
    }

    /// The shards the task needs read and had not asked for.
    pub fn wants(&mut self, map: &ShardMap) -> Vec<crate::intake::Want> {
        match &mut self.phase {
            Phase::Running(running) if !running.is_draining() => running.wants(map),
            _ => Vec::new(),
        }
    }

    /// Shards that the task still has to read and no listing shows.
    pub fn orphans(&mut self, map: &ShardMap) -> BTreeSet<ShardKey> {
        match &mut self.phase {
            Phase::Running(running) => running.orphans(map),
            _ => BTreeSet::new(),
        }
    }

    /// Positions the task has passed with nothing to commit, and the step they follow: none unless it is quite idle.
    pub fn idle_positions(&self) -> Option<(CommitId, Vec<(ShardKey, PositionEntry)>)> {
        self.running().and_then(Running::idle_positions)
    }
}

/// The effect that puts what an append appends.
fn put(append: &Append, attempt: u32) -> Effect {
    Effect::Put { commit: append.commit.clone(), epoch: append.epoch, attempt }
}

/// What idle positions refer to: the newest commit that changed anything.
fn step_id(kind: CommitKind, id: CommitId, before: &StateMark) -> CommitId {
    if kind.is_fence() { before.last_step_id } else { id }
}

fn unasked(event: &Event) {
    panic!("an answer to nothing that was asked for: {event:?}");
}

/// Deployment a fence names: none.
pub const NO_DEPLOYMENT: DeploymentNumber = DeploymentNumber(0);
