//! The system state that a task finds when it begins.

use crate::codec::SystemEntry;
use crate::counts::Counts;
use crate::dead_letter::DeadLetters;
use crate::id::ShardKey;
use crate::mutant::{Mutant, wrong};
use crate::outbox::Outbox;
use crate::position::PositionEntry;
use crate::repeats::{Mark, Upstream};
use crate::slice::HashKey;
use crate::task::attempts::Attempts;
use crate::task::refold::Refold;
use crate::task::rewind::Pins;
use crate::timers::Timers;

/// What a task finds, by what it is about.
pub(super) struct Found {
    pub positions: Vec<(ShardKey, PositionEntry)>,
    pub seen: Vec<(Upstream, HashKey, Mark)>,
    pub outbox: Outbox,
    pub timers: Timers,
    pub letters: DeadLetters,
    pub counts: Counts,
    pub attempts: Option<Attempts>,
    pub clock_ms: u64,
    pub pins: Pins,
    pub refold: Option<Refold>,
}

impl Found {
    /// Sorts the entries of a system state.
    pub fn of(outbox: Outbox, system: Vec<SystemEntry>) -> Self {
        let mut found = Self {
            positions: Vec::new(),
            seen: Vec::new(),
            outbox,
            timers: Timers::default(),
            letters: DeadLetters::default(),
            counts: Counts::default(),
            attempts: None,
            clock_ms: 0,
            pins: Pins::default(),
            refold: None,
        };
        system.into_iter().for_each(|entry| found.take(entry));
        found
    }

    fn take(&mut self, entry: SystemEntry) {
        match entry {
            SystemEntry::Position(shard, entry) => self.positions.push((shard, entry)),
            SystemEntry::Outbox(..) if wrong(Mutant::OutboxForgotten) => {}
            SystemEntry::Outbox(commit, outputs) => self.outbox.push(commit, outputs),
            SystemEntry::Clock(time_ms) => self.clock_ms = time_ms,
            SystemEntry::Counts(stored) => self.counts = stored,
            SystemEntry::DeadLetter(number, bytes, letter) => self.letters.note(number, bytes, &letter),
            SystemEntry::ForgottenLetter(number, letter) => self.letters.note_forgotten(number, *letter),
            SystemEntry::Attempts(_) if wrong(Mutant::AttemptsForgotten) => {}
            SystemEntry::Attempts(stored) => self.attempts = Some(stored),
            SystemEntry::Timer(_) if wrong(Mutant::TimersForgotten) => {}
            SystemEntry::Timer(timer) => self.timers.change(timer.name, Some(timer.due_ms)),
            SystemEntry::Seen(upstream, start, mark) => self.seen.push((upstream, start, mark)),
            SystemEntry::Pins(stored) => self.pins = stored,
            SystemEntry::Refold(_) if wrong(Mutant::RefoldForgotten) => {}
            SystemEntry::Refold(stored) => self.refold = Some(stored),
        }
    }
}
