//! What becomes a commit: the open write set while it grows, and the sealed one while it is appended.

use std::sync::Arc;

use bytes::Bytes;

use super::effect::NewSnapshot;
use super::step_id;
use crate::append::Append;
use crate::codec;
use crate::commit::{Commit, CommitKind, Invocation};
use crate::id::{CommitId, CommitNumber, DeploymentNumber, Epoch, ShardKey};
use crate::limits::{Bounds, OUTBOX_CLEAR_MS, SNAPSHOT_LOG_MULTIPLE};
use crate::mutant::{Mutant, wrong};
use crate::output::Output;
use crate::position::PositionEntry;
use crate::snapshot::{Manifest, StateMark};
use crate::write_set::{StateKey, WriteSet};

/// Folded and not yet sealed.
#[derive(Debug, Default)]
pub(super) struct Open {
    writes: Arc<WriteSet>,
    outputs: Vec<Output>,
    output_weight: usize,
    invocations: Vec<Invocation>,
    /// When the first of it came.
    since_ms: Option<u64>,
    /// Sealed without waiting for its age.
    urgent: bool,
    /// When the first word of published outputs came that the log does not have.
    published_ms: Option<u64>,
}

/// What a commit says besides what was folded.
pub(super) struct Header {
    pub number: CommitNumber,
    pub id: CommitId,
    pub epoch: Epoch,
    pub deployment: DeploymentNumber,
    pub born: CommitNumber,
    pub clock_ms: u64,
    pub before: StateMark,
}

/// A commit being appended.
#[derive(Debug)]
pub(super) struct Sealed {
    pub append: Append,
    pub writes: Arc<WriteSet>,
    pub outputs: Vec<Output>,
    /// Where the state stands when it is applied.
    pub mark: StateMark,
}

impl Sealed {
    /// A commit to be appended behind another.
    pub fn new(commit: Commit, outputs: Vec<Output>, before: &StateMark) -> Self {
        assert_eq!(before.number.next(), commit.number, "one append in flight");
        let mark = StateMark {
            log_bytes: before.log_bytes,
            number: commit.number,
            id: commit.id,
            epoch: commit.epoch,
            last_step_id: step_id(commit.kind, commit.id, before),
        };
        let (writes, epoch) = (commit.writes.clone(), commit.epoch);
        Self { append: Append::new(commit, epoch), writes, outputs, mark }
    }

    /// The id of a snapshot taken at this commit: as random as the commit's, and another.
    pub fn snapshot_id(&self) -> CommitId {
        CommitId(self.mark.id.0.map(|byte| !byte))
    }
}

impl Open {
    pub fn writes(&self) -> Arc<WriteSet> {
        self.writes.clone()
    }

    /// What it takes, in bytes.
    pub fn weight(&self) -> usize {
        self.writes.weight() + self.output_weight
    }

    /// Seeds the next call from what its commit will record of it: the commit's number, the call's place in it, and how
    /// often it failed.
    pub fn seed(&self, number: CommitNumber, failed_attempts: u32) -> u64 {
        number.0 << 24 ^ (self.invocations.len() as u64) << 8 ^ u64::from(failed_attempts)
    }

    pub fn is_empty(&self) -> bool {
        self.since_ms.is_none() && self.published_ms.is_none()
    }

    /// Whether a call of the logic is in it.
    pub fn has_calls(&self) -> bool {
        !self.invocations.is_empty()
    }

    /// Whether anything but word of published outputs is in it.
    pub fn has_folds(&self) -> bool {
        self.since_ms.is_some()
    }

    pub fn due_at_ms(&self, commit_interval_ms: u64) -> Option<u64> {
        let fold = self.since_ms.map(|since_ms| since_ms + commit_interval_ms);
        let clear = self.published_ms.map(|published_ms| published_ms + OUTBOX_CLEAR_MS);
        fold.into_iter().chain(clear).min()
    }

    pub fn is_due(&self, now_ms: u64, commit_interval_ms: u64, bounds: &Bounds) -> bool {
        let by_size = self.weight() >= bounds.seal_bytes || self.invocations.len() >= bounds.seal_invocations;
        by_size || self.urgent || self.due_at_ms(commit_interval_ms).is_some_and(|at_ms| now_ms >= at_ms)
    }

    /// Takes what a call did.
    pub fn fold(&mut self, now_ms: u64, invocation: Invocation, writes: WriteSet, outputs: Vec<Output>) {
        self.since_ms.get_or_insert(now_ms);
        Arc::make_mut(&mut self.writes).merge(writes);
        self.output_weight += outputs.iter().map(Output::weight).sum::<usize>();
        self.outputs.extend(outputs);
        self.invocations.push(invocation);
    }

    /// Changes system state.
    pub fn write(&mut self, now_ms: u64, key: StateKey, value: Option<Bytes>) {
        self.since_ms.get_or_insert(now_ms);
        Arc::make_mut(&mut self.writes).insert(key, value);
    }

    /// Something happened that is to be sealed with its age.
    pub fn touch(&mut self, now_ms: u64) {
        self.since_ms.get_or_insert(now_ms);
    }

    /// What is in it is sealed at the next chance.
    pub fn hurry(&mut self) {
        self.urgent = true;
    }

    /// All outputs of a commit are published: the next commit says so.
    pub fn published(&mut self, now_ms: u64, commit: CommitNumber) {
        self.published_ms.get_or_insert(now_ms);
        Arc::make_mut(&mut self.writes).insert(codec::outbox_key(commit), None);
    }

    /// Makes a commit of everything folded, with the positions reached by it and what else of system state changed.
    pub fn seal(&mut self, header: Header, positions: Vec<(ShardKey, PositionEntry)>, system: WriteSet) -> Sealed {
        let open = std::mem::take(self);
        let mut writes = Arc::unwrap_or_clone(open.writes);
        writes.merge(system);
        for (shard, entry) in &positions {
            writes.insert(codec::position_key(shard), Some(codec::encode_position(entry)));
        }
        if !open.invocations.is_empty() {
            writes.insert(codec::clock_key(), Some(codec::encode_clock(header.clock_ms)));
        }
        if !open.outputs.is_empty() {
            writes.insert(codec::outbox_key(header.number), Some(codec::encode_outputs(&open.outputs)));
        }
        let commit = Commit {
            number: header.number,
            id: header.id,
            previous_id: header.before.id,
            epoch: header.epoch,
            deployment: header.deployment,
            kind: CommitKind::Step,
            born: header.born,
            invocations: open.invocations,
            writes: Arc::new(writes),
        };
        Sealed::new(commit, open.outputs, &header.before)
    }
}

/// When to take a snapshot: the log since the last one decides, so that a restore reads a bounded multiple of the state.
#[derive(Debug)]
pub(super) struct Snapshots {
    last_bytes: u64,
    log_bytes: u64,
    log_commits: u64,
    under_way: Option<(u64, u64)>,
    trimming: bool,
    /// Of those that stand, the commit and when it was taken, milliseconds since 1970.
    standing: Vec<(CommitNumber, u64)>,
    floor: CommitNumber,
}

impl Snapshots {
    /// Bytes of log come with the local copy and what was read; commits are counted from the newest snapshot.
    pub fn new(manifests: &[Manifest], newest: StateMark) -> Self {
        let manifest = manifests.iter().max_by_key(|manifest| manifest.at);
        let (last_bytes, at) = manifest.map_or((0, 0), |manifest| (manifest.state_bytes, manifest.at.0));
        Self {
            last_bytes,
            log_bytes: newest.log_bytes,
            log_commits: newest.number.0.saturating_sub(at),
            under_way: None,
            trimming: false,
            standing: manifests.iter().map(|manifest| (manifest.at, manifest.taken_ms)).collect(),
            floor: manifests.iter().map(|manifest| manifest.floor).max().unwrap_or_default(),
        }
    }

    /// The number below which the log is no longer history.
    pub fn floor(&self) -> CommitNumber {
        self.floor
    }

    pub fn appended(&mut self, sealed: &Sealed) {
        self.log_bytes += sealed.append.commit.stored().bytes();
        self.log_commits += 1;
    }

    /// Whether a snapshot at this mark is due; it counts as under way then.
    pub fn due(&mut self, sealed: &Sealed, now_ms: u64, window_ms: u64, bounds: &Bounds) -> Option<NewSnapshot> {
        let bytes_max = (self.last_bytes * SNAPSHOT_LOG_MULTIPLE).max(bounds.snapshot_log_bytes_min);
        let due = self.log_bytes >= bytes_max || self.log_commits >= bounds.snapshot_commits_max;
        if !due || self.under_way.is_some() || self.trimming {
            return None;
        }
        self.under_way = Some((self.log_bytes, self.log_commits));
        let mark = StateMark { log_bytes: self.log_bytes, ..sealed.mark };
        self.standing.push((mark.number, now_ms));
        // What a rewind may reach is kept: the newest snapshot from before the window, and the log from there on.
        let kept_ms = if window_ms == 0 { 0 } else { window_ms + bounds.rewind_grace_ms };
        let before = self.standing.iter().filter(|(_, taken_ms)| taken_ms + kept_ms <= now_ms);
        let floor = before.map(|(at, _)| *at).max().unwrap_or_default().max(self.floor);
        let floor = if wrong(Mutant::WindowForgotten) { mark.number } else { floor };
        Some(NewSnapshot { mark, id: sealed.snapshot_id(), taken_ms: now_ms, floor })
    }

    /// A snapshot is durable, or failed. Says what may be trimmed.
    pub fn taken(&mut self, manifest: Option<Manifest>) -> Option<CommitNumber> {
        let (bytes, commits) = self.under_way.take().expect("a snapshot is under way");
        let Some(manifest) = manifest else {
            self.standing.pop();
            return None;
        };
        self.floor = manifest.floor;
        self.standing.retain(|(at, _)| *at >= manifest.floor);
        self.log_bytes -= bytes;
        self.log_commits -= commits;
        self.last_bytes = manifest.state_bytes;
        self.trimming = true;
        Some(manifest.floor)
    }

    /// Bytes of log since the last snapshot.
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    pub fn trimmed(&mut self) {
        self.trimming = false;
    }
}
