//! The single-threaded fold: each commit's invocations done again over what the records mean, and compared.

use std::collections::BTreeSet;

use bytes::Bytes;
use pelton_core::commit::{Commit, Invocation, InvocationKind, InvokedRun};
use pelton_core::dead_letter::{Content, Timer};
use pelton_core::id::{ShardKey, TaskId};
use pelton_core::output::OutputId;
use pelton_core::position::Position;
use pelton_core::record::Record;
use pelton_core::task::Item;
use pelton_core::write_set::{SYSTEM_SPACE, USER_SPACE};

use super::rewind::Deed;
use super::space::is_passed;
use super::stored::Entry;
use super::system::Step;
use super::{Oracle, put_of, read};
use crate::guest::{self, Done, Logic};
use crate::kinesis::Kinesis;
use crate::mutants::Blunder;
use crate::promise::{Verdict, Wrong, ensure};
use crate::store::write;

/// The shards that a commit has positions of.
fn positions(commit: &Commit) -> Result<BTreeSet<ShardKey>, Wrong> {
    let keys = commit.writes.iter().filter(|(key, _)| key[..2] == [SYSTEM_SPACE, b'p']);
    let shard = |(key, value): (&Bytes, &Option<Bytes>)| match read(key, value.as_ref()?) {
        Ok(Entry::Position(shard, _)) => Some(Ok(shard)),
        Ok(_) => None,
        Err(wrong) => Some(Err(wrong)),
    };
    keys.filter_map(shard).collect()
}

impl Oracle {
    pub(super) fn folds(&mut self, task: TaskId, commit: &Commit, kinesis: &Kinesis) -> Verdict {
        let at = format!("commit {} of task {task}", commit.number);
        let mut step = Step::default();
        let logic = Logic { deployment: commit.deployment, big: self.big };
        if let Some(Some(signed)) = commit.writes.get(&guest::deployment_key()) {
            let named = commit.deployment.0.to_be_bytes();
            ensure!(10, signed[..] == named, "a commit names the deployment that produced it: {signed:02x?}, {at}");
        }
        self.lost_unseen(task, commit, kinesis)?;
        for invocation in &commit.invocations {
            let history = &mut self.tasks[usize::from(task.0)];
            ensure!(3, invocation.time_ms >= history.clock_ms, "invocation time never falls: {at}");
            history.clock_ms = invocation.time_ms;
            self.invoked(task, logic, invocation, &mut step, kinesis).map_err(|wrong| wrong.at(&at))?;
        }
        let history = &mut self.tasks[usize::from(task.0)];
        let touched = &step.done.writes;
        write(&mut history.state, commit.writes.iter());
        write(&mut history.model, touched);
        let written: Vec<_> = commit.writes.iter().filter(|(key, _)| key[0] == USER_SPACE).collect();
        let expected: Vec<_> = touched.iter().collect();
        ensure!(4, written == expected, "state is the fold of the records: {at} writes {written:?}, not {expected:?}");
        self.system(task, commit, &step, kinesis).map_err(|wrong| wrong.at(&at))
    }

    /// Gaps that a commit tells of excuse what it misses itself. A host knows what came before another only of shards that it was
    /// shown: of any other it may tell though that went with one that was told of.
    pub(super) fn note_gaps(
        &mut self,
        task: TaskId,
        commit: &Commit,
        kinesis: &Kinesis,
        shown: &dyn Fn(&ShardKey) -> bool,
    ) -> Verdict {
        let begun = positions(commit)?;
        for (key, value) in commit.writes.iter().filter(|(key, _)| key[0] != USER_SPACE && key[1] == b'd') {
            let Some(value) = value else { continue };
            let Entry::Letter(number, letter) = read(key, value)? else { continue };
            if let Content::Gap { shard, from, to } = &letter.content {
                let (shard, from, to) = (shard.clone(), *from, *to);
                let known = self.tasks[usize::from(task.0)].letters.contains_key(&number);
                let told = !known && shown(&shard) && self.is_passed_by(task, &shard, kinesis, shown);
                ensure!(7, !told, "a gap is told once, with what came of its shard: {shard} from {from}");
                self.tasks[usize::from(task.0)].gaps.push(letter.content);
                if to == Position::ShardEnd {
                    self.lost_after(task, &shard, from, kinesis);
                    self.lost_before(task, &shard, &begun, kinesis);
                }
            }
        }
        Ok(())
    }

    /// What a commit passes and no call of it was given is lost, where it may be.
    fn lost_unseen(&mut self, task: TaskId, commit: &Commit, kinesis: &Kinesis) -> Verdict {
        for (key, value) in commit.writes.iter().filter(|(key, _)| key[..2] == [SYSTEM_SPACE, b'p']) {
            let Some(value) = value else { continue };
            let Entry::Position(shard, entry) = read(key, value)? else { continue };
            let before = self.tasks[usize::from(task.0)].positions.get(&shard);
            let before = before.map_or(Position::TrimHorizon, |entry| entry.position);
            let given = commit.invocations.iter().flat_map(|invocation| &invocation.runs);
            let given: Vec<_> = given.filter(|run| run.shard == shard).collect();
            for meant in kinesis.between(&shard, before, entry.position) {
                let record = &meant.record;
                let is_given =
                    given.iter().any(|run| !is_passed(run.after, record.place) && is_passed(run.up_to, record.place));
                let (owner, fate) = self.judged[&(shard.clone(), record.place)];
                let gone = self.is_excused(task, &shard, record, kinesis) && kinesis.is_gone(&shard, record.place);
                let (key, count) = put_of(record);
                let is_due = !self.before_start.contains(&(key.clone(), count));
                if owner == task && fate.is_none() && is_due && gone && !is_given {
                    self.lost(task, &key, count);
                }
            }
        }
        Ok(())
    }

    /// With a shard that is gone went those before it that were never begun.
    fn lost_before(&mut self, task: TaskId, shard: &ShardKey, begun: &BTreeSet<ShardKey>, kinesis: &Kinesis) {
        for parent in &kinesis.shard(shard).shard.parents {
            let parent = ShardKey { stream: shard.stream, shard: parent.clone() };
            if begun.contains(&parent) || !self.is_lost(task, &parent, kinesis) {
                continue;
            }
            self.lost_after(task, &parent, Position::TrimHorizon, kinesis);
            self.lost_before(task, &parent, begun, kinesis);
        }
    }

    /// What comes after a position of a shard that is gone is lost.
    fn lost_after(&mut self, task: TaskId, shard: &ShardKey, from: Position, kinesis: &Kinesis) {
        for meant in kinesis.between(shard, from, Position::ShardEnd) {
            let (owner, _) = self.judged[&(shard.clone(), meant.record.place)];
            let (key, count) = put_of(&meant.record);
            if owner == task && !self.before_start.contains(&(key.clone(), count)) {
                self.lost(task, &key, count);
            }
        }
    }

    fn invoked(
        &mut self,
        task: TaskId,
        logic: Logic,
        invocation: &Invocation,
        step: &mut Step,
        kinesis: &Kinesis,
    ) -> Verdict {
        let at = usize::from(task.0);
        let time_ms = invocation.time_ms;
        let emitted = step.done.outputs.len();
        let mut sides = Vec::new();
        match &invocation.kind {
            InvocationKind::Records => {
                for run in &invocation.runs {
                    for record in self.due(task, run, kinesis)? {
                        sides.push(self.folds_item(task, Item::Record(run.shard.clone(), record.place)));
                        self.fold(task, &record, (logic, time_ms), &mut step.done)?;
                    }
                }
            }
            InvocationKind::SetAside(None) => {
                let mut given = Vec::new();
                for run in &invocation.runs {
                    let due = self.due(task, run, kinesis)?;
                    given.extend(due.into_iter().map(|record| Content::Record(run.shard.clone(), record)));
                }
                ensure!(7, given.len() == 1, "one record at a time is set aside: {given:?}");
                if let Some(Content::Record(_, record)) = given.first() {
                    let (key, count) = put_of(record);
                    if self.not_due.insert((key.clone(), count)) {
                        self.does(task, Deed::SetAside(key, count));
                    }
                }
                step.set_aside.extend(given);
            }
            InvocationKind::SetAside(Some(timer)) => {
                self.fires(task, std::slice::from_ref(timer), time_ms)?;
                step.set_aside.push(Content::Timer(timer.clone()));
            }
            InvocationKind::Timers(timers) => {
                self.fires(task, timers, time_ms)?;
                sides.extend(timers.iter().map(|timer| self.folds_item(task, Item::Timer(timer.clone()))));
                timers.iter().for_each(|timer| logic.fire(timer, &self.tasks[at].model, &mut step.done));
                self.tasks[at].counts.timers_fired += timers.len() as u64;
            }
            InvocationKind::Redrive(number) => {
                let letter = self.tasks[at].letters.get(number).cloned();
                let letter = letter
                    .ok_or_else(|| Wrong::invariant(4, format!("a letter is folded while it stands: {number}")))?;
                ensure!(4, step.redriven.insert(*number), "a letter is folded once: {number}");
                sides.push(self.folds_letter(task, &letter)?);
                let model = &self.tasks[at].model;
                match &letter.content {
                    Content::Record(_, record) => logic.fold(record, time_ms, model, &mut step.done),
                    Content::Timer(timer) => logic.fire(timer, model, &mut step.done),
                    Content::Gap { .. } => {
                        return Err(Wrong::invariant(7, format!("a gap cannot be folded: {number}")));
                    }
                }
                self.tasks[at].counts.redriven += 1;
            }
        }
        self.emits(task, &sides, &mut step.done.outputs, emitted)?;
        let set = step.done.timers.iter().filter_map(|(name, due_ms)| due_ms.map(|due_ms| (name, due_ms)));
        let set: Vec<_> = set.map(|(name, due_ms)| Timer { name: name.clone(), due_ms }).collect();
        self.sets(task, sides.first().copied().flatten(), &set);
        for (name, due_ms) in std::mem::take(&mut step.done.timers) {
            match due_ms {
                Some(due_ms) => drop(self.tasks[at].timers.insert(name, due_ms)),
                None if self.blunder == Some(Blunder::TimersStay) => {}
                None => drop(self.tasks[at].timers.remove(&name)),
            }
        }
        Ok(())
    }

    /// Timers fire when they are set and due, in their order.
    fn fires(&mut self, task: TaskId, timers: &[Timer], time_ms: u64) -> Verdict {
        ensure!(4, timers.is_sorted(), "timers fire in their order: {timers:?}");
        for timer in timers {
            let set = self.tasks[usize::from(task.0)].timers.remove(&timer.name);
            ensure!(4, set == Some(timer.due_ms), "a timer fires once, as it was set: {timer:?}, not {set:?}");
            ensure!(4, timer.due_ms <= time_ms, "a timer fires no earlier than it is due: {timer:?} at {time_ms}");
        }
        Ok(())
    }

    /// The records of a run that logic was given, by the oracle's judgement.
    fn due(&mut self, task: TaskId, run: &InvokedRun, kinesis: &Kinesis) -> Result<Vec<Record>, Wrong> {
        let mut due = Vec::new();
        for meant in kinesis.between(&run.shard, run.after, run.up_to) {
            let (owner, fate) = self.judged[&(run.shard.clone(), meant.record.place)];
            if owner != task || fate.is_some() {
                continue;
            }
            let seen = |id: &OutputId| self.tasks[usize::from(task.0)].seen.contains_key(id);
            let here = |id: &OutputId| due.iter().any(|one: &Record| one.output.as_deref() == Some(id));
            if !meant.record.output.as_deref().is_some_and(|id| seen(id) || here(id)) {
                due.push(meant.record.clone());
            }
        }
        // What is missing is the oldest, and gone.
        let missing = due.len().saturating_sub(run.records as usize);
        for record in due.drain(..missing) {
            let (key, count) = put_of(&record);
            let excused =
                self.is_excused(task, &run.shard, &record, kinesis) && kinesis.is_gone(&run.shard, record.place);
            ensure!(4, excused, "a run is all of the task's records: {key}#{count} of {} is missing", run.shard);
            self.lost(task, &key, count);
        }
        // Too many: others' records, or some twice.
        let others = kinesis.between(&run.shard, run.after, run.up_to).any(|meant| {
            let (owner, fate) = self.judged[&(run.shard.clone(), meant.record.place)];
            owner != task && fate.is_none()
        });
        let (given, here) = (run.records, &run.shard);
        ensure!(1, due.len() == given as usize || !others, "a run has no other task's records: {given} in {here}");
        ensure!(4, due.len() == given as usize, "a run has no other records: {given} in {here}");
        for record in &due {
            if let Some(id) = record.output.as_deref() {
                let place = (run.shard.clone(), record.place);
                self.tasks[usize::from(task.0)].seen.insert(*id, place);
            }
        }
        Ok(due)
    }

    fn fold(&mut self, task: TaskId, record: &Record, (logic, time_ms): (Logic, u64), done: &mut Done) -> Verdict {
        let (key, count) = put_of(record);
        let next = self.next.entry(key.clone()).or_default();
        while self.before_start.contains(&(key.clone(), *next)) || self.not_due.contains(&(key.clone(), *next)) {
            *next += 1;
        }
        ensure!(4, count >= *next, "each record once: {key}#{count} was folded where {key}#{next} was due");
        ensure!(5, count == *next, "each record in order: {key}#{count} was folded where {key}#{next} was due");
        *next += 1;
        self.does(task, Deed::Folded(key, count));
        let history = &mut self.tasks[usize::from(task.0)];
        history.accounted += 1;
        history.counts.folded += 1;
        history.counts.malformed += u64::from(record.data.first() == Some(&0xF3));
        logic.fold(record, time_ms, &history.model, done);
        if self.blunder == Some(Blunder::FoldsTwice) {
            logic.fold(record, time_ms, &history.model, done);
        }
        Ok(())
    }
}
