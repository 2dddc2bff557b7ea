//! Restores told as a log, what the local copy is, and what becomes of it.

use std::sync::Arc;

use super::*;
use crate::id::DeploymentNumber;

fn id(number: u64) -> CommitId {
    CommitId([number as u8; 16])
}

/// Commit `number` of a healthy log; the last one is this host's fence.
fn entry(number: u64) -> LogEntry {
    let commit = Commit {
        number: CommitNumber(number),
        id: id(number),
        previous_id: id(number - 1),
        epoch: Epoch(1),
        deployment: DeploymentNumber(1),
        kind: crate::commit::CommitKind::Step,
        born: CommitNumber(number),
        invocations: Vec::new(),
        writes: Arc::default(),
    };
    LogEntry { number: CommitNumber(number), id: id(number), epoch: Epoch(1), commit: Ok(commit), stored_bytes: 1 }
}

fn manifest(at: u64, floor: u64) -> Manifest {
    Manifest {
        id: id(200),
        at: CommitNumber(at),
        at_id: id(at),
        at_epoch: Epoch(1),
        last_step_id: id(at),
        taken_ms: 0,
        floor: CommitNumber(floor),
        parts: 1,
        entries: 1,
        state_bytes: 1,
    }
}

fn mark(number: u64) -> StateMark {
    let number_id = if number == 0 { CommitId::default() } else { id(number) };
    StateMark {
        number: CommitNumber(number),
        id: number_id,
        epoch: Epoch(u64::from(number > 0)),
        last_step_id: number_id,
        log_bytes: 0,
    }
}

/// A world in which a task is restored.
struct World {
    log: Vec<LogEntry>,
    local: StateMark,
    /// What the manifests are at the first, the second … read.
    manifests: Vec<Vec<Manifest>>,
}

impl World {
    fn new(log: impl IntoIterator<Item = u64>, local: StateMark) -> Self {
        Self { log: log.into_iter().map(entry).collect(), local, manifests: vec![Vec::new()] }
    }

    fn manifests(mut self, manifests: &[&[Manifest]]) -> Self {
        self.manifests = manifests.iter().map(|read| read.to_vec()).collect();
        self
    }

    /// Restores up to the fence at 5; says what was done.
    fn restore(self) -> String {
        let fence = CommitNumber(5);
        let mut reads = self.manifests.into_iter();
        let manifests = reads.next().unwrap_or_default();
        let mut restore = Restore::new(Ownership { epoch: Epoch(1), fence, fence_id: id(5), manifests });
        let mut done = Vec::new();
        let mut next = restore.local_opened(self.local);
        loop {
            next = match next {
                RestoreNext::OpenLocal | RestoreNext::Complete => {
                    unreachable!("it is opened, and completes by applying")
                }
                RestoreNext::ResetLocal => {
                    done.push("reset".to_owned());
                    restore.local_reset()
                }
                RestoreNext::LoadSnapshot(manifest) => {
                    done.push(format!("snapshot {}", manifest.at));
                    restore.snapshot_loaded(Ok(()))
                }
                RestoreNext::ReadLog(from) => {
                    let page = self.log.iter().filter(|entry| entry.number >= from).take(2);
                    restore.log_read(page.cloned().collect())
                }
                RestoreNext::ReadManifests => {
                    done.push("manifests".to_owned());
                    restore.manifests(reads.next().unwrap_or_default())
                }
                RestoreNext::Apply(commits, after) => {
                    done.extend(commits.iter().map(|(commit, _)| commit.number.to_string()));
                    match after {
                        AfterApply::ReadLog(from) => {
                            let page = self.log.iter().filter(|entry| entry.number >= from).take(2);
                            restore.log_read(page.cloned().collect())
                        }
                        AfterApply::Complete => return done.join(" "),
                    }
                }
                RestoreNext::Stop(cause) => {
                    done.push(format!("stop: {cause}"));
                    return done.join(" ");
                }
            }
        }
    }
}

#[test]
fn a_local_copy_is_used_only_if_the_log_has_it() {
    assert_eq!(World::new(1..=5, mark(0)).restore(), "1 2 3 4 5");
    assert_eq!(World::new(1..=5, mark(3)).restore(), "4 5");
    assert_eq!(World::new(1..=5, mark(5)).restore(), "");
    let other = StateMark { id: id(77), ..mark(3) };
    assert_eq!(World::new(1..=5, other).restore(), "reset 1 2 3 4 5");
    assert_eq!(World::new(1..=5, mark(6)).restore(), "reset 1 2 3 4 5", "beyond the fence");
    let trimmed = World::new(3..=5, mark(1)).manifests(&[&[manifest(3, 3)]]);
    assert_eq!(trimmed.restore(), "reset snapshot 3 4 5", "below the floor");
    assert_eq!(World::new(3..=5, mark(3)).manifests(&[&[manifest(3, 3)]]).restore(), "4 5", "at the floor");
}

#[test]
fn what_lies_below_the_floor_is_no_history() {
    let late = World::new([1, 3, 4, 5], mark(1)).manifests(&[&[manifest(3, 3)]]);
    assert_eq!(late.restore(), "reset snapshot 3 4 5");
}

#[test]
fn a_hole_is_corruption_only_where_the_floor_did_not_move() {
    let moved = World::new([3, 4, 5], mark(0)).manifests(&[&[], &[manifest(4, 4)]]);
    assert_eq!(moved.restore(), "manifests reset snapshot 4 5");
    let hole = World::new([1, 2, 4, 5], mark(0)).restore();
    assert!(hole.starts_with("1 2 manifests stop: commit 3 of the changelog is missing"), "{hole}");
    let end = World::new(1..=3, mark(0)).restore();
    assert!(end.contains("stop: commit 4 of the changelog is missing"), "{end}");
}

#[test]
fn a_broken_chain_names_the_commit() {
    let broken = |change: fn(&mut LogEntry)| {
        let mut world = World::new(1..=5, mark(0));
        change(&mut world.log[3]);
        world.restore()
    };
    let changes: [fn(&mut LogEntry); 6] = [
        |entry| entry.id = id(99),
        |entry| entry.epoch = Epoch(9),
        |entry| entry.commit = Err("a flipped bit".into()),
        |entry| entry.commit.as_mut().expect("healthy").previous_id = id(99),
        |entry| entry.commit.as_mut().expect("healthy").number = CommitNumber(9),
        |entry| {
            entry.epoch = Epoch(0);
            entry.commit.as_mut().expect("healthy").epoch = Epoch(0);
        },
    ];
    for change in changes {
        let outcome = broken(change);
        assert!(outcome.contains("manifests stop: commit 4 of the changelog is corrupt"), "{outcome}");
    }
    let mut world = World::new(1..=4, mark(0));
    world.log.push(LogEntry { id: id(55), ..entry(5) });
    let Ok(commit) = &mut world.log[4].commit else { unreachable!("it is healthy") };
    commit.id = id(55);
    let outcome = world.restore();
    assert!(outcome.contains("commit 5 of the changelog is corrupt: it should be this host's own fence"), "{outcome}");
}

#[test]
fn a_snapshot_beyond_the_fence_is_another_owners() {
    let fenced = World::new([9], mark(0)).manifests(&[&[], &[manifest(8, 8)]]).restore();
    assert_eq!(
        fenced,
        format!("manifests reset stop: {}", StopCause::Fenced { number: CommitNumber(8), epoch: Epoch(1) })
    );
}
