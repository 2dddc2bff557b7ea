//! Where a host slips, if it is made to: effects performed wrongly, as an adapter or a hurried change might.

use std::sync::Arc;

use pelton_core::codec::{self, SystemEntry};
use pelton_core::commit::{CommitKind, StoredCommit};
use pelton_core::id::{CommitNumber, ShardKey};
use pelton_core::intake::Want;
use pelton_core::outbox::Outbox;
use pelton_core::position::{Position, PositionEntry};
use pelton_core::snapshot::Manifest;
use pelton_core::task::{Applied, Event};
use pelton_core::write_set::{SYSTEM_SPACE, WriteSet};

use crate::mutants::Slip;
use crate::oracle::Who;
use crate::store::mark_of;
use crate::world::{Action, Chore, World};

/// Whether a key is part of a snapshot: every one is.
pub fn is_in_snapshot(slip: Option<Slip>, key: &[u8]) -> bool {
    let kind = if let [SYSTEM_SPACE, kind, ..] = key { Some(*kind) } else { None };
    let lacks = match slip {
        Some(Slip::SnapshotWithoutOutbox) => Some(b'o'),
        Some(Slip::SnapshotWithoutLetters) => Some(b'd'),
        Some(Slip::SnapshotWithoutTimers) => Some(b't'),
        _ => None,
    };
    lacks.is_none() || kind != lacks
}

impl World {
    /// What a task is told.
    pub fn slip_event(&mut self, who: Who, event: Event) -> Event {
        let sent = self.instance(who).and_then(|instance| instance.sent.clone());
        match (event, self.slip, sent) {
            (Event::ManifestsRead(mut manifests), Some(Slip::FenceWithoutFloor), Some(sent)) => {
                if sent.kind == CommitKind::Fence {
                    manifests.retain(|manifest| manifest.at < sent.number);
                }
                Event::ManifestsRead(manifests)
            }
            (Event::ItemRead(id), Some(Slip::IdentityByHost), Some(sent)) => {
                let items = &self.table[usize::from(who.task.0)];
                let standing = items.log.get(&sent.number).filter(|item| item.host == who.host);
                Event::ItemRead(standing.map(|_| sent.id).or(id))
            }
            (event, ..) => event,
        }
    }

    /// What of a commit is sent.
    pub fn slip_put(&mut self, who: Who, stored: Arc<StoredCommit>, attempt: u32) -> Arc<StoredCommit> {
        if let Some(instance) = self.instance(who) {
            instance.sent = Some(stored.clone());
        }
        let commit = || codec::decode(&stored.head, &stored.parts).expect("it was just encoded");
        match self.slip {
            Some(Slip::ApplyBeforeAppend) => {
                let commit = commit();
                let mark = mark_of(&commit);
                self.apply(who, Applied { writes: commit.writes, mark });
            }
            Some(Slip::PublishBeforeDurable) => {
                let commit = commit();
                self.publish_writes(who, &commit.writes, commit.number);
            }
            Some(Slip::SentBytesChange) if attempt > 0 => {
                let mut commit = commit();
                commit.born = CommitNumber(commit.born.0 + 1);
                return Arc::new(codec::encode(&commit));
            }
            _ => {}
        }
        stored
    }

    /// Sends the outputs among a commit's writes.
    pub fn publish_writes(&mut self, who: Who, writes: &WriteSet, number: CommitNumber) {
        let key = codec::outbox_key(number);
        let Some(Some(value)) = writes.get(&key) else { return };
        if let Ok(SystemEntry::Outbox(number, outputs)) = codec::decode_system(&key, value.clone()) {
            let mut outbox = Outbox::new(self.meta.incarnation, who.task);
            outbox.push(number, outputs);
            let (packages, _) = outbox.next_round().expect("it was just filled");
            packages.iter().for_each(|package| self.sink(who.task, package));
        }
    }

    /// The manifest of a snapshot about to be taken.
    pub fn slip_manifest(&mut self, who: Who, manifest: Manifest) -> Manifest {
        match self.slip {
            Some(Slip::TrimBeforeManifest) => {
                self.after(1, Action::Work(who, Chore::Trim(manifest.floor)));
                manifest
            }
            _ => manifest,
        }
    }

    /// What is kept of an idle task's positions.
    pub fn slip_idle(&self, mut entries: Vec<(ShardKey, PositionEntry)>) -> Vec<(ShardKey, PositionEntry)> {
        if self.slip == Some(Slip::IdleAtReader) {
            for (shard, entry) in &mut entries {
                let read = self.kinesis.shard(shard).records.last().map(|record| Position::After(record.place));
                entry.position = entry.position.max(read.unwrap_or(entry.position));
            }
        }
        entries
    }

    /// Which of the shards that a task wants it is to have now.
    pub fn slip_wants(&mut self, who: Who, mut wants: Vec<Want>) -> Vec<Want> {
        if self.slip != Some(Slip::ParentGatePerShard) {
            return wants;
        }
        let tasks = &mut self.hosts[who.host].tasks;
        wants.append(
            &mut tasks.get_mut(&who.task).map(|instance| std::mem::take(&mut instance.deferred)).unwrap_or_default(),
        );
        let running = tasks.values().filter_map(|instance| instance.task.running());
        let ends: Vec<_> = running
            .flat_map(|running| running.intake().positions().map(|(shard, entry)| (shard.clone(), entry.position)))
            .filter(|(_, position)| *position != Position::ShardEnd)
            .collect();
        let (later, now): (Vec<_>, Vec<_>) = wants.into_iter().partition(|want| {
            let parents = &self.kinesis.shard(&want.shard).shard.parents;
            ends.iter().any(|(shard, _)| shard.stream == want.shard.stream && parents.contains(&shard.shard))
        });
        if let Some(instance) = self.instance(who) {
            instance.deferred = later;
        }
        now
    }
}
