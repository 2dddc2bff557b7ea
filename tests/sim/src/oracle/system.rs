//! What a commit says beside the state that logic wrote: positions, outputs, dead letters, counts, timers, attempts. Nothing is
//! passed that is not accounted for in the same commit.

use std::collections::{BTreeMap, BTreeSet};

use pelton_core::commit::Commit;
use pelton_core::dead_letter::{Content, DeadLetter, LetterCause};
use pelton_core::id::{DeploymentNumber, ShardKey, TaskId};
use pelton_core::policy::{Fate, Oddity};
use pelton_core::position::{Position, PositionEntry, RecordPlace};
use pelton_core::record::Record;
use pelton_core::task::{Item, LastStraw, OnGap};
use pelton_core::write_set::USER_SPACE;

use super::rewind::Deed;
use super::space::{is_passed, opening};
use super::stored::Entry;
use super::{Emitted, Oracle, put_of, read};
use crate::guest::{self, Done};
use crate::kinesis::Kinesis;
use crate::promise::{Verdict, Wrong, ensure};
use crate::world::CLOCK_OFF_MS_MAX;

/// What the invocations of one commit come to.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// What logic did.
    pub done: Done,
    /// Records and timers that became dead letters because logic failed with them.
    pub set_aside: Vec<Content>,
    /// Dead letters folded after all.
    pub redriven: BTreeSet<u64>,
}

/// What the commit must say of records that are not for logic. Of those that may be gone it may say nothing: whether they were
/// read before nobody knows.
#[derive(Debug, Default)]
struct Due {
    /// Letters: of which record, why, and whether it may be gone.
    letters: Vec<(ShardKey, RecordPlace, Oddity, bool)>,
    /// Records dropped that may be gone.
    perhaps_dropped: BTreeMap<Oddity, u64>,
}

impl Oracle {
    pub(super) fn system(&mut self, task: TaskId, commit: &Commit, step: &Step, kinesis: &Kinesis) -> Verdict {
        let at = usize::from(task.0);
        let (mut emitted, mut letters, mut moved, mut counts) = (Vec::new(), Vec::new(), Vec::new(), None);
        let mut gone = BTreeSet::new();
        for (key, value) in commit.writes.iter().filter(|(key, _)| key[0] != USER_SPACE) {
            let Some(value) = value else {
                match key[1] {
                    b'd' => drop(gone.insert(u64::from_be_bytes(key[2..].try_into().expect("a letter's number")))),
                    b'a' => self.tasks[at].attempts = None,
                    b't' => {
                        let name = String::from_utf8(key[2..].to_vec()).expect("names are text");
                        self.tasks[at].stored_timers.remove(&name);
                    }
                    _ => {}
                }
                continue;
            };
            match read(key, value)? {
                Entry::Position(shard, entry) => moved.push((shard, entry)),
                Entry::Outbox(number, outputs) => {
                    ensure!(6, number == commit.number, "a commit's outputs are its own: {number}");
                    emitted = outputs;
                }
                Entry::Letter(number, letter) => {
                    self.tasks[at].letter_bytes.insert(number, value.len() as u64);
                    letters.push((number, *letter));
                }
                Entry::Counts(stored) => counts = Some(stored),
                Entry::Timer(timer) => drop(self.tasks[at].stored_timers.insert(timer.name, timer.due_ms)),
                Entry::Attempts(attempts) => {
                    let before = self.tasks[at].attempts.replace(attempts.clone());
                    let before = before.filter(|before| before.suspect == attempts.suspect);
                    let known = before.map_or(0, |before| before.attempts);
                    ensure!(
                        7,
                        attempts.attempts == known + 1,
                        "attempts survive: {} after {known} at {}",
                        attempts.attempts,
                        attempts.suspect
                    );
                }
                Entry::Pins(_) | Entry::Refold(..) | Entry::Other => {}
            }
        }
        // Gaps excuse what is missing, so they come first.
        let due = self.passed(task, kinesis, &moved);
        self.letters((task, commit.deployment), letters, gone, step, due.letters, kinesis)?;
        for (shard, entry) in &moved {
            self.position(task, shard, *entry, kinesis)?;
        }
        self.lineage(task, moved.iter().map(|(shard, _)| shard), kinesis)?;
        let outputs = &step.done.outputs;
        ensure!(6, emitted == *outputs, "outputs are those of the fold: {emitted:?}, not {outputs:?}");
        let history = &mut self.tasks[at];
        for (index, output) in emitted.into_iter().enumerate() {
            history.outputs.insert((commit.number, index as u32), Emitted { output, published: false });
        }
        let (stored, timers) = (&history.stored_timers, &history.timers);
        ensure!(4, stored == timers, "timers are those that logic set: {stored:?}, not {timers:?}");
        let known = counts.unwrap_or_else(|| history.stored_counts.clone());
        for (oddity, perhaps) in due.perhaps_dropped {
            let (dropped, known) = (history.counts.dropped.entry(oddity).or_default(), known.dropped.get(&oddity));
            *dropped = known.copied().unwrap_or(0).clamp(dropped.saturating_sub(perhaps), *dropped);
        }
        history.counts.dropped.retain(|_, records| *records > 0);
        ensure!(7, known == history.counts, "what became of records is counted: {known:?}, not {:?}", history.counts);
        history.stored_counts = known;
        Ok(())
    }

    /// Every dead letter is due, and every one that is due is written; counts drops on the way.
    fn letters(
        &mut self,
        (task, deployment): (TaskId, DeploymentNumber),
        letters: Vec<(u64, DeadLetter)>,
        gone: BTreeSet<u64>,
        step: &Step,
        mut expected: Vec<(ShardKey, RecordPlace, Oddity, bool)>,
        kinesis: &Kinesis,
    ) -> Verdict {
        let mut set_aside = step.set_aside.clone();
        let at = usize::from(task.0);
        for (number, letter) in letters {
            let is_gap = self.is_gap(task, &letter.content, kinesis);
            let folded_before = match self.tasks[at].letters.get(&number) {
                Some(before) => before.folded_before,
                None => self.letter_folded_before(task, &letter.content),
            };
            let known = letter.folded_before == folded_before;
            ensure!(6, known, "a letter knows whether it was folded before: {letter:?}, not {folded_before:?}");
            let history = &mut self.tasks[at];
            if let Some(before) = history.letters.get_mut(&number) {
                let again = match (&before.content, &letter.content) {
                    (Content::Gap { from, .. }, Content::Gap { from: same, .. }) => from == same,
                    (content, same) => letter.attempts > before.attempts && content == same,
                };
                ensure!(7, again, "a letter changes only by another attempt: {before:?} to {letter:?}");
                *before = letter;
                continue;
            }
            ensure!(7, number == history.counts.dead_letters, "letters are numbered one after another: {number}");
            let is_due = match (&letter.content, letter.cause) {
                (Content::Record(shard, record), LetterCause::Odd(oddity)) => {
                    let due = (shard, record.place, oddity);
                    let is_due = |(shard, place, oddity, _): &(_, _, _, _)| (shard, *place, *oddity) == due;
                    expected.iter().position(is_due).map(|one| expected.swap_remove(one)).is_some()
                }
                (Content::Gap { .. }, LetterCause::Gap) => is_gap,
                (content, LetterCause::Poison | LetterCause::Failed) => {
                    let poison = matches!(content, Content::Record(_, record) if guest::is_poison(record));
                    let found = set_aside.iter().position(|one| one == content);
                    let given_up = letter.cause == LetterCause::Failed && letter.attempts > self.retries;
                    found.map(|one| set_aside.swap_remove(one)).is_some()
                        && (given_up || poison && letter.cause == LetterCause::Poison)
                        && self.last_straw == LastStraw::DeadLetter
                }
                _ => false,
            };
            let by_logic = matches!(letter.cause, LetterCause::Poison | LetterCause::Failed);
            let may_fail = !by_logic || self.current.contains(&deployment);
            ensure!(10, may_fail, "a canary sets no dead letters: {letter:?} by deployment {}", deployment.0);
            ensure!(7, is_due, "a letter has its reason: {letter:?}");
            history.counts.dead_letters += 1;
            if let Content::Record(..) = &letter.content {
                history.counts.dead_records += 1;
                history.accounted += 1;
            }
            history.letters.insert(number, letter);
        }
        self.tasks[at].accounted += expected.extract_if(.., |(.., perhaps)| *perhaps).count() as u64;
        ensure!(7, expected.is_empty() && set_aside.is_empty(), "nothing is passed unsaid: {expected:?} {set_aside:?}");
        for number in &step.redriven {
            ensure!(4, gone.contains(number), "a letter that was folded is one no more: {number}");
        }
        for number in gone {
            self.tasks[at].letter_bytes.remove(&number);
            let asked = self.tasks[at].to_forget.contains(&number) || step.redriven.contains(&number);
            ensure!(7, asked, "a letter is removed once it is folded, or by who asks for it: {number}");
            let removed = self.tasks[at].letters.remove(&number);
            let removed = removed.ok_or_else(|| Wrong::invariant(7, format!("a letter is removed once: {number}")))?;
            if !step.redriven.contains(&number) {
                self.tasks[at].forgotten.insert(number, removed.folded_before);
            }
        }
        let (stand, most) = (self.tasks[at].letters.len() as u64, self.letters_max);
        ensure!(7, stand <= most, "letters keep their bound: {stand} of {most}");
        let bytes: u64 = self.tasks[at].letter_bytes.values().sum();
        ensure!(
            7,
            bytes <= self.letter_bytes_max,
            "letters keep their bound: {bytes} bytes of {}",
            self.letter_bytes_max
        );
        Ok(())
    }

    /// Whether a letter may tell of this gap now: the shard is gone, or what the log says of the task's unread records leaves open
    /// that some are older than the stream keeps; and no further ahead than the rules look.
    fn is_gap(&self, task: TaskId, content: &Content, kinesis: &Kinesis) -> bool {
        let (Some(retention_ms), Content::Gap { shard, to, .. }) = (self.retention_ms, content) else { return false };
        // Letters of a host whose clock is fast, held against the true time.
        let kept_from_ms = (kinesis.now_ms + 2 * CLOCK_OFF_MS_MAX).saturating_sub(retention_ms);
        let ahead_ms = (retention_ms / 64).max(60_000);
        match to {
            Position::ShardEnd => kinesis.shard(shard).forgotten,
            Position::AtTimestamp(until_ms) => {
                let positions = &self.tasks[usize::from(task.0)].positions;
                let parents = kinesis.shard(shard).shard.parents.iter();
                let parents = parents.map(|parent| ShardKey { stream: shard.stream, shard: parent.clone() });
                let told = if positions.contains_key(shard) { vec![shard.clone()] } else { parents.collect() };
                let bound_ms = told.iter().filter_map(|key| positions.get(key)).map(|entry| entry.unread_from_ms).max();
                *until_ms <= kept_from_ms + ahead_ms && bound_ms.unwrap_or_default() < kept_from_ms
            }
            Position::TrimHorizon | Position::After(_) => false,
        }
    }

    /// What the positions of a commit pass that is not for logic: the letters due; drops are counted at once.
    fn passed(&mut self, task: TaskId, kinesis: &Kinesis, moved: &[(ShardKey, PositionEntry)]) -> Due {
        let mut due = Due::default();
        for (shard, entry) in moved {
            let before = self.tasks[usize::from(task.0)].positions.get(shard);
            let before = before.map_or(opening(&self.meta, shard), |entry| entry.position);
            for meant in kinesis.between(shard, before, entry.position) {
                let (record, put) = (&meant.record, put_of(&meant.record));
                let (owner, fate) = self.judged[&(shard.clone(), record.place)];
                if owner != task || self.before_start.contains(&put) || self.gone.contains(&put) {
                    continue;
                }
                let perhaps = kinesis.is_gone(shard, record.place) && self.is_excused(task, shard, record, kinesis);
                let dropped = match fate {
                    Some(Fate::DeadLetter(oddity)) => {
                        due.letters.push((shard.clone(), record.place, oddity, perhaps));
                        continue;
                    }
                    Some(Fate::Drop(oddity)) => oddity,
                    None if self.is_repeat(task, shard, record) => Oddity::Repeat,
                    None => continue,
                };
                let history = &mut self.tasks[usize::from(task.0)];
                *history.counts.dropped.entry(dropped).or_default() += 1;
                history.accounted += 1;
                if perhaps {
                    *due.perhaps_dropped.entry(dropped).or_default() += 1;
                }
            }
        }
        due
    }

    fn is_repeat(&self, task: TaskId, shard: &ShardKey, record: &Record) -> bool {
        let Some(id) = record.output.as_deref() else { return false };
        let first = self.tasks[usize::from(task.0)].seen.get(id);
        first.is_some_and(|first| *first != (shard.clone(), record.place))
    }

    /// Everything of the task's up to a position is accounted for, and nothing after it is folded.
    fn position(&mut self, task: TaskId, shard: &ShardKey, entry: PositionEntry, kinesis: &Kinesis) -> Verdict {
        let before = self.tasks[usize::from(task.0)].positions.insert(shard.clone(), entry);
        let before = before.map_or(Position::TrimHorizon, |entry| entry.position);
        let lost = |gap: &Content| matches!(gap, Content::Gap { shard: of, to: Position::ShardEnd, .. } if of == shard);
        let passes = entry.position == Position::ShardEnd && self.tasks[usize::from(task.0)].gaps.iter().any(lost);
        ensure!(7, self.on_gap == OnGap::Continue || !passes, "a task stops at a gap where it is to: {shard}");
        ensure!(4, before <= entry.position, "positions never fall: {shard} from {before} to {}", entry.position);
        for meant in kinesis.between(shard, before, Position::ShardEnd) {
            let record = &meant.record;
            let (owner, fate) = self.judged[&(shard.clone(), record.place)];
            let (key, count) = put_of(record);
            if owner != task || fate.is_some() || self.before_start.contains(&(key.clone(), count)) {
                continue;
            }
            let passed = is_passed(entry.position, record.place);
            let folded = self.is_folded(task, record);
            let excused = self.is_excused(task, shard, record, kinesis);
            if passed && !folded && excused && kinesis.is_gone(shard, record.place) {
                self.lost(task, &key, count);
                continue;
            }
            // An output may have come before by another shard, and what is lost is known before it is passed.
            ensure!(
                4,
                folded == passed || (folded && (record.output.is_some() || excused)),
                "positions and state agree: {key}#{count} of {shard}, passed up to {}",
                entry.position
            );
            ensure!(
                7,
                passed
                    || excused
                    || record.arrived_ms >= entry.unread_from_ms
                    || record.arrived_ms < self.meta.created_ms,
                "the bound on unread records holds: {key}#{count} of {shard} arrived {} < {}",
                record.arrived_ms,
                entry.unread_from_ms
            );
        }
        Ok(())
    }

    fn is_folded(&self, task: TaskId, record: &Record) -> bool {
        let (key, count) = put_of(record);
        match record.output.as_deref() {
            Some(id) => self.tasks[usize::from(task.0)].seen.contains_key(id),
            None => self.next.get(&key).is_some_and(|next| count < *next) || self.not_due.contains(&(key, count)),
        }
    }

    /// What is gone as a dead letter says, in a shard that has had no record since: no position will ever pass it.
    pub fn mourn(&mut self, kinesis: &Kinesis) {
        let mut gone = Vec::new();
        for (key, shard) in kinesis.shards() {
            for record in shard.meant.iter().map(|meant| &meant.record) {
                let (task, fate) = self.judged[&(key.clone(), record.place)];
                let position = self.tasks[usize::from(task.0)].positions.get(&key).map(|entry| entry.position);
                let unread = position.is_some_and(|position| !is_passed(position, record.place));
                let is_due = fate.is_some() || !self.is_folded(task, record);
                if unread
                    && is_due
                    && kinesis.is_gone(&key, record.place)
                    && self.is_excused(task, &key, record, kinesis)
                {
                    gone.push((task, put_of(record)));
                }
            }
        }
        gone.into_iter().for_each(|(task, (key, count))| self.lost(task, &key, count));
    }

    /// Whether a dead letter says that a record may be gone. One from before the job began may go without a word, unless it was folded
    /// once: the job begins with the oldest that is kept.
    pub(super) fn is_excused(&self, task: TaskId, shard: &ShardKey, record: &Record, kinesis: &Kinesis) -> bool {
        let before_creation = record.arrived_ms < self.meta.created_ms;
        let was_folded = || self.was_ever_folded(task, &Item::Record(shard.clone(), record.place));
        (before_creation && !was_folded())
            || self.tasks[usize::from(task.0)].gaps.iter().any(|gap| match gap {
                Content::Gap { shard: of, from, to } if of == shard && !is_passed(*from, record.place) => match to {
                    Position::AtTimestamp(until_ms) => record.arrived_ms < *until_ms,
                    _ => true,
                },
                // Whatever came before a shard that is gone and was never begun went with it, where it was never begun either.
                Content::Gap { shard: of, from, to: Position::ShardEnd } if from.is_start() => {
                    let begun = self.tasks[usize::from(task.0)].positions.contains_key(shard);
                    !begun && kinesis.descends(of, shard)
                }
                _ => false,
            })
    }

    /// Whether a shard that was never begun went with one that a dead letter says is gone.
    pub(super) fn is_lost(&self, task: TaskId, shard: &ShardKey, kinesis: &Kinesis) -> bool {
        let history = &self.tasks[usize::from(task.0)];
        let gone = history.gaps.iter().any(|gap| match gap {
            Content::Gap { shard: of, from, to: Position::ShardEnd } => from.is_start() && kinesis.descends(of, shard),
            _ => false,
        });
        gone && kinesis.shard(shard).forgotten && !history.positions.contains_key(shard)
    }

    /// Whether a shard that was never begun went with one that a dead letter says is gone and that is passed, as far as a host can
    /// know: by the range that the task keeps of that one, or that a listing showed the host.
    pub(super) fn is_passed_by(
        &self,
        task: TaskId,
        shard: &ShardKey,
        kinesis: &Kinesis,
        shown: &dyn Fn(&ShardKey) -> bool,
    ) -> bool {
        let history = &self.tasks[usize::from(task.0)];
        let has_range = |entry: &PositionEntry| entry.range.start.0 != u128::MAX;
        let is_over = |of: &ShardKey| {
            let entry = history.positions.get(of);
            entry.is_some_and(|entry| entry.position == Position::ShardEnd && (has_range(entry) || shown(of)))
        };
        let with = |gap: &Content| match gap {
            Content::Gap { shard: of, from, .. } => from.is_start() && is_over(of) && kinesis.descends(of, shard),
            Content::Record(..) | Content::Timer(_) => false,
        };
        !history.positions.contains_key(shard) && history.gaps.iter().any(with)
    }

    /// A record is gone, as a dead letter says.
    pub(super) fn lost(&mut self, task: TaskId, key: &str, count: u32) {
        if self.gone.insert((key.to_owned(), count)) {
            self.not_due.insert((key.to_owned(), count));
            self.tasks[usize::from(task.0)].accounted += 1;
            self.does(task, Deed::Lost(key.to_owned(), count));
        }
    }
}
