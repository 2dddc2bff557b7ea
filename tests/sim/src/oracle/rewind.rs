//! Rewinds by the oracle's own account: what a task's history was before each change of its pin, where what was undone leads, and
//! what of its outputs is withheld, or emitted again, until it has come as far as before.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pelton_core::commit::Commit;
use pelton_core::dead_letter::{Content, DeadLetter, Timer};
use pelton_core::id::{CommitNumber, DeploymentNumber, ShardKey, TaskId};
use pelton_core::output::Output;
use pelton_core::position::Position;
use pelton_core::rollout::Rollout;
use pelton_core::task::{FoldedBefore, Item, PINS_KEPT_MAX, RefoldedOutputs, Undone};
use pelton_core::write_set::SYSTEM_SPACE;

use super::stored::{Entry, Pinned};
use super::{History, Oracle, read};
use crate::kinesis::Kinesis;
use crate::promise::{Verdict, Wrong, ensure};
use crate::store::{State, write};

const PINS: &[u8] = &[SYSTEM_SPACE, b'h'];
const REFOLD: &[u8] = &[SYSTEM_SPACE, b'w'];

/// What a task had passed before it was rewound.
#[derive(Clone, Debug)]
pub(super) struct Refold {
    rewind: CommitNumber,
    outputs: RefoldedOutputs,
    clock_ms: u64,
    positions: BTreeMap<ShardKey, Position>,
}

/// What of a task's records and timers was folded and what was not, whatever was undone since.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) folded: BTreeSet<Item>,
    /// Timers that were due and did not fire, or were set aside.
    unfired: BTreeSet<Timer>,
}

/// What a commit did to what is known of keys.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Folded(String, u32),
    SetAside(String, u32),
    Lost(String, u32),
}

/// Whether what stands at a key stays whatever is undone: outputs on their way, the clock, and what tells of pins and rewinds.
fn stays(key: &[u8]) -> bool {
    key[0] == SYSTEM_SPACE && b"ochw".contains(&key[1])
}

fn is_letter(key: &[u8]) -> bool {
    key.starts_with(&[SYSTEM_SPACE, b'd'])
}

/// What a rewind brings back but for dead letters, of which it may know more than there was to know before.
fn brought_back(state: &State) -> Vec<(&Bytes, &Bytes)> {
    state.iter().filter(|(key, _)| !stays(key) && !is_letter(key)).collect()
}

/// What tells a thing from others, if it is one that can be folded.
fn item_of(content: &Content) -> Option<Item> {
    match content {
        Content::Record(shard, record) => Some(Item::Record(shard.clone(), record.place)),
        Content::Timer(timer) => Some(Item::Timer(timer.clone())),
        Content::Gap { .. } => None,
    }
}

/// The dead letters of before a rewind, with what is known of them now: one that was not dropped since, and stands no more, was
/// folded.
fn known_now(now: &History, before: &History, rewind: FoldedBefore) -> BTreeMap<u64, DeadLetter> {
    let known = |(number, letter): (&u64, &DeadLetter)| {
        let standing = now.letters.get(number).map(|letter| letter.folded_before);
        let known = standing.or_else(|| now.forgotten.get(number).copied()).unwrap_or(Some(rewind));
        let folded_before = known.filter(|_| item_of(&letter.content).is_some());
        (*number, DeadLetter { folded_before, ..letter.clone() })
    };
    before.letters.iter().map(known).collect()
}

/// Timers that are set for up to a time.
fn timers_due(history: &History, up_to_ms: u64) -> impl Iterator<Item = Timer> {
    let due = history.timers.iter().filter(move |(_, due_ms)| **due_ms <= up_to_ms);
    due.map(|(name, due_ms)| Timer { name: name.clone(), due_ms: *due_ms })
}

fn stored_letters(state: &State) -> Result<BTreeMap<u64, DeadLetter>, Wrong> {
    let mut letters = BTreeMap::new();
    for (key, value) in state.iter().filter(|(key, _)| is_letter(key)) {
        if let Entry::Letter(number, letter) = read(key, value)? {
            letters.insert(number, *letter);
        }
    }
    Ok(letters)
}

fn letter_bytes(state: &State) -> BTreeMap<u64, u64> {
    let number = |key: &Bytes| u64::from_be_bytes(key[2..].try_into().expect("a letter's number"));
    let letters = state.iter().filter(|(key, _)| is_letter(key));
    letters.map(|(key, value)| (number(key), value.len() as u64)).collect()
}

impl Oracle {
    /// What the tasks are to run has changed.
    pub fn rolled_out(&mut self, rollout: &Rollout) {
        self.current.insert(rollout.current);
        self.brought.insert((rollout.since, rollout.current));
        self.brought.extend(rollout.canary.iter().map(|canary| (canary.since, canary.deployment)));
        let undone = rollout.undone.to_vec();
        match self.undone.last_mut() {
            Some(told) if undone.starts_with(told) => *told = undone,
            // It was withdrawn.
            _ => self.undone.push(undone),
        }
    }

    /// Whether a rewind began with a change, whatever became of it.
    pub fn was_undone(&self, since: u64) -> bool {
        self.undone.iter().flatten().any(|undone| undone.since == since)
    }

    /// Somebody deploys what ran before.
    pub fn deploys_again(&mut self, deployment: DeploymentNumber) {
        self.left_behind.remove(&deployment);
    }

    /// Somebody goes back from what the job runs, with its state or without: never forth again, however often.
    pub fn rolls_back(&mut self, from: &Rollout, to: &Rollout) -> Verdict {
        ensure!(10, to.canary.is_none(), "whoever goes back tries nothing any more: {to:?}");
        let is_back = !self.left_behind.contains(&to.current);
        ensure!(10, is_back, "nobody goes back to what was gone back from: from {from:?} to {to:?}");
        let left = [from.current].into_iter().chain(from.canary.iter().map(|canary| canary.deployment));
        self.left_behind.extend(left.filter(|left| *left != to.current));
        Ok(())
    }

    /// Where what was undone leads a task, and whether outputs are emitted again; none where it has nothing of it.
    pub(super) fn undoes(&self, task: TaskId) -> Option<(CommitNumber, RefoldedOutputs)> {
        self.undoes_by(task, self.undone.last()?)
    }

    pub(super) fn undoes_by(&self, task: TaskId, undone: &[Undone]) -> Option<(CommitNumber, RefoldedOutputs)> {
        self.tasks[usize::from(task.0)].pins.iter().find_map(|pin| {
            let undone = undone.iter().rev().find(|undone| (undone.since..undone.until).contains(&pin.revision))?;
            Some((CommitNumber(pin.number.0 - 1), undone.outputs))
        })
    }

    /// The first commit of a deployment says so, and no other does.
    pub(super) fn pinned(&mut self, task: TaskId, commit: &Commit, kinesis: &Kinesis) -> Verdict {
        let at = usize::from(task.0);
        let key = Bytes::from_static(PINS);
        let written = match commit.writes.get(&key) {
            Some(Some(value)) => match read(&key, value)? {
                Entry::Pins(pins) => Some(pins),
                other => return Err(Wrong::invariant(10, format!("these are no pins: {other:?}"))),
            },
            _ => None,
        };
        let history = &self.tasks[at];
        let last = history.pins.last().map(|pin| (pin.revision, pin.deployment));
        let Some(pins) = written else {
            let changes = last.is_none_or(|(_, deployment)| deployment != commit.deployment);
            ensure!(10, !changes, "a pin is noted where it changes: commit {} of task {task}", commit.number);
            return Ok(());
        };
        let mut expected = history.pins.clone();
        let (revision, unread_from_ms) = pins.last().map_or((0, 0), |pin| (pin.revision, pin.unread_from_ms));
        let Commit { deployment, number, previous_id, .. } = *commit;
        expected.push(Pinned { revision, deployment, number, previous_id, unread_from_ms });
        expected.drain(..expected.len().saturating_sub(PINS_KEPT_MAX));
        let changes = last != Some((revision, commit.deployment));
        ensure!(10, changes && pins == expected, "pins are noted as they change: {pins:?}, not {expected:?}");
        let brought = self.brought.contains(&(revision, commit.deployment));
        ensure!(10, brought, "a pin is of a change that brought it: {revision} {}", commit.deployment.0);
        let before = CommitNumber(commit.number.0 - 1);
        self.befores[at].insert(before, history.clone());
        self.tasks[at].pins = pins;
        self.knows_reach(kinesis, task, before, unread_from_ms)
    }

    /// A commit brings back an earlier one: all of its state, but for what tells of the task's own past.
    pub(super) fn rewinds(&mut self, task: TaskId, commit: &Commit, to: CommitNumber) -> Verdict {
        let at = usize::from(task.0);
        // A task may not have heard yet of what was undone last.
        let told = self.undone.iter().flat_map(|told| (1..=told.len()).map(|known| &told[..known]));
        let due: BTreeSet<_> = told.filter_map(|told| self.undoes_by(task, told)).collect();
        let leads = due.iter().any(|(due, _)| *due == to);
        ensure!(4, leads, "a rewind leads to before what was undone: {to}, not {due:?}");
        ensure!(4, commit.invocations.is_empty(), "a rewind calls nothing: {}", commit.number);
        let before = self.befores[at][&to].clone();
        let history = &mut self.tasks[at];
        let waits = history.outputs.values().any(|emitted| !emitted.published);
        ensure!(6, !waits, "all outputs are published before a rewind: commit {} of task {task}", commit.number);
        write(&mut history.state, commit.writes.iter());
        let (now, then) = (brought_back(&history.state), brought_back(&before.state));
        ensure!(4, now == then, "a rewind brings back the state of {to}: {now:?}, not {then:?}");

        let known = history.refold.take();
        let was_due = |timer: &Timer| known.as_ref().is_some_and(|refold| timer.due_ms <= refold.clock_ms);
        let mut positions = known.as_ref().map(|refold| refold.positions.clone()).unwrap_or_default();
        for (shard, entry) in history.positions.iter().filter(|(_, entry)| !entry.position.is_start()) {
            let furthest = positions.entry(shard.clone()).or_insert(entry.position);
            *furthest = (*furthest).max(entry.position);
        }
        let key = Bytes::from_static(REFOLD);
        let refold = commit.writes.get(&key).flatten().map(|value| read(&key, value)).transpose()?;
        let Some(Entry::Refold(rewind, again, clock_ms)) = refold else {
            return Err(Wrong::invariant(6, format!("a rewind says what was passed before: {}", commit.number)));
        };
        let outputs = if again { RefoldedOutputs::Again } else { RefoldedOutputs::Withhold };
        let as_asked = due.contains(&(to, outputs)) && rewind == commit.number;
        ensure!(6, as_asked, "outputs go as was asked for: {rewind} {outputs:?}");
        ensure!(6, clock_ms >= history.clock_ms, "timers were due up to the clock: {clock_ms} < {}", history.clock_ms);
        let letters = known_now(history, &before, FoldedBefore { rewind, outputs, clock_ms });
        let stored = stored_letters(&history.state)?;
        let wrong = letters.iter().find(|(number, letter)| stored.get(number) != Some(letter));
        let as_known = wrong.is_none() && stored.len() == letters.len();
        ensure!(6, as_known, "letters brought back know what was folded: {wrong:?} of task {task}");

        // Nobody saw them fire, unless an earlier rewind says so.
        let account = &mut self.accounts[at];
        let unfired: Vec<_> = timers_due(history, clock_ms).filter(|timer| !was_due(timer)).collect();
        account.unfired.extend(unfired);
        let refold = Refold { rewind, outputs, clock_ms, positions };
        let undone: Vec<Deed> =
            history.deeds.iter().filter(|(number, _)| *number > to).map(|(_, deed)| deed.clone()).collect();
        let History {
            commits,
            outputs,
            delivered,
            newest_published,
            to_forget,
            expected,
            clock_ms: time_ms,
            state,
            ..
        } = std::mem::take(history);
        *history = History {
            commits,
            outputs,
            delivered,
            newest_published,
            to_forget,
            expected,
            clock_ms: time_ms,
            refold: Some(refold),
            letter_bytes: letter_bytes(&state),
            state,
            letters,
            ..before
        };
        for deed in undone {
            let (Deed::Folded(key, count) | Deed::SetAside(key, count) | Deed::Lost(key, count)) = &deed;
            if !matches!(deed, Deed::Folded(..)) {
                self.not_due.remove(&(key.clone(), *count));
                self.gone.remove(&(key.clone(), *count));
            }
            let next = self.next.entry(key.clone()).or_default();
            *next = (*next).min(*count);
        }
        Ok(())
    }

    /// A commit of a task did something that a rewind would undo.
    pub(super) fn does(&mut self, task: TaskId, deed: Deed) {
        let history = &mut self.tasks[usize::from(task.0)];
        history.deeds.push((CommitNumber(history.commits.len() as u64), deed));
    }

    /// Whether something was folded, whatever was undone since.
    pub(super) fn was_ever_folded(&self, task: TaskId, item: &Item) -> bool {
        self.accounts[usize::from(task.0)].folded.contains(item)
    }

    /// Whether something was folded before the task was rewound, of what it had come to then.
    pub(super) fn folded_before(&self, task: TaskId, item: &Item) -> Option<FoldedBefore> {
        let refold = self.tasks[usize::from(task.0)].refold.as_ref()?;
        let account = &self.accounts[usize::from(task.0)];
        let was = match item {
            Item::Record(..) => account.folded.contains(item),
            Item::Timer(timer) => timer.due_ms <= refold.clock_ms && !account.unfired.contains(timer),
        };
        let Refold { rewind, outputs, clock_ms, .. } = *refold;
        was.then_some(FoldedBefore { rewind, outputs, clock_ms })
    }

    /// The same of what becomes a dead letter.
    pub(super) fn letter_folded_before(&mut self, task: TaskId, content: &Content) -> Option<FoldedBefore> {
        let item = item_of(content)?;
        let before = self.folded_before(task, &item);
        if let (Item::Timer(timer), None) = (item, before) {
            self.accounts[usize::from(task.0)].unfired.insert(timer);
        }
        before
    }

    /// A call folds something. Says whether that was folded before.
    pub(super) fn folds_item(&mut self, task: TaskId, item: Item) -> Option<FoldedBefore> {
        let before = self.folded_before(task, &item);
        let account = &mut self.accounts[usize::from(task.0)];
        if let Item::Timer(timer) = &item {
            account.unfired.remove(timer);
        }
        account.folded.insert(item);
        before
    }

    /// A call folds what a dead letter holds. Says whether that was folded before.
    pub(super) fn folds_letter(&mut self, task: TaskId, letter: &DeadLetter) -> Result<Option<FoldedBefore>, Wrong> {
        let before = letter.folded_before;
        if let Some(item) = item_of(&letter.content) {
            let is_new = self.accounts[usize::from(task.0)].folded.contains(&item) == before.is_some();
            let is_record = matches!(item, Item::Record(..));
            ensure!(6, is_new || !is_record, "a letter knows whether it was folded before: {letter:?} of task {task}");
            self.folds_item(task, item);
        }
        Ok(before)
    }

    /// A call sets timers, that was given what was folded before or what was not.
    pub(super) fn sets(&mut self, task: TaskId, before: Option<FoldedBefore>, set: &[Timer]) {
        let (history, account) = (&mut self.tasks[usize::from(task.0)], &mut self.accounts[usize::from(task.0)]);
        let reached_ms = before.map(|before| before.clock_ms);
        let known_ms = history.refold.as_ref().map(|refold| refold.clock_ms);
        // Of a letter, when all else is folded again that was before the rewind it knows of.
        if let Some(FoldedBefore { rewind, outputs, clock_ms }) = before
            && known_ms.is_none_or(|known_ms| known_ms < clock_ms)
            && set.iter().any(|timer| timer.due_ms <= clock_ms)
        {
            let unknown =
                timers_due(history, clock_ms).filter(|timer| known_ms.is_none_or(|known_ms| timer.due_ms > known_ms));
            account.unfired.extend(unknown);
            let positions = history.refold.take().map(|refold| refold.positions).unwrap_or_default();
            history.refold = Some(Refold { rewind, outputs, clock_ms, positions });
        }
        if let Some(refold) = &history.refold {
            let behind = set.iter().filter(|timer| timer.due_ms <= refold.clock_ms);
            let unfired = behind.filter(|timer| reached_ms.is_none_or(|reached_ms| timer.due_ms > reached_ms));
            account.unfired.extend(unfired.cloned());
        }
    }

    /// What a call is to emit of its outputs, which are those from an index on.
    pub(super) fn emits(
        &self,
        task: TaskId,
        sides: &[Option<FoldedBefore>],
        outputs: &mut Vec<Output>,
        from: usize,
    ) -> Verdict {
        let before = sides.first().copied().flatten();
        let apart = sides.iter().all(|side| *side == before);
        ensure!(6, apart, "no call has what was passed before a rewind and what was not: {sides:?} of task {task}");
        match before {
            None => {}
            Some(FoldedBefore { outputs: RefoldedOutputs::Withhold, .. }) => outputs.truncate(from),
            Some(FoldedBefore { outputs: RefoldedOutputs::Again, rewind, .. }) => {
                outputs[from..].iter_mut().for_each(|output| output.rewind = Some(rewind));
            }
        }
        Ok(())
    }

    /// What was passed before a rewind is forgotten once all of it is passed again.
    pub(super) fn passes_again(&mut self, task: TaskId, commit: &Commit) -> Verdict {
        let history = &mut self.tasks[usize::from(task.0)];
        if commit.writes.get(&Bytes::from_static(REFOLD)) != Some(None) {
            return Ok(());
        }
        let Some(refold) = history.refold.take() else {
            return Err(Wrong::invariant(6, format!("nothing was rewound: commit {} of task {task}", commit.number)));
        };
        let short = refold
            .positions
            .iter()
            .find(|(shard, before)| history.positions.get(*shard).is_none_or(|entry| entry.position < **before));
        ensure!(6, short.is_none(), "a task knows what it passed until it has passed it again: {short:?}");
        let due = history.timers.values().any(|due_ms| *due_ms <= refold.clock_ms);
        ensure!(6, !due, "timers that were due before a rewind are known: commit {} of task {task}", commit.number);
        Ok(())
    }
}
