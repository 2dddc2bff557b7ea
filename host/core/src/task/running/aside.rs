//! What is not folded: dead letters written, folded after all or forgotten, drops counted, gaps passed.

use super::{OnGap, Running};
use crate::cause::StopCause;
use crate::codec;
use crate::dead_letter::{Content, DeadLetter, LetterCause};
use crate::intake::Batch;
use crate::mutant::{Mutant, wrong};
use crate::policy::{Fate, Oddity};
use crate::position::Position;
use crate::record::{Fetch, Gap, Run};
use crate::task::effect::{Effect, Failure, FailureKind, Work};
use crate::write_set::WriteSet;

impl Running {
    /// Moves the positions past a batch, and accounts for what of it was not for the logic.
    pub(super) fn pass(&mut self, now_ms: u64, batch: &Batch) {
        self.note_backlog();
        for run in &batch.runs {
            for (record, fate) in run.set_aside() {
                match fate {
                    Fate::Drop(_) if wrong(Mutant::DropUncounted) => {}
                    Fate::Drop(oddity) => {
                        self.counts.drop_one(oddity);
                        self.counts_changed = true;
                        self.open.touch(now_ms);
                    }
                    Fate::DeadLetter(oddity) => {
                        let content = Content::Record(run.shard.clone(), record.clone());
                        let letter = self.letter(now_ms, LetterCause::Odd(oddity), explain(oddity).into(), 0, content);
                        self.add_letter(now_ms, &letter);
                    }
                }
            }
        }
        self.intake.passed(batch);
    }

    /// Passes a gap, after a dead letter that says so, or stops before it.
    pub(super) fn pass_gap(&mut self, now_ms: u64, batch: &Batch, effects: &mut Vec<Effect>) {
        let (run, gap) = batch.gap().expect("it was just asked");
        let letter = self.gap_letter(now_ms, run, gap);
        let known = self.letters.gap(&run.shard, run.after);
        if known.is_none() && !wrong(Mutant::GapWithoutLetter) {
            self.add_letter(now_ms, &letter);
        }
        match self.rules.on_gap {
            OnGap::Continue => {
                if let Some(number) = known {
                    // It has grown since.
                    self.put_letter(now_ms, number, &letter);
                }
                self.intake.passed(batch);
                self.open.touch(now_ms);
                effects.push(Effect::LookForShards);
            }
            OnGap::Stop if wrong(Mutant::GapStopContinues) => self.intake.passed(batch),
            OnGap::Stop => {
                self.intake.put_back(batch);
                self.drain(StopCause::Gap { shard: run.shard.clone(), from: run.after, what: gap.to_string() });
            }
        }
    }

    fn gap_letter(&self, now_ms: u64, run: &Run, gap: Gap) -> DeadLetter {
        let to = match gap {
            Gap::Until(ms) => Position::AtTimestamp(ms),
            Gap::ToEnd => Position::ShardEnd,
        };
        let content = Content::Gap { shard: run.shard.clone(), from: run.after, to };
        self.letter(now_ms, LetterCause::Gap, gap.to_string(), 0, content)
    }

    /// A letter of now: the newest invocation may be long past, and there may have been none.
    pub(super) fn letter(
        &self,
        now_ms: u64,
        cause: LetterCause,
        message: String,
        attempts: u32,
        content: Content,
    ) -> DeadLetter {
        let refold = self.refold.as_ref().filter(|_| !wrong(Mutant::LetterForgetsFold));
        let folded_before = refold.and_then(|refold| refold.letter(&content));
        DeadLetter { cause, message, attempts, at_ms: self.clock_ms.max(now_ms), content, folded_before }
    }

    /// What of a batch finds no room among the dead letters, if any.
    pub(super) fn lacks_room(&self, batch: &Batch) -> Option<String> {
        let Due { letters, bytes, first } = self.letters_due(batch);
        first.filter(|_| !self.letters.has_room(self.rules.letters, letters, bytes))
    }

    /// Whether a letter has room, and what is set aside beside it.
    pub(super) fn has_room_for(&self, letter: &DeadLetter, batch: &Batch) -> bool {
        let Due { letters, bytes, .. } =
            if wrong(Mutant::RoomForOneLetter) { Due::default() } else { self.letters_due(batch) };
        let letter_bytes = codec::encode_dead_letter(letter).len() as u64;
        self.letters.has_room(self.rules.letters, letters + 1, bytes + letter_bytes)
    }

    fn letters_due(&self, batch: &Batch) -> Due {
        let mut due = Due::default();
        for run in &batch.runs {
            for (record, fate) in run.set_aside() {
                if let Fate::DeadLetter(oddity) = fate {
                    due.letters += 1;
                    due.bytes += (record.data.len() + record.partition_key.len() + LETTER_OVERHEAD_BYTES) as u64;
                    due.first.get_or_insert_with(|| format!("{} at {} of {}", oddity.name(), record.place, run.shard));
                }
            }
            if run.gap.is_some() && self.letters.gap(&run.shard, run.after).is_none() {
                due.letters += 1;
                due.bytes += LETTER_OVERHEAD_BYTES as u64;
                due.first.get_or_insert_with(|| format!("gap after {} of {}", run.after, run.shard));
            }
        }
        due
    }

    pub(super) fn letters_full(&mut self, what: String) {
        let bounds = self.rules.letters;
        self.drain(StopCause::DeadLettersFull {
            letters: self.letters.len(),
            bytes: self.letters.bytes(),
            letters_max: bounds.letters_max,
            bytes_max: bounds.bytes_max,
            what,
        });
    }

    pub(super) fn add_letter(&mut self, now_ms: u64, letter: &DeadLetter) {
        let number = self.counts.dead_letters;
        self.counts.dead_letters += 1;
        self.counts.dead_records += u64::from(matches!(letter.content, Content::Record(..)));
        self.counts_changed = true;
        self.put_letter(now_ms, number, letter);
    }

    fn put_letter(&mut self, now_ms: u64, number: u64, letter: &DeadLetter) {
        let value = codec::encode_dead_letter(letter);
        self.letters.note(number, value.len() as u64, letter);
        self.open.write(now_ms, codec::dead_letter_key(number), Some(value));
    }

    pub(super) fn remove_letter(&mut self, now_ms: u64, number: u64) {
        let stood = self.letters.remove(number);
        assert!(stood, "a letter is given to the logic only while it stands");
        self.open.write(now_ms, codec::dead_letter_key(number), None);
    }

    /// Somebody asks for a letter to be given to the logic; once, however often they ask.
    pub(super) fn redrive(&mut self, number: u64, letter: Box<DeadLetter>) {
        let asked = self.redrives.iter().any(|(waiting, _)| *waiting == number);
        let is_gap = matches!(letter.content, Content::Gap { .. });
        if !asked && !is_gap && self.draining.is_none() {
            self.redrives.push_back((number, letter));
        }
    }

    fn is_as_seen(&self, number: u64, seen: &DeadLetter) -> bool {
        number < self.letters_open && self.letters.is_as_seen(number, &seen.content)
    }

    /// Somebody asks for a letter to be forgotten. One that is being given to the logic right now is left to that, and a gap that
    /// has grown since they saw it stays: nothing else tells of it.
    pub(super) fn forget(&mut self, now_ms: u64, number: u64, seen: &DeadLetter) {
        let is_called = match &self.calling {
            super::Calling::Under(work, _) => matches!(work.as_ref(), Work::Redrive(called, ..) if *called == number),
            super::Calling::Idle | super::Calling::Paused(_) => false,
        };
        if self.draining.is_some() || is_called || !self.is_as_seen(number, seen) {
            return;
        }
        self.open.write(now_ms, codec::dead_letter_key(number), None);
        if wrong(Mutant::ForgottenIsFolded) {
            self.letters.remove(number);
        } else if let Some(forgotten) = self.letters.forget(number, self.next_number()) {
            let forgotten = codec::encode_forgotten_letter(forgotten);
            self.open.write(now_ms, codec::forgotten_letter_key(number), Some(forgotten));
        }
    }

    /// Has a commit forget of which letters somebody asked to be forgotten that no rewind brings back.
    pub(super) fn settle_forgotten(&mut self, system: &mut WriteSet) {
        while let Some(number) = self.letters.take_forgotten(self.snapshots.floor()) {
            system.insert(codec::forgotten_letter_key(number), None);
        }
    }

    pub(super) fn next_redrive(&mut self) -> Option<Work> {
        loop {
            let (number, letter) = self.redrives.pop_front()?;
            if !self.is_as_seen(number, &letter) {
                continue;
            }
            let given = match &letter.content {
                Content::Timer(timer) => Work::Timers(vec![timer.clone()]),
                Content::Record(shard, record) => {
                    let (after, up_to) = (Position::After(record.place), Position::After(record.place));
                    let fetch = Fetch { records: vec![record.clone()], order: vec![0], ..Fetch::default() };
                    let run = Run {
                        after,
                        up_to,
                        unread_from_ms: 0,
                        shard: shard.clone(),
                        fetch: Some(fetch.into()),
                        span: 0..1,
                        asides: 0..0,
                        gap: None,
                    };
                    Work::Records(Batch { runs: vec![run] })
                }
                Content::Gap { .. } => continue,
            };
            return Some(Work::Redrive(number, letter, Box::new(given)));
        }
    }

    /// The logic failed with a dead letter: it stays one, and says so.
    pub(super) fn redrive_failed(&mut self, now_ms: u64, number: u64, letter: &DeadLetter, failure: Failure) {
        let cause = match failure.kind {
            FailureKind::Poison => LetterCause::Poison,
            FailureKind::Retry | FailureKind::Fatal | FailureKind::NoRoom => LetterCause::Failed,
        };
        // Whoever asked may have seen it before an attempt that failed since.
        let attempts = self.letters.attempts(number).expect("a letter is given to the logic only while it stands") + 1;
        let letter = DeadLetter {
            cause,
            message: failure.message,
            attempts,
            at_ms: self.clock_ms,
            content: letter.content.clone(),
            folded_before: self.letters.folded_before(number),
        };
        match wrong(Mutant::FailedRedriveRemoves) {
            true => self.remove_letter(now_ms, number),
            false => self.put_letter(now_ms, number, &letter),
        }
        self.fault = None;
    }
}

/// The letters that passing a batch writes.
#[derive(Debug, Default)]
struct Due {
    letters: u64,
    bytes: u64,
    /// What the first is for.
    first: Option<String>,
}

/// What a letter takes beyond its record's data and key, at most, in bytes.
const LETTER_OVERHEAD_BYTES: usize = 512;

fn explain(oddity: Oddity) -> &'static str {
    match oddity {
        Oddity::OutOfRange => {
            "its partition key hashes outside the shard that delivered it: it was put with an ExplicitHashKey; out-of-range can also be drop, process or read-all"
        }
        Oddity::Stray => {
            "its effective hash lies outside the shard that delivered its aggregate: the KPL sends such a record again, others do not; aggregates can also be per-sub-record, kcl-compatible or accept-all"
        }
        Oddity::WithStray => "its aggregate holds a stray",
        Oddity::Repeat => "the job upstream sent it before",
    }
}
