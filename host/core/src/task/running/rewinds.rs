//! How a task is rewound: what is begun is committed and published, then the commit that brings back an earlier state is appended,
//! and the task begins anew with that.

use std::ops::Bound;
use std::sync::Arc;

use super::{Origin, Running};
use crate::cause::StopCause;
use crate::codec::{self, SystemEntry};
use crate::commit::{Commit, CommitKind};
use crate::dead_letter::{Content, DeadLetter};
use crate::id::CommitNumber;
use crate::intake::Unread;
use crate::limits::{REFOLD_BYTES_MAX, REWIND_BYTES_MAX};
use crate::mutant::{Mutant, wrong};
use crate::position::Position;
use crate::task::effect::{CallOutcome, Effect, Failure, FailureKind, Work};
use crate::task::refold::{FoldedBefore, Refold};
use crate::task::rewind::{PINS_KEPT_MAX, PinnedFrom, Pins, RewindTo, Undone};
use crate::task::seal::{Header, Sealed, Snapshots};
use crate::task::{Assignment, IdSeed, Item};
use crate::timers::TimerChange;
use crate::write_set::{StateKey, WriteSet};

/// What a task stops calling its logic for.
#[derive(Debug)]
pub(super) enum Draining {
    /// To stop, for this.
    Stop(StopCause),
    /// To stop, in the midst of a rewind: what was passed before it is undone, and is not to be committed behind it.
    StopMidway(StopCause),
    /// To be rewound.
    Rewind(Rewinding),
}

/// How far a rewind has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rewinding {
    /// What is begun is being committed and published.
    Drained,
    /// The state that it leads to is being read.
    Asked(RewindTo),
    /// Its commit is being appended.
    Sealed,
    /// It is durable, and the task begins anew with it.
    Loading,
}

/// Why a task cannot be rewound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfReach {
    /// The job keeps nothing for it.
    #[error("rewind-window is 0, so that nothing is kept to go back to")]
    Off,
    /// The log is no longer kept for it.
    #[error("it changed {ago_ms} ms ago, and its changelog is kept for rewind-window = {window_ms} ms")]
    Window {
        /// When the first commit was that is to be undone, in milliseconds before now.
        ago_ms: u64,
        /// How long it may be.
        window_ms: u64,
    },
    /// The log does not go back so far: what is kept of it was another when it changed.
    #[error("its changelog begins at commit {floor}, after commit {to} that it would go back to")]
    Log {
        /// Where it would go back to.
        to: CommitNumber,
        /// Where its history begins.
        floor: CommitNumber,
    },
    /// Where what is undone began is not known any more.
    #[error("it changed more than {PINS_KEPT_MAX} times since what would be undone began")]
    Forgotten,
    /// The records since may be gone.
    #[error(
        "records that it would fold again may be {age_ms} ms old, and its streams keep them for {retention_ms} ms, which leaves no time to read them"
    )]
    Records {
        /// How old, in milliseconds.
        age_ms: u64,
        /// How long they are kept, in milliseconds.
        retention_ms: u64,
    },
}

/// How far back a rewind may go.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Now, milliseconds since 1970.
    pub now_ms: u64,
    /// How long the log is kept for it, in milliseconds.
    pub window_ms: u64,
    /// How long the streams keep records, in milliseconds.
    pub retention_ms: u64,
}

impl Reach {
    /// Whether a task whose commits were of these deployments can be brought back to before what is to be undone, its log being
    /// history from a number on.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn check(self, pins: &Pins, undone: Undone, floor: CommitNumber) -> Result<(), OutOfReach> {
        // Without a window nothing is kept for what a task may be about to commit.
        if self.window_ms == 0 {
            return Err(OutOfReach::Off);
        }
        if pins.has_forgotten(undone) {
            return Err(OutOfReach::Forgotten);
        }
        let Some((pin, to)) = pins.rewind_to(&[undone]) else { return Ok(()) };
        let ago_ms = self.now_ms.saturating_sub(pin.sealed_ms);
        if ago_ms > self.window_ms {
            return Err(OutOfReach::Window { ago_ms, window_ms: self.window_ms });
        }
        if to.number < floor {
            return Err(OutOfReach::Log { to: to.number, floor });
        }
        let gone = to.too_old_to_begin_ms(self.now_ms, self.retention_ms);
        gone.map_or(Ok(()), |age_ms| Err(OutOfReach::Records { age_ms, retention_ms: self.retention_ms }))
    }
}

impl Running {
    /// What the task is to run, and what of its past is undone.
    pub(super) fn assign(&mut self, assignment: Assignment) {
        self.rules.assignment = assignment.clone();
        self.pin.assign(assignment);
        self.undo();
    }

    /// Where what was undone leads, if the task has anything of it.
    pub(super) fn undone(&self) -> Option<RewindTo> {
        self.pins.rewind_to(&self.rules.assignment.undone).map(|(_, to)| to)
    }

    /// Sets out to be rewound where a commit is to be undone.
    fn undo(&mut self) {
        // Also one that is to stop for what it ran: what it is to run now is another state's.
        let may_begin = match &self.draining {
            Some(Draining::Stop(cause)) => cause.is_of_assignment(),
            Some(Draining::StopMidway(_) | Draining::Rewind(_)) => false,
            None => true,
        };
        if may_begin && self.undone().is_some() && !wrong(Mutant::RewindSkipped) {
            self.draining = Some(Draining::Rewind(Rewinding::Drained));
        }
    }

    /// What decides how far back the task can go: its pins, and where its log begins.
    pub(in crate::task) fn past(&self) -> (Pins, CommitNumber) {
        (self.pins.clone(), self.snapshots.floor())
    }

    /// Whether the task was told of something that was undone.
    pub fn knows_of(&self, undone: &Undone) -> bool {
        self.rules.assignment.undone.contains(undone)
    }

    /// Whether the task is on its way back.
    pub fn is_undone(&self) -> bool {
        matches!(self.draining, Some(Draining::Rewind(_)))
    }

    /// Whether the rewind goes by how the state stands now.
    pub(super) fn is_rewinding(&self) -> bool {
        match &self.draining {
            Some(Draining::Rewind(rewinding)) => *rewinding != Rewinding::Drained,
            Some(Draining::StopMidway(_)) => true,
            Some(Draining::Stop(_)) | None => false,
        }
    }

    /// What is begun is committed and published: the rewind takes its next step. A cause means that there is none to take.
    pub(super) fn rewind(&mut self, rewinding: Rewinding, effects: &mut Vec<Effect>) -> Option<StopCause> {
        let rewinding = match rewinding {
            Rewinding::Drained => match self.undone() {
                Some(RewindTo { number: to, .. }) if to < self.snapshots.floor() => {
                    return Some(StopCause::RewindOutOfReach { to, floor: self.snapshots.floor() });
                }
                Some(to) => {
                    effects.push(Effect::Rewind(to));
                    Rewinding::Asked(to)
                }
                // It was withdrawn.
                None => {
                    self.load_again(effects);
                    return None;
                }
            },
            begun => begun,
        };
        self.draining = Some(Draining::Rewind(rewinding));
        None
    }

    /// The state that a rewind leads to is read: its commit is made of what differs.
    /// A cause means that it is more than a commit holds.
    pub(super) fn seal_rewind(
        &mut self,
        mut writes: WriteSet,
        ids: &mut IdSeed,
        effects: &mut Vec<Effect>,
    ) -> Option<StopCause> {
        let Some(Draining::Rewind(Rewinding::Asked(asked))) = self.draining else {
            panic!("a state is read while it is asked for");
        };
        if self.undone() != Some(asked) {
            // It was withdrawn while the state was read, or something else was undone.
            self.load_again(effects);
            return None;
        }
        let RewindTo { number: to, outputs, .. } = asked;
        let number = self.next_number();
        let passed = self.intake.positions().map(|(shard, entry)| (shard.clone(), entry.position));
        // The task does not come again to what letters tell of that it goes back to as they are.
        let changes = |key: StateKey| writes.get(&key).is_some();
        let stood = |letter| changes(codec::dead_letter_key(letter));
        let was_forgotten = |letter| changes(codec::forgotten_letter_key(letter));
        let mut unfolded = self.letters.unfolded(stood, was_forgotten);
        unfolded.extend(self.timers.all_due(self.clock_ms).cloned().map(Item::Timer));
        let refold = Refold::new(number, outputs, (passed, self.clock_ms), unfolded, self.refold.as_ref());
        self.mark_brought_back(refold.undid(), &mut writes);
        writes.insert(codec::pins_key(), Some(codec::encode_pins(&self.pins.at(to))));
        writes.insert(codec::refold_key(), Some(codec::encode_refold(&refold)));
        if writes.weight() > REWIND_BYTES_MAX || refold.weight() > REFOLD_BYTES_MAX {
            return Some(StopCause::RewindTooLarge { to, bytes_max: REWIND_BYTES_MAX });
        }
        let commit = Commit {
            number,
            id: ids.next(),
            previous_id: self.mark.id,
            epoch: self.epoch,
            deployment: self.rules.assignment.deployment,
            kind: CommitKind::Rewind(to),
            born: number,
            invocations: Vec::new(),
            writes: Arc::new(writes),
        };
        let sealed = Sealed::new(commit, Vec::new(), &self.mark);
        effects.push(crate::task::put(&sealed.append, 0));
        self.sealed = Some(sealed);
        self.draining = Some(Draining::Rewind(Rewinding::Sealed));
        None
    }

    /// Dead letters that a rewind brings back say whether they were folded meanwhile.
    fn mark_brought_back(&self, rewind: FoldedBefore, writes: &mut WriteSet) {
        let (first, last) = (codec::dead_letter_key(0), codec::dead_letter_key(u64::MAX));
        let letters = writes.range(Bound::Included(&first), Bound::Included(&last));
        let marked = letters.filter_map(|(key, value)| {
            // What is no letter is found to be none when the task begins anew with it.
            let SystemEntry::DeadLetter(number, _, letter) = codec::decode_system(key, value.clone()?).ok()? else {
                return None;
            };
            let is_item = !matches!(letter.content, Content::Gap { .. });
            let folded_before = self.letters.folded_until(rewind, number).filter(|_| is_item);
            let letter = DeadLetter { folded_before, ..*letter };
            Some((key.clone(), codec::encode_dead_letter(&letter)))
        });
        let marked: Vec<_> = marked.collect();
        if !wrong(Mutant::LetterBroughtBackUnmarked) {
            marked.into_iter().for_each(|(key, value)| writes.insert(key, Some(value)));
        }
    }

    /// Whether what a call was given was folded before a rewind.
    pub(super) fn folded_before(&self, work: &Work) -> Option<FoldedBefore> {
        match work {
            Work::Redrive(number, ..) => self.letters.folded_before(*number),
            Work::Records(_) | Work::Timers(_) => self.refold.as_ref()?.call(work.given()),
        }
    }

    /// Whether timers fired before a rewind goes by what sets them: by whether that was folded before it. Called before they are set.
    pub(super) fn note_timers(&mut self, before: Option<FoldedBefore>, set: &[TimerChange]) {
        let was_due = |before: &FoldedBefore| {
            set.iter().any(|(_, due_ms)| due_ms.is_some_and(|due_ms| due_ms <= before.clock_ms))
        };
        if let Some(before) = before.filter(was_due) {
            let due = self.timers.all_due(before.clock_ms).cloned();
            self.refold_changed |= match &mut self.refold {
                Some(refold) => refold.reaches(before, due),
                none => none.replace(Refold::of(before, due)).is_none(),
            };
        }
        if let Some(refold) = self.refold.as_mut().filter(|_| !wrong(Mutant::UnfoldedTimerIsFired)) {
            self.refold_changed |= refold.sets(before, set);
        }
    }

    /// What a call did counts as a failure where more timers are to be remembered for it than there is room for.
    pub(super) fn remembered(&self, outcome: CallOutcome) -> CallOutcome {
        let (Some(refold), CallOutcome::Folded { timers, .. }) = (&self.refold, &outcome) else { return outcome };
        if refold.has_room_for(timers) {
            return outcome;
        }
        let message =
            "the task folds again what was undone, and cannot remember of so many timers that they have not fired yet"
                .into();
        CallOutcome::Failed(Failure { kind: FailureKind::Retry, index: None, message })
    }

    /// A commit is durable: if it is the rewind, the task begins anew.
    pub(super) fn rewound(&mut self, effects: &mut Vec<Effect>) {
        if matches!(self.draining, Some(Draining::Rewind(Rewinding::Sealed))) {
            self.load_again(effects);
        }
    }

    /// The task begins anew with the state that it was brought back to.
    pub(in crate::task) fn begin_anew(&mut self, system: Vec<SystemEntry>, now_ms: u64, effects: &mut Vec<Effect>) {
        let nothing = Snapshots::new(&[], self.mark);
        let snapshots = std::mem::replace(&mut self.snapshots, nothing);
        let origin = Origin { epoch: self.epoch, mark: self.mark, snapshots };
        let rules = (self.rules.clone(), self.bounds);
        let anew = Self::new(self.task, self.meta.clone(), rules, origin, system, now_ms);
        let (records_folded, failed_batches) = (self.records_folded, self.failed_batches);
        let outbox = anew.outbox.counting_from(&self.outbox);
        *self = Self { records_folded, failed_batches, outbox, ..anew };
        effects.extend([Effect::Swap(self.rules.assignment.clone()), Effect::Ready]);
    }

    /// Notes, before the first that is done for a commit, whether it may be of records that are older than the job.
    pub(super) fn note_backlog(&mut self) {
        // A task that is past them stays so.
        if self.unread.backlog_from_ms.is_some() && !self.open.has_folds() {
            self.unread.backlog_from_ms = self.intake.unread(&self.meta).backlog_from_ms;
        }
    }

    /// Whether a cause is that of a rewind which was withdrawn meanwhile, or of which something else came.
    pub(in crate::task) fn is_withdrawn(&self, cause: &StopCause) -> bool {
        let of_rewind = matches!(cause, StopCause::RewindRecordsGone { .. } | StopCause::RewindTooLarge { .. });
        let Some(Draining::Rewind(Rewinding::Asked(asked))) = self.draining else { return false };
        of_rewind && self.undone() != Some(asked)
    }

    /// The task begins anew with what it has. What came while it was to be rewound was not taken.
    pub(in crate::task) fn load_again(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::LoadSystem(self.mark));
        self.draining = Some(Draining::Rewind(Rewinding::Loading));
    }

    /// Notes in a commit that it is the first of a deployment.
    pub(super) fn note_pin(&mut self, now_ms: u64, header: &Header, system: &mut WriteSet) {
        self.note_backlog();
        let Unread { from_ms, backlog_from_ms } = self.unread;
        let pin = PinnedFrom {
            revision: self.pin.revision(),
            deployment: header.deployment,
            number: header.number,
            sealed_ms: now_ms,
            previous_id: header.before.id,
            unread_from_ms: backlog_from_ms
                .filter(|_| !wrong(Mutant::BacklogForgotten))
                .unwrap_or(from_ms)
                .min(from_ms),
        };
        if self.pins.note(pin) {
            system.insert(codec::pins_key(), Some(codec::encode_pins(&self.pins)));
            // What was begun before it was undone is committed after.
            self.undo();
        }
        self.unread = self.intake.unread(&self.meta);
    }

    /// Forgets with a commit what was passed before a rewind, if with it all of that is passed again.
    pub(super) fn settle_refold(&mut self, system: &mut WriteSet) {
        let Some(refold) = &self.refold else { return };
        if std::mem::take(&mut self.refold_changed) {
            system.insert(codec::refold_key(), Some(codec::encode_refold(refold)));
        }
        let passed = |shard: &_| -> Option<Position> {
            self.intake.positions().find(|(of, _)| *of == shard).map(|(_, entry)| entry.position)
        };
        if refold.is_over(passed, &self.timers, self.clock_ms) {
            self.refold = None;
            system.insert(codec::refold_key(), None);
        }
    }
}
