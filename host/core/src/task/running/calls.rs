//! What the logic is called with next, and what becomes of its answer. A call with several records or timers that fails is
//! given again until the one at fault is alone; that one is tried again, with pauses, as often as the job says.

use std::sync::Arc;

use super::{Calling, Invoked, Running, Saved};
use crate::cause::StopCause;
use crate::codec;
use crate::commit::{Invocation, InvocationKind, InvokedRun};
use crate::dead_letter::{Content, LetterCause, Timer};
use crate::intake::Batch;
use crate::limits::{NO_ROOM_PAUSE_MS, backoff_ms};
use crate::mutant::{Mutant, wrong};
use crate::output::Output;
use crate::task::attempts::{Attempts, Item};
use crate::task::effect::{Call, CallOutcome, Effect, Failure, FailureKind, Work};
use crate::task::pin::Trial;
use crate::task::running::LastStraw;
use crate::timers::TimerChange;
use crate::write_set::WriteSet;

impl Running {
    pub(super) fn call(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        match self.calling {
            _ if self.pin.has_failed() => return,
            Calling::Under(..) => return,
            // Nothing is tried again before the log knows that it failed.
            Calling::Paused(at_ms) if now_ms < at_ms || self.attempts_saved != Saved::Durable => return,
            Calling::Paused(_) => self.calling = Calling::Idle,
            Calling::Idle => {}
        }
        let Some(work) = self.next_work(now_ms, effects) else { return };
        self.clock_ms = if wrong(Mutant::ClockFalls) { now_ms } else { self.clock_ms.max(now_ms) };
        let born = self.born.is_none();
        self.born.get_or_insert(self.next_number());
        let work = Arc::new(work);
        effects.push(Effect::Call(Call {
            work: work.clone(),
            time_ms: self.clock_ms,
            seed: self.open.seed(self.next_number(), self.failures),
            born,
            timers: self.timers.len(),
            open: self.open.writes(),
            sealed: self.sealed.as_ref().map(|sealed| sealed.writes.clone()),
        }));
        self.calling = Calling::Under(work, Invoked { time_ms: self.clock_ms, born });
    }

    /// What is next for the logic: timers that are due, then dead letters asked for, then records. What is not for it is
    /// passed on the way.
    fn next_work(&mut self, now_ms: u64, effects: &mut Vec<Effect>) -> Option<Work> {
        if self.open.weight() >= self.bounds.seal_bytes || self.outbox.is_full() {
            return None;
        }
        let mut due = self.timers.due(self.clock_ms.max(now_ms));
        self.timers_alone &= !due.is_empty();
        if !due.is_empty() {
            if self.timers_alone {
                due.truncate(1);
            }
            if let Some(refold) = &self.refold {
                refold.split(&mut due);
            }
            return Some(Work::Timers(due));
        }
        if let Some(work) = self.next_redrive() {
            return Some(work);
        }
        loop {
            let batch = self.intake.next_batch(&self.bounds, self.refold.as_ref())?;
            if let Some(what) = self.lacks_room(&batch) {
                self.intake.put_back(&batch);
                self.letters_full(what);
                return None;
            }
            if batch.gap().is_some() {
                self.pass_gap(now_ms, &batch, effects);
            } else if batch.records() > 0 {
                return Some(Work::Records(batch));
            } else {
                self.pass(now_ms, &batch);
            }
            if self.draining.is_some() || self.open.weight() >= self.bounds.seal_bytes {
                return None;
            }
        }
    }

    pub(super) fn called(&mut self, now_ms: u64, outcome: CallOutcome, effects: &mut Vec<Effect>) {
        let Calling::Under(work, invoked) = std::mem::replace(&mut self.calling, Calling::Idle) else {
            panic!("a call is answered while one is under way");
        };
        match self.remembered(outcome) {
            CallOutcome::Folded { writes, outputs, timers } => {
                self.folded(now_ms, &work, invoked, writes, outputs, timers);
            }
            // It was not made, so it is made again as if for the first time.
            CallOutcome::Failed(Failure { kind: FailureKind::NoRoom, message, .. }) => {
                self.born = None;
                self.fault = Some(message);
                effects.push(Effect::DropInstance);
                self.put_back(&work);
                self.calling = Calling::Paused(now_ms + NO_ROOM_PAUSE_MS);
            }
            CallOutcome::Failed(failure) => {
                self.failed_batches += 1;
                self.failures += 1;
                self.born = None;
                self.fault = Some(failure.message.clone());
                effects.push(Effect::DropInstance);
                if wrong(Mutant::FailureDiscardsAll) {
                    self.open = super::Open::default();
                }
                match self.pin.trial() {
                    // What the task goes on with may do better: it is no attempt, and stops nothing.
                    _ if self.pin.gives_up() => self.put_back(&work),
                    Some(trial) => self.trial_failed(now_ms, &work, failure, trial, effects),
                    None => self.failed(now_ms, &work, invoked, failure),
                }
            }
        }
    }

    fn folded(
        &mut self,
        now_ms: u64,
        work: &Work,
        invoked: Invoked,
        writes: WriteSet,
        outputs: Vec<Output>,
        changes: Vec<TimerChange>,
    ) {
        self.note_backlog();
        let kind = match work {
            Work::Records(_) => InvocationKind::Records,
            Work::Timers(timers) => InvocationKind::Timers(timers.clone()),
            Work::Redrive(number, ..) => InvocationKind::Redrive(*number),
        };
        let runs: &[_] = if let Work::Records(batch) = work { &batch.runs } else { &[] };
        let invocation = self.invocation(invoked, kind, runs.iter().map(invoked_run).collect());
        let before = self.folded_before(work);
        let outputs = match before {
            Some(before) => before.emitted(outputs),
            None => outputs,
        };
        self.refold_changed |= self.refold.as_mut().is_some_and(|refold| refold.folds(work));
        self.open.fold(now_ms, invocation, writes, outputs);
        self.counts_changed = true;
        match work {
            Work::Records(batch) => {
                self.records_folded += batch.records() as u64;
                self.counts.folded += batch.records() as u64;
                self.counts.malformed += batch.runs.iter().map(crate::record::Run::malformed).sum::<u64>();
                let suspect = self.attempts.as_ref().map(|attempts| &attempts.suspect);
                if let Some(Item::Record(shard, place)) = suspect
                    && batch.runs.iter().any(|run| run.shard == *shard && run.up_to.covers(*place))
                {
                    self.attempts_over(now_ms);
                }
                self.pass(now_ms, batch);
            }
            Work::Timers(timers) => {
                self.counts.timers_fired += timers.len() as u64;
                for timer in timers {
                    self.fired(now_ms, timer);
                }
            }
            Work::Redrive(number, ..) => {
                self.counts.redriven += 1;
                self.remove_letter(now_ms, *number);
            }
        }
        self.note_timers(before, &changes);
        for (name, due_ms) in changes {
            self.open.write(now_ms, codec::timer_key(&name), due_ms.map(codec::encode_timer));
            self.timers.change(name, due_ms);
        }
        self.failures = 0;
        if self.attempts.is_none() {
            self.fault = None;
        }
    }

    /// What a call was given waits for another.
    fn put_back(&mut self, work: &Work) {
        match work {
            Work::Records(batch) => self.intake.put_back(batch),
            Work::Redrive(number, letter, _) => self.redrives.push_front((*number, letter.clone())),
            Work::Timers(_) => {}
        }
    }

    /// A canary failed: what it was given waits for it, or for what the task goes back to.
    fn trial_failed(&mut self, now_ms: u64, work: &Work, failure: Failure, trial: Trial, effects: &mut Vec<Effect>) {
        self.put_back(work);
        if self.pin.failed(trial) {
            effects.push(Effect::TrialFailed(self.pin.assignment().clone(), failure.message));
        } else {
            self.calling = Calling::Paused(now_ms + backoff_ms(self.failures));
        }
    }

    fn failed(&mut self, now_ms: u64, work: &Work, invoked: Invoked, failure: Failure) {
        if let Work::Records(batch) = work {
            self.intake.put_back(batch);
        }
        if failure.kind == FailureKind::Fatal {
            return self.drain(StopCause::Logic(failure.message));
        }
        match work {
            Work::Redrive(number, letter, _) => self.redrive_failed(now_ms, *number, letter, failure),
            Work::Records(batch) if batch.records() > 1 => match failure.index.and_then(|index| batch.record(index)) {
                Some((shard, record)) => self.intake.suspect(shard, record.place),
                None => self.intake.suspect_all(batch),
            },
            Work::Timers(timers) if timers.len() > 1 => self.timers_alone = true,
            Work::Records(batch) => {
                let (shard, record) = batch.record(0).expect("only a batch with records is called");
                let suspect = Item::Record(shard.clone(), record.place);
                self.failed_alone(now_ms, suspect, work, invoked, failure);
            }
            Work::Timers(timers) => {
                let suspect = Item::Timer(timers[0].clone());
                self.failed_alone(now_ms, suspect, work, invoked, failure);
            }
        }
    }

    /// The logic failed with one thing alone: it is tried again, or set aside.
    fn failed_alone(&mut self, now_ms: u64, suspect: Item, work: &Work, invoked: Invoked, failure: Failure) {
        let before = self.attempts.as_ref().filter(|attempts| attempts.suspect == suspect);
        let attempts = before.map_or(0, |attempts| attempts.attempts) + 1;
        let gives_up = failure.kind == FailureKind::Poison || attempts > self.rules.retries || wrong(Mutant::NoRetry);
        let sets_aside = self.rules.last_straw == LastStraw::DeadLetter || wrong(Mutant::StopIsLetter);
        if gives_up && sets_aside {
            let cause = if failure.kind == FailureKind::Poison { LetterCause::Poison } else { LetterCause::Failed };
            return self.set_aside(now_ms, work, invoked, (cause, attempts, failure.message));
        }
        if gives_up {
            let (what, fault) = (suspect.to_string(), failure.message.clone());
            self.drain(StopCause::Failing { attempts, what, fault });
        }
        if let Item::Record(shard, place) = &suspect {
            self.intake.suspect(shard, *place);
        }
        self.timers_alone |= matches!(suspect, Item::Timer(_));
        let attempts = Attempts { suspect, attempts, message: failure.message };
        self.open.write(now_ms, codec::attempts_key(), Some(codec::encode_attempts(&attempts)));
        self.open.hurry();
        self.attempts_saved = Saved::Open;
        self.calling = Calling::Paused(now_ms + backoff_ms(attempts.attempts));
        self.attempts = Some(attempts);
    }

    /// What the logic failed with for the last time becomes a dead letter, and the task goes on behind it.
    fn set_aside(
        &mut self,
        now_ms: u64,
        work: &Work,
        invoked: Invoked,
        (cause, attempts, message): (LetterCause, u32, String),
    ) {
        let (content, timer, batch) = match work {
            Work::Records(batch) => {
                let (shard, record) = batch.record(0).expect("only a batch with records is called");
                (Content::Record(shard.clone(), record.clone()), None, batch.clone())
            }
            Work::Timers(timers) => (Content::Timer(timers[0].clone()), Some(timers[0].clone()), Batch::default()),
            Work::Redrive(..) => unreachable!("a redriven letter stays one"),
        };
        let letter = self.letter(now_ms, cause, message, attempts, content);
        if !self.has_room_for(&letter, &batch) {
            return self.letters_full(format!("{} of {}", letter.cause.name(), letter.content.what()));
        }
        self.add_letter(now_ms, &letter);
        let runs = batch.runs.iter().map(|run| InvokedRun { records: run.len() as u32, ..invoked_run(run) });
        let invocation = self.invocation(invoked, InvocationKind::SetAside(timer.clone()), runs.collect());
        self.open.fold(now_ms, invocation, WriteSet::default(), Vec::new());
        let (shard, record) = batch.record(0).unzip();
        let suspect = self.attempts.as_ref().map(|attempts| &attempts.suspect);
        let is_suspect = match suspect {
            Some(Item::Record(of, place)) => shard == Some(of) && record.is_some_and(|record| record.place == *place),
            Some(Item::Timer(of)) => timer.as_ref() == Some(of),
            None => false,
        };
        // Another may have failed before: its attempts still count.
        if is_suspect || wrong(Mutant::AttemptsOfAnotherForgotten) {
            self.attempts_over(now_ms);
        }
        match timer {
            Some(timer) => self.fired(now_ms, &timer),
            None => {
                self.intake.take_again(&batch);
                self.pass(now_ms, &batch);
            }
        }
        self.fault = None;
    }

    fn invocation(&self, invoked: Invoked, kind: InvocationKind, runs: Vec<InvokedRun>) -> Invocation {
        Invocation { time_ms: invoked.time_ms, failed_attempts: self.failures, born: invoked.born, kind, runs }
    }

    /// A timer is done with, unless the call that it fired set it anew.
    fn fired(&mut self, now_ms: u64, timer: &Timer) {
        if !wrong(Mutant::FiredTimerStays) {
            self.open.write(now_ms, codec::timer_key(&timer.name), None);
        }
        self.timers.change(timer.name.clone(), None);
        if self.attempts.as_ref().is_some_and(|attempts| attempts.suspect == Item::Timer(timer.clone())) {
            self.attempts_over(now_ms);
        }
    }

    fn attempts_over(&mut self, now_ms: u64) {
        if self.attempts.take().is_some() {
            self.open.write(now_ms, codec::attempts_key(), None);
        }
        self.attempts_saved = Saved::Durable;
    }
}

fn invoked_run(run: &crate::record::Run) -> InvokedRun {
    InvokedRun { shard: run.shard.clone(), after: run.after, up_to: run.up_to, records: run.len() as u32 }
}
