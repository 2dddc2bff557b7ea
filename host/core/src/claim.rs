//! Becoming the owner of a task: claim its row, read its log to the tail, append a fence, and make sure that the log was
//! not trimmed past the fence meanwhile. No clock and no lease: the log alone says who the owner is.

use std::sync::Arc;

use crate::append::{Append, AppendNext, PutReply};
use crate::cause::StopCause;
use crate::commit::{Commit, CommitKind};
use crate::id::{CommitId, CommitNumber, DeploymentNumber, Epoch};
use crate::mutant::{Mutant, wrong};
use crate::snapshot::Manifest;

/// What stands at the end of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Number of the newest commit; 0 for an empty log.
    pub number: CommitNumber,
    /// Its id.
    pub id: CommitId,
    /// Its epoch.
    pub epoch: Epoch,
}

/// What a claim needs next.
#[derive(Clone, Debug)]
pub enum ClaimNext {
    /// Make this host the owner in the task's row.
    Claim,
    /// Read the newest item of the log.
    ReadTail,
    /// Put the fence, after the pause of this attempt.
    Put(Append, u32),
    /// Read the id at the fence's number.
    Read(CommitNumber),
    /// Read the manifests.
    ReadManifests,
    /// The task is owned.
    Owned(Ownership),
    /// It is another's.
    Lost(StopCause),
}

/// A task owned: nothing of another epoch can follow the fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The epoch of this host.
    pub epoch: Epoch,
    /// Where the fence stands.
    pub fence: CommitNumber,
    /// The id of the fence.
    pub fence_id: CommitId,
    /// The snapshots there are, oldest first.
    pub manifests: Vec<Manifest>,
}

/// A claim under way.
#[derive(Debug)]
pub struct Claim {
    epoch: Epoch,
    fence_id: CommitId,
    append: Option<Append>,
}

impl Claim {
    /// Begins a claim whose fence will have this id; the first thing it needs is [`ClaimNext::Claim`].
    pub fn new(fence_id: CommitId) -> Self {
        Self { epoch: Epoch(0), fence_id, append: None }
    }

    /// The epoch claimed, 0 before.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The row is ours in this epoch.
    pub fn claimed(&mut self, epoch: Epoch) -> ClaimNext {
        self.epoch = epoch;
        ClaimNext::ReadTail
    }

    /// The log ends with this.
    pub fn tail(&mut self, tail: Tail) -> ClaimNext {
        if tail.epoch >= self.epoch && !wrong(Mutant::ClaimOutrun) {
            return ClaimNext::Lost(StopCause::ClaimLost { ours: self.epoch, theirs: tail.epoch });
        }
        if wrong(Mutant::FenceSkipped) && tail.number > CommitNumber(0) {
            let (fence, fence_id) = (tail.number, tail.id);
            return ClaimNext::Owned(Ownership { epoch: self.epoch, fence, fence_id, manifests: Vec::new() });
        }
        let fence = Commit {
            number: tail.number.next(),
            id: self.fence_id,
            previous_id: tail.id,
            epoch: self.epoch,
            deployment: DeploymentNumber(0),
            kind: CommitKind::Fence,
            born: tail.number.next(),
            invocations: Vec::new(),
            writes: Arc::default(),
        };
        let append = Append::new(fence, self.epoch);
        self.append = Some(append.clone());
        ClaimNext::Put(append, 0)
    }

    /// What putting the fence came to.
    pub fn put(&mut self, reply: PutReply) -> ClaimNext {
        let append = self.append.as_mut().expect("a put is answered only after it was asked for");
        let next = append.put(reply);
        self.appended(next)
    }

    /// What stands at the fence's number.
    pub fn read(&mut self, standing: Option<CommitId>) -> ClaimNext {
        let append = self.append.as_mut().expect("a read is answered only after it was asked for");
        let next = append.read(standing);
        self.appended(next)
    }

    fn appended(&mut self, next: AppendNext) -> ClaimNext {
        let append = self.append.as_ref().expect("an append is under way");
        match next {
            AppendNext::Put(attempt) => ClaimNext::Put(append.clone(), attempt),
            AppendNext::Read => ClaimNext::Read(append.commit.commit().number),
            AppendNext::Done => ClaimNext::ReadManifests,
            // The owner before us went on meanwhile, or another claims too: the new tail tells which.
            AppendNext::Fenced => ClaimNext::ReadTail,
        }
    }

    /// The manifests, read after the fence stood.
    pub fn manifests(&mut self, manifests: Vec<Manifest>) -> ClaimNext {
        let fence = self.append.as_ref().expect("the fence stands").commit.commit().number;
        let floor = manifests.iter().map(|manifest| manifest.floor).max().unwrap_or_default();
        if floor >= fence {
            return ClaimNext::Lost(StopCause::FenceTrimmed { fence, floor });
        }
        ClaimNext::Owned(Ownership { epoch: self.epoch, fence, fence_id: self.fence_id, manifests })
    }
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
