//! Restoring a task's state up to its owner's fence. The local copy is used only if the log has its commit at its number;
//! otherwise the state is rebuilt from the newest snapshot and the commits after it. Each previous-id is checked. When
//! something is missing the manifests are read again: if the floor moved, all begins anew; else it is corruption.

use crate::cause::StopCause;
use crate::claim::Ownership;
use crate::commit::Commit;
use crate::id::{CommitId, CommitNumber, Epoch};
use crate::mutant::{Mutant, wrong};
use crate::snapshot::{Manifest, StateMark};
use crate::task::RewindTo;

/// An item of the log as read back, its commit decoded or why it could not be.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Its number.
    pub number: CommitNumber,
    /// The id stored beside the commit.
    pub id: CommitId,
    /// The epoch stored beside it.
    pub epoch: Epoch,
    /// The commit itself.
    pub commit: Result<Commit, String>,
    /// Bytes it takes in the log.
    pub stored_bytes: u64,
}

/// What a restore needs next.
#[derive(Clone, Debug)]
pub enum RestoreNext {
    /// Open the local copy.
    OpenLocal,
    /// Empty the local copy.
    ResetLocal,
    /// Load this snapshot into the empty local copy.
    LoadSnapshot(Manifest),
    /// Read a page of the log from this number on.
    ReadLog(CommitNumber),
    /// Read the manifests again.
    ReadManifests,
    /// Apply these commits, in order, each with its mark; then read on, or the restore is complete.
    Apply(Vec<(Commit, StateMark)>, AfterApply),
    /// The state is that of the fence.
    Complete,
    /// It cannot be restored.
    Stop(StopCause),
}

/// What follows the commits of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterApply {
    /// More of the log, from this number on.
    ReadLog(CommitNumber),
    /// Nothing: the fence was reached.
    Complete,
}

/// A restore under way.
#[derive(Debug)]
pub struct Restore {
    ownership: Ownership,
    mark: StateMark,
    /// The first item read must be the local copy's own commit.
    checking_local: bool,
    /// Why the manifests are being read again.
    suspicion: Option<StopCause>,
    snapshot: Option<Manifest>,
    rebuilt: bool,
}

impl Restore {
    /// Begins a restore; the first thing it needs is [`RestoreNext::OpenLocal`].
    pub fn new(ownership: Ownership) -> Self {
        Self {
            ownership,
            mark: StateMark::default(),
            checking_local: false,
            suspicion: None,
            snapshot: None,
            rebuilt: false,
        }
    }

    /// Begins to restore what the state was after an earlier commit, into a copy of its own.
    pub fn up_to(to: RewindTo, epoch: Epoch, manifests: Vec<Manifest>) -> Self {
        let manifests = manifests.into_iter().filter(|manifest| manifest.at <= to.number).collect();
        Self::new(Ownership { epoch, fence: to.number, fence_id: to.id, manifests })
    }

    /// The ownership under which the state is restored.
    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// How far the state is restored.
    pub fn mark(&self) -> StateMark {
        self.mark
    }

    fn newest_manifest(&self) -> Option<&Manifest> {
        self.ownership.manifests.iter().max_by_key(|manifest| (manifest.floor, manifest.at))
    }

    fn floor(&self) -> CommitNumber {
        self.newest_manifest().map(|manifest| manifest.floor).unwrap_or_default()
    }

    /// The local copy stands at this mark.
    pub fn local_opened(&mut self, mark: StateMark) -> RestoreNext {
        let known =
            mark.number <= self.ownership.fence && (mark.number >= self.floor() || wrong(Mutant::BelowFloorIsHistory));
        if mark == StateMark::default() {
            return self.rebuild_into_empty();
        }
        if !known {
            return RestoreNext::ResetLocal;
        }
        self.mark = mark;
        self.checking_local = true;
        RestoreNext::ReadLog(mark.number)
    }

    /// The local copy is empty now.
    pub fn local_reset(&mut self) -> RestoreNext {
        self.rebuilt = true;
        self.rebuild_into_empty()
    }

    /// Whether a local copy had to be given up.
    pub fn rebuilt(&self) -> bool {
        self.rebuilt
    }

    fn rebuild_into_empty(&mut self) -> RestoreNext {
        self.mark = StateMark::default();
        self.checking_local = false;
        self.snapshot = self.newest_manifest().cloned();
        let ownership = &self.ownership;
        if let Some(beyond) = self.snapshot.as_ref().filter(|manifest| manifest.at > ownership.fence) {
            // Only an owner after this one can have got there.
            return RestoreNext::Stop(StopCause::Fenced { number: beyond.at, epoch: ownership.epoch });
        }
        match &self.snapshot {
            Some(manifest) => RestoreNext::LoadSnapshot(manifest.clone()),
            None => RestoreNext::ReadLog(CommitNumber(1)),
        }
    }

    /// The snapshot was loaded, or what was wrong with it.
    pub fn snapshot_loaded(&mut self, outcome: Result<(), String>) -> RestoreNext {
        let manifest = self.snapshot.as_ref().expect("a snapshot was asked for");
        let at = manifest.at;
        match outcome {
            Ok(()) => {
                self.mark = StateMark {
                    number: at,
                    id: manifest.at_id,
                    epoch: manifest.at_epoch,
                    last_step_id: manifest.last_step_id,
                    log_bytes: 0,
                };
                RestoreNext::ReadLog(at.next())
            }
            Err(detail) => self.suspect(StopCause::CorruptSnapshot { at, detail }),
        }
    }

    /// A page of the log, beginning at the number asked for or, where items are missing, later; empty at its end.
    pub fn log_read(&mut self, mut page: Vec<LogEntry>) -> RestoreNext {
        if self.checking_local {
            let first = page.first();
            if !first.is_some_and(|entry| {
                entry.number == self.mark.number && (entry.id == self.mark.id || wrong(Mutant::LocalByNumber))
            }) {
                return RestoreNext::ResetLocal;
            }
            self.checking_local = false;
            page.remove(0);
            if page.is_empty() && self.mark.number < self.ownership.fence {
                return RestoreNext::ReadLog(self.mark.number.next());
            }
        }
        let fence = self.ownership.fence;
        let mut commits = Vec::with_capacity(page.len());
        for entry in page.into_iter().take_while(|entry| entry.number <= fence) {
            if entry.number != self.mark.number.next() {
                return self.missing();
            }
            match self.verify(entry) {
                Ok(commit) => commits.push((commit, self.mark)),
                Err(cause) => return self.suspect(cause),
            }
        }
        if self.mark.number < fence && commits.is_empty() {
            return self.missing();
        }
        if self.mark.number < fence {
            return RestoreNext::Apply(commits, AfterApply::ReadLog(self.mark.number.next()));
        }
        if self.mark.id != self.ownership.fence_id {
            let detail = "it should be this host's own fence".into();
            return self.suspect(StopCause::CorruptCommit { number: fence, detail });
        }
        RestoreNext::Apply(commits, AfterApply::Complete)
    }

    /// Checks an entry against the chain so far and moves the mark to it.
    fn verify(&mut self, entry: LogEntry) -> Result<Commit, StopCause> {
        let number = entry.number;
        let corrupt = |detail: String| StopCause::CorruptCommit { number, detail };
        let commit = entry.commit.map_err(corrupt)?;
        if (commit.number, commit.id, commit.epoch) != (number, entry.id, entry.epoch) {
            return Err(corrupt("the item's number, id or epoch is not that of the commit in it".into()));
        }
        if commit.previous_id != self.mark.id {
            let detail = format!("it follows {} but {} stands before it", commit.previous_id, self.mark.id);
            return Err(corrupt(detail));
        }
        if commit.epoch < self.mark.epoch {
            return Err(corrupt(format!("its epoch {} is below {} before it", commit.epoch, self.mark.epoch)));
        }
        let last_step_id = if commit.kind.is_fence() { self.mark.last_step_id } else { commit.id };
        let log_bytes = self.mark.log_bytes + entry.stored_bytes;
        self.mark = StateMark { number, id: commit.id, epoch: commit.epoch, last_step_id, log_bytes };
        Ok(commit)
    }

    fn missing(&mut self) -> RestoreNext {
        let (number, floor) = (self.mark.number.next(), self.floor());
        self.suspect(StopCause::MissingCommit { number, floor })
    }

    fn suspect(&mut self, cause: StopCause) -> RestoreNext {
        self.suspicion = Some(cause);
        RestoreNext::ReadManifests
    }

    /// The manifests, read again because something was missing.
    pub fn manifests(&mut self, manifests: Vec<Manifest>) -> RestoreNext {
        let cause = self.suspicion.take().expect("the manifests are read again only on a suspicion");
        let before = self.floor();
        self.ownership.manifests = manifests;
        if self.floor() == before {
            return RestoreNext::Stop(cause);
        }
        RestoreNext::ResetLocal
    }
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
