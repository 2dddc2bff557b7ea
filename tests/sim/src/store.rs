//! A host's local copy of one task's state: what is applied, and how much of it a crash leaves.

use std::collections::BTreeMap;

use bytes::Bytes;
use pelton_core::codec::{self, SystemEntry};
use pelton_core::commit::Commit;
use pelton_core::dead_letter::DeadLetter;
use pelton_core::id::{CommitId, CommitNumber, Epoch};
use pelton_core::snapshot::StateMark;
use pelton_core::task::Applied;
use pelton_core::write_set::user_key;

/// Keys and values.
pub type State = BTreeMap<Bytes, Bytes>;

/// The local copy.
#[derive(Debug, Default)]
pub struct Store {
    /// As it is read.
    pub state: State,
    /// Where it stands.
    pub mark: StateMark,
    durable: State,
    durable_mark: StateMark,
    /// Applied since the last fsync.
    volatile: Vec<Applied>,
}

/// Applies a commit's writes.
pub fn write<'a>(state: &mut State, writes: impl IntoIterator<Item = (&'a Bytes, &'a Option<Bytes>)>) {
    for (key, value) in writes {
        match value {
            Some(value) => drop(state.insert(key.clone(), value.clone())),
            None => drop(state.remove(key)),
        }
    }
}

impl Store {
    /// What another history left.
    pub fn foreign(number: CommitNumber, id: CommitId, epoch: Epoch) -> Self {
        let state = State::from([(user_key(b"of another history"), Bytes::from_static(b"1"))]);
        let mark = StateMark { number, id, epoch, last_step_id: id, log_bytes: 0 };
        Self { state: state.clone(), mark, durable: state, durable_mark: mark, volatile: Vec::new() }
    }

    /// Applies a commit; a crash may lose it.
    pub fn apply(&mut self, applied: Applied) {
        write(&mut self.state, applied.writes.iter());
        self.mark = applied.mark;
        self.volatile.push(applied);
    }

    /// What is applied survives a crash from now on.
    pub fn fsync(&mut self) {
        for applied in self.volatile.drain(..) {
            write(&mut self.durable, applied.writes.iter());
        }
        self.durable_mark = self.mark;
    }

    /// Replaces everything, durably or not.
    pub fn replace(&mut self, state: State, mark: StateMark, durably: bool) {
        self.state = state;
        self.mark = mark;
        self.volatile.clear();
        if durably {
            self.durable = self.state.clone();
            self.durable_mark = mark;
        } else {
            // Until the next fsync a crash brings back an empty copy: the old one is gone.
            self.durable = State::new();
            self.durable_mark = StateMark::default();
            if mark != StateMark::default() {
                self.volatile.push(whole(&self.state, mark));
            }
        }
    }

    /// A crash: of what was applied since the last fsync, this much is left.
    pub fn crash(&mut self, kept: usize) {
        let volatile = std::mem::take(&mut self.volatile);
        self.state = self.durable.clone();
        self.mark = self.durable_mark;
        for applied in volatile.into_iter().take(kept) {
            write(&mut self.state, applied.writes.iter());
            self.mark = applied.mark;
        }
        self.durable = self.state.clone();
        self.durable_mark = self.mark;
    }

    /// The dead letters that stand, each with its number.
    pub fn letters(&self) -> impl Iterator<Item = (u64, DeadLetter)> {
        self.state.iter().filter_map(|(key, value)| match codec::decode_system(key, value.clone()) {
            Ok(SystemEntry::DeadLetter(number, _, letter)) => Some((number, *letter)),
            _ => None,
        })
    }

    /// How many commits a crash may lose.
    pub fn volatile(&self) -> usize {
        self.volatile.len()
    }
}

/// Where a local copy stands with a commit.
pub fn mark_of(commit: &Commit) -> StateMark {
    let Commit { number, id, epoch, .. } = *commit;
    StateMark { number, id, epoch, last_step_id: id, log_bytes: 0 }
}

fn whole(state: &State, mark: StateMark) -> Applied {
    let writes = state.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
    Applied { writes: std::sync::Arc::new(writes), mark }
}
