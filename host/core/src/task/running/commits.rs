//! When what was folded is sealed, what becomes of the commit, and where between two of them the pin changes.

use super::{Calling, Running, Saved};
use crate::append::AppendNext;
use crate::cause::StopCause;
use crate::codec;
use crate::mutant::{Mutant, wrong};
use crate::snapshot::StateMark;
use crate::task::effect::{Applied, Effect};
use crate::task::seal::Header;
use crate::task::{IdSeed, put};
use crate::write_set::WriteSet;

impl Running {
    pub(super) fn seal_is_due(&self, now_ms: u64) -> bool {
        // Positions and state are sealed as one, so never in the midst of a call; and a rewind follows what it was read beside.
        if matches!(self.calling, Calling::Under(..)) || self.is_rewinding() {
            return false;
        }
        let positions_old = now_ms >= self.positions_logged_ms + self.rules.positions_age_max_ms;
        (self.draining.is_some() && !self.open.is_empty())
            || (self.pin.is_leaving() && self.open.has_calls())
            || self.open.is_due(now_ms, self.rules.commit_interval_ms, &self.bounds)
            || (positions_old && self.intake.unsealed().next().is_some())
    }

    /// The pin changes, or the instance is renewed, where nothing of the old one is left to be sealed.
    pub(super) fn swap(&mut self, effects: &mut Vec<Effect>) {
        let calls = self.open.has_calls() && !wrong(Mutant::SwapAmidCommit);
        if calls || matches!(self.calling, Calling::Under(..)) {
            return;
        }
        if let Some(assignment) = self.pin.change() {
            self.born = None;
            self.failures = self.attempts.as_ref().map_or(0, |attempts| attempts.attempts);
            effects.push(Effect::Swap(assignment));
        } else if self.pin.is_renewed() {
            self.born = None;
            effects.push(Effect::DropInstance);
        }
    }

    pub(super) fn seal(&mut self, now_ms: u64, ids: &mut IdSeed, effects: &mut Vec<Effect>) {
        let born = self.born.unwrap_or_else(|| self.next_number());
        let header = Header {
            number: self.next_number(),
            id: ids.next(),
            epoch: self.epoch,
            deployment: self.pin.deployment(),
            born,
            clock_ms: self.clock_ms,
            before: self.mark,
        };
        let mut system = WriteSet::default();
        self.note_pin(now_ms, &header, &mut system);
        self.settle_refold(&mut system);
        self.settle_forgotten(&mut system);
        if std::mem::take(&mut self.counts_changed) {
            system.insert(codec::counts_key(), Some(codec::encode_counts(&self.counts)));
        }
        for (upstream, start, mark) in self.intake.repeats().take_changes() {
            system.insert(codec::seen_key(&upstream, start), mark.map(codec::encode_seen));
        }
        let sealed = self.open.seal(header, self.intake.seal(), system);
        if self.attempts_saved == Saved::Open {
            self.attempts_saved = Saved::Sealed;
        }
        self.positions_logged_ms = now_ms;
        self.letters_open = self.counts.dead_letters;
        effects.push(put(&sealed.append, 0));
        self.sealed = Some(sealed);
    }

    pub(super) fn appended(&mut self, now_ms: u64, next: AppendNext, effects: &mut Vec<Effect>) -> Option<StopCause> {
        let sealed = self.sealed.as_ref().expect("an append is under way");
        match next {
            AppendNext::Put(attempt) => effects.push(put(&sealed.append, attempt)),
            AppendNext::Read => effects.push(Effect::ReadItem(sealed.append.commit.commit().number)),
            AppendNext::Fenced => {
                return Some(StopCause::Fenced { number: sealed.append.commit.commit().number, epoch: self.epoch });
            }
            AppendNext::Done => {
                let sealed = self.sealed.take().expect("an append is under way");
                self.snapshots.appended(&sealed);
                self.mark = StateMark { log_bytes: self.snapshots.log_bytes(), ..sealed.mark };
                effects.push(Effect::Apply(Applied { writes: sealed.writes.clone(), mark: self.mark }));
                let window_ms = self.rules.rewind_window_ms;
                // While it is to be rewound no log is trimmed: that may lead past the window since it was asked for.
                if self.undone().is_none() {
                    effects.extend(self.snapshots.due(&sealed, now_ms, window_ms, &self.bounds).map(Effect::Snapshot));
                }
                if !sealed.outputs.is_empty() {
                    self.outbox.push(self.mark.number, sealed.outputs);
                }
                if self.attempts_saved == Saved::Sealed {
                    self.attempts_saved = Saved::Durable;
                }
                self.rewound(effects);
            }
        }
        None
    }
}
