//! A running task: takes runs, calls the logic, seals commits, and publishes what is durable.

mod aside;
mod calls;
mod commits;
mod found;
mod look;
mod rewinds;

pub use rewinds::{OutOfReach, Reach};

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::attempts::Attempts;
use super::effect::{Effect, Event, Work};
use super::pin::{Assignment, Pin};
use super::refold::Refold;
use super::rewind::Pins;
use super::seal::{Open, Sealed, Snapshots};
use super::{IdSeed, Item, unasked};
use crate::append::PutReply;
use crate::cause::StopCause;
use crate::codec::SystemEntry;
use crate::counts::Counts;
use crate::dead_letter::{DeadLetter, DeadLetters, LetterBounds};
use crate::id::{CommitId, CommitNumber, Epoch, ShardKey, TaskId};
use crate::intake::{Admission, Intake, IntakeRules, Unread, Want};
use crate::job::JobMeta;
use crate::limits::Bounds;
use crate::mutant::{Mutant, wrong};
use crate::outbox::{Outbox, Round};
use crate::position::PositionEntry;
use crate::record::Run;
use crate::shard::ShardMap;
use crate::snapshot::StateMark;
use crate::timers::Timers;
use found::Found;
use rewinds::{Draining, Rewinding};

/// What a running task goes by.
#[derive(Clone, Debug)]
pub struct RunningRules {
    /// Oldest an uncommitted write becomes, in milliseconds.
    pub commit_interval_ms: u64,
    /// How often the logic is tried again with a record or timer it failed with.
    pub retries: u32,
    /// What then.
    pub last_straw: LastStraw,
    /// What to do about records that are gone.
    pub on_gap: OnGap,
    /// How many dead letters there may be.
    pub letters: LetterBounds,
    /// Of each input stream, whether it carries the outputs of another job.
    pub from_job: Vec<bool>,
    /// What the task runs at first.
    pub assignment: Assignment,
    /// Positions are committed alone when those in the log are this old, in milliseconds: an eighth of retention.
    pub positions_age_max_ms: u64,
    /// How long after a change of deployment a rewind must reach behind it, in milliseconds.
    pub rewind_window_ms: u64,
}

/// What becomes of a record with which the logic failed for the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStraw {
    /// It is set aside, and the task goes on.
    DeadLetter,
    /// The task stops.
    Stop,
}

/// What to do about records that are gone, after a dead letter says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    /// The task stops.
    Stop,
    /// It goes on behind them.
    Continue,
}

/// What the guest call is at.
#[derive(Debug)]
enum Calling {
    Idle,
    /// The call is under way.
    Under(Arc<Work>, Invoked),
    /// It failed, and nothing is called before this time.
    Paused(u64),
}

#[derive(Clone, Copy, Debug)]
struct Invoked {
    time_ms: u64,
    born: bool,
}

/// How far the newest failed attempt has come on its way to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saved {
    /// It is in the open write set.
    Open,
    /// It is in the sealed one.
    Sealed,
    /// It is in the log, or there is none.
    Durable,
}

/// Where a running task begins.
pub(super) struct Origin {
    pub epoch: Epoch,
    pub mark: StateMark,
    pub snapshots: Snapshots,
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
    timers: Timers,
    letters: DeadLetters,
    /// Letters with this number or a greater are in no sealed commit yet: nobody can have seen them.
    letters_open: u64,
    /// Dead letters that wait for the logic.
    redrives: VecDeque<(u64, Box<DeadLetter>)>,
    counts: Counts,
    counts_changed: bool,
    pin: Pin,
    calling: Calling,
    attempts: Option<Attempts>,
    attempts_saved: Saved,
    /// Calls that failed since one did not.
    failures: u32,
    /// Due timers are fired one by one: a call with several failed.
    timers_alone: bool,
    fault: Option<String>,
    open: Open,
    sealed: Option<Sealed>,
    snapshots: Snapshots,
    /// The commit before which the instance was born; none when the next call needs a new one.
    born: Option<CommitNumber>,
    /// Time of the newest invocation.
    clock_ms: u64,
    positions_logged_ms: u64,
    draining: Option<Draining>,
    /// The deployments of its commits.
    pins: Pins,
    /// What it had passed before it was rewound.
    refold: Option<Refold>,
    refold_changed: bool,
    /// What the newest sealed commit leaves unread; of what is older than the job, as it was before the first call since.
    unread: Unread,
    /// Shards that no listing shows and that were asked about.
    orphans: BTreeSet<ShardKey>,
    records_folded: u64,
    failed_batches: u64,
}

impl Running {
    pub(super) fn new(
        task: TaskId,
        meta: Arc<JobMeta>,
        (rules, bounds): (RunningRules, Bounds),
        origin: Origin,
        system: Vec<SystemEntry>,
        now_ms: u64,
    ) -> Self {
        let found = Found::of(Outbox::new(meta.incarnation, task), system);
        let Found { positions, seen, outbox, timers, letters, counts, attempts, clock_ms, pins, refold } = found;
        let mut intake = Intake::new(intake_rules(task, &meta, &rules), positions, seen);
        if let Some(Attempts { suspect: Item::Record(shard, place), .. }) = &attempts {
            intake.suspect(shard, *place);
        }
        let unread = intake.unread(&meta);
        let undone = pins.rewind_to(&rules.assignment.undone).is_some();
        Self {
            task,
            intake,
            meta,
            bounds,
            epoch: origin.epoch,
            mark: origin.mark,
            outbox,
            timers,
            letters,
            letters_open: counts.dead_letters,
            redrives: VecDeque::new(),
            counts,
            counts_changed: false,
            pin: Pin::new(rules.assignment.clone()),
            calling: Calling::Idle,
            failures: attempts.as_ref().map_or(0, |attempts| attempts.attempts),
            fault: attempts.as_ref().map(|attempts| attempts.message.clone()),
            timers_alone: attempts.is_some(),
            attempts,
            attempts_saved: Saved::Durable,
            open: Open::default(),
            sealed: None,
            snapshots: origin.snapshots,
            born: None,
            clock_ms,
            // A start makes positions no younger.
            positions_logged_ms: unread.from_ms.min(now_ms),
            draining: undone.then_some(Draining::Rewind(Rewinding::Drained)),
            pins,
            refold,
            refold_changed: false,
            unread,
            orphans: BTreeSet::new(),
            records_folded: 0,
            failed_batches: 0,
            rules,
        }
    }

    /// Takes an event; a cause means that the task stops now, with nothing more to be done.
    pub(super) fn handle(
        &mut self,
        now_ms: u64,
        event: Event,
        ids: &mut IdSeed,
        effects: &mut Vec<Effect>,
    ) -> Option<StopCause> {
        match event {
            Event::Run(run) => self.take(run, effects),
            // Of a shard that it wanted before a rewind, and has not come to again, the task is told again when it wants it.
            Event::Lost(shard, _) if self.intake.taken(&shard).is_none() && !self.orphans.contains(&shard) => {}
            Event::Lost(shard, gap) => {
                let unknown = Intake::unknown_shard(self.meta.opening(&shard).0);
                if !self.intake.lose(&shard, gap, unknown) {
                    effects.push(Effect::LookForShards);
                }
            }
            Event::Redrive(..) | Event::Forget(..) if self.is_rewinding() => {}
            Event::Redrive(number, letter) => self.redrive(number, letter),
            Event::Forget(number, seen) => self.forget(now_ms, number, &seen),
            Event::Called(outcome) => self.called(now_ms, outcome, effects),
            Event::Put(PutReply::Unknown) if wrong(Mutant::LostReplyIsFailure) => self.sealed = None,
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
                let believed = found.into_iter();
                let follows = |step| step == self.mark.last_step_id || wrong(Mutant::IdleAfterCommit);
                let believed: Vec<_> = believed.filter(|(step, _)| follows(*step)).collect();
                believed.into_iter().for_each(|(_, entries)| self.intake.advance(entries));
            }
            Event::SnapshotTaken(manifest) => {
                if let Some(floor) = self.snapshots.taken(manifest) {
                    effects.push(Effect::Trim(floor));
                }
            }
            Event::Trimmed => self.snapshots.trimmed(),
            Event::Assign(assignment) => self.assign(assignment),
            Event::Rewound(writes) => return self.seal_rewind(writes, ids, effects),
            Event::Renew => self.pin.renew(),
            Event::Stop => self.drain(StopCause::Asked),
            Event::Tick => {}
            event => unasked(&event),
        }
        None
    }

    /// Does what can be done now; a cause means that the task has stopped.
    pub(super) fn proceed(&mut self, now_ms: u64, ids: &mut IdSeed, effects: &mut Vec<Effect>) -> Option<StopCause> {
        if let Some((packages, attempt)) = self.outbox.next_round() {
            effects.push(Effect::Publish { packages, attempt });
        }
        if self.sealed.is_none() && self.seal_is_due(now_ms) {
            self.seal(now_ms, ids, effects);
        }
        if self.draining.is_none() {
            self.swap(effects);
            self.call(now_ms, effects);
        }
        if self.sealed.is_none() && self.seal_is_due(now_ms) {
            self.seal(now_ms, ids, effects);
        }
        let quiet = matches!(self.calling, Calling::Idle | Calling::Paused(_));
        let drained = quiet && self.sealed.is_none() && self.open.is_empty() && self.outbox.is_empty();
        match self.draining.take_if(|_| drained)? {
            Draining::Stop(cause) | Draining::StopMidway(cause) => Some(cause),
            Draining::Rewind(rewinding) => self.rewind(rewinding, effects),
        }
    }

    fn drain(&mut self, cause: StopCause) {
        match self.draining {
            Some(Draining::Stop(_) | Draining::StopMidway(_)) => {}
            _ if self.is_rewinding() => self.draining = Some(Draining::StopMidway(cause)),
            Some(Draining::Rewind(_)) | None => self.draining = Some(Draining::Stop(cause)),
        }
    }

    fn take(&mut self, run: Run, effects: &mut Vec<Effect>) {
        if self.draining.is_some() {
            return;
        }
        match self.intake.offer(run) {
            Admission::Taken | Admission::Known => {}
            Admission::Hole(want) => effects.push(Effect::Reread(want)),
        }
    }

    fn next_number(&self) -> CommitNumber {
        let newest = self.sealed.as_ref().map_or(self.mark.number, |sealed| sealed.append.commit.commit().number);
        newest.next()
    }

    pub(super) fn wants(&mut self, map: &ShardMap) -> Vec<Want> {
        self.intake.wants(map, &self.meta)
    }

    pub(super) fn orphans(&mut self, map: &ShardMap) -> BTreeSet<ShardKey> {
        let orphans = self.intake.orphans(map, &self.meta);
        self.orphans.extend(orphans.iter().cloned());
        orphans
    }

    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        let call = match &self.calling {
            Calling::Paused(at_ms) => Some(*at_ms),
            Calling::Idle => self.timers.next_ms(),
            Calling::Under(..) => None,
        };
        let may_call = self.draining.is_none() && self.attempts_saved == Saved::Durable && !self.pin.has_failed();
        let call = call.filter(|_| may_call);
        let seal = if self.sealed.is_none() { self.open.due_at_ms(self.rules.commit_interval_ms) } else { None };
        call.into_iter().chain(seal).min()
    }

    pub(super) fn idle_positions(&self) -> Option<(CommitId, Vec<(ShardKey, PositionEntry)>)> {
        let idle = !self.is_rewinding()
            && matches!(self.calling, Calling::Idle)
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

fn intake_rules(task: TaskId, meta: &JobMeta, rules: &RunningRules) -> IntakeRules {
    IntakeRules { slice: meta.tasks.slice(task), reads: meta.reads(task), from_job: rules.from_job.clone() }
}

#[cfg(test)]
mod tests;
