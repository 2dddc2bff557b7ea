//! The fake DynamoDB: task rows, logs whose numbers are put on condition, parts, manifests, idle positions. It does what it
//! is told at the moment it is told; delays and lost replies are the scheduler's.

use std::collections::BTreeMap;

use bytes::Bytes;
use pelton_core::claim::Tail;
use pelton_core::codec::{self, Placement};
use pelton_core::commit::{CommitKind, StoredCommit};
use pelton_core::id::{CommitId, CommitNumber, Epoch, ShardKey};
use pelton_core::position::PositionEntry;
use pelton_core::restore::LogEntry;
use pelton_core::snapshot::Manifest;

use crate::mutants::Slip;

/// An item of a log.
#[derive(Clone, Debug)]
pub struct Item {
    /// Whose commit it is.
    pub id: CommitId,
    /// Fences are not trimmed.
    pub kind: CommitKind,
    /// In which epoch it was put.
    pub epoch: Epoch,
    /// By which host.
    pub host: usize,
    /// The stored head.
    pub head: Bytes,
}

/// Where parts are kept: the commit's number or the snapshot's, its id, the part's index.
pub type PartKey = (CommitNumber, CommitId, u32);
/// Idle positions of one task, and the step they follow.
pub type Idle = (CommitId, Vec<(ShardKey, PositionEntry)>);

/// An item that a trim deletes.
#[derive(Clone, Debug)]
pub enum Doomed {
    Log(CommitNumber),
    Part(PartKey),
    SnapshotPart(PartKey),
    Manifest(CommitId),
}

/// A call that changes the table whatever stands there. It may land long after its sender gave it up.
#[derive(Clone, Debug)]
pub enum Write {
    Part(PartKey, Bytes),
    SnapshotPart(PartKey, Vec<(Bytes, Bytes)>),
    Delete(Doomed),
    /// What one life of a host says of an idle task, if anything.
    Idle((usize, u32), Option<Idle>),
}

/// What the table holds of one task.
#[derive(Debug, Default)]
pub struct TaskItems {
    /// Raised by each claim.
    pub epoch: u64,
    /// By commit number.
    pub log: BTreeMap<CommitNumber, Item>,
    /// Beside the log.
    pub parts: BTreeMap<PartKey, Bytes>,
    /// By snapshot id.
    pub manifests: BTreeMap<CommitId, Manifest>,
    /// Parts of snapshots, decoded: entries of the state.
    pub snapshot_parts: BTreeMap<PartKey, Vec<(Bytes, Bytes)>>,
    /// By host life.
    pub idle: BTreeMap<(usize, u32), Idle>,
    /// What a host had said before it said what it says now.
    pub idle_before: Option<Idle>,
}

impl TaskItems {
    /// Where the history begins.
    pub fn floor(&self) -> CommitNumber {
        self.manifests.values().map(|manifest| manifest.floor).max().unwrap_or_default()
    }

    /// The newest item.
    pub fn tail(&self) -> Tail {
        let newest = self.log.last_key_value();
        newest.map(|(number, item)| Tail { number: *number, id: item.id, epoch: item.epoch }).unwrap_or_default()
    }

    /// Puts a commit if its number is free, or in any case. Returns whether it stands there now.
    pub fn put(&mut self, commit: &StoredCommit, epoch: Epoch, host: usize, conditional: bool) -> bool {
        if conditional && self.log.contains_key(&commit.number) {
            return false;
        }
        let item = Item { id: commit.id, kind: commit.kind, epoch, host, head: commit.head.clone() };
        self.log.insert(commit.number, item);
        true
    }

    /// A page of the log.
    pub fn page(&self, from: CommitNumber, items: usize) -> Vec<LogEntry> {
        let entry = |(number, item): (&CommitNumber, &Item)| LogEntry {
            number: *number,
            id: item.id,
            epoch: item.epoch,
            commit: self.commit(*number, item).map_err(|error| error.to_string()),
            stored_bytes: item.head.len() as u64,
        };
        self.log.range(from..).take(items).map(entry).collect()
    }

    fn commit(&self, number: CommitNumber, item: &Item) -> Result<pelton_core::commit::Commit, codec::DecodeError> {
        let parts = match codec::placement(&item.head)? {
            Placement::Inline => Vec::new(),
            Placement::Staged(count) => {
                (0..count).filter_map(|index| self.parts.get(&(number, item.id, index)).cloned()).collect()
            }
        };
        codec::decode(&item.head, &parts)
    }

    /// A call lands.
    pub fn land(&mut self, write: Write) {
        match write {
            Write::Part(key, bytes) => drop(self.parts.insert(key, bytes)),
            Write::SnapshotPart(key, entries) => drop(self.snapshot_parts.insert(key, entries)),
            Write::Delete(Doomed::Log(number)) => drop(self.log.remove(&number)),
            Write::Delete(Doomed::Part(key)) => drop(self.parts.remove(&key)),
            Write::Delete(Doomed::SnapshotPart(key)) => drop(self.snapshot_parts.remove(&key)),
            Write::Delete(Doomed::Manifest(id)) => drop(self.manifests.remove(&id)),
            Write::Idle(host, Some(idle)) => self.idle_before = self.idle.insert(host, idle),
            Write::Idle(host, None) => drop(self.idle.remove(&host)),
        }
    }

    /// Something to delete below a floor, if there is anything: the `pick`th of it.
    pub fn doomed(&self, floor: CommitNumber, pick: u64, slip: Option<Slip>) -> Option<Doomed> {
        let fences_too = slip == Some(Slip::TrimFences);
        let log = self.log.range(..floor).filter(|(_, item)| fences_too || !item.kind.is_fence());
        let mut log: Vec<CommitNumber> = log.map(|(number, _)| *number).collect();
        if slip == Some(Slip::TrimNewest) {
            log.extend(self.log.keys().next_back().filter(|newest| **newest >= floor));
        }
        let lowest: PartKey = (CommitNumber(0), CommitId::default(), 0);
        let end: PartKey = (floor, CommitId::default(), 0);
        let mut parts: Vec<PartKey> = self.parts.range(lowest..end).map(|(key, _)| *key).collect();
        if slip == Some(Slip::PartsDeletedWhileStaged) {
            let unnamed = |(number, id, _): &&PartKey| self.log.get(number).is_none_or(|item| item.id != *id);
            parts.extend(self.parts.keys().filter(unnamed));
        }
        let snapshot_parts: Vec<PartKey> = self.snapshot_parts.range(lowest..end).map(|(key, _)| *key).collect();
        let manifests = self.manifests.values().filter(|manifest| manifest.at < floor);
        let manifests: Vec<CommitId> = manifests.map(|manifest| manifest.id).collect();
        let log = log.into_iter().map(Doomed::Log);
        let parts = parts.into_iter().map(Doomed::Part).chain(snapshot_parts.into_iter().map(Doomed::SnapshotPart));
        let mut doomed: Vec<Doomed> = log.chain(parts).chain(manifests.into_iter().map(Doomed::Manifest)).collect();
        (!doomed.is_empty()).then(|| doomed.swap_remove((pick % doomed.len() as u64) as usize))
    }
}
