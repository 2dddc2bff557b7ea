//! Work of a host that takes several calls: each is one step, and a crash between two leaves what the steps so far did.

use pelton_core::append::PutReply;
use pelton_core::record::Run;
use pelton_core::snapshot::{Manifest, StateMark};
use pelton_core::task::{Call, CallOutcome, Event, Failure, FailureKind, Given};

use pelton_core::write_set::WriteSet;

use crate::dynamo::Write;
use crate::guest::Logic;
use crate::mutants::Slip;
use crate::oracle::Who;
use crate::store::State;
use crate::world::{Action, Chore, Request, World};

impl World {
    /// Does the next bit of something that takes several calls.
    pub fn work(&mut self, who: Who, chore: Chore) {
        if self.instance(who).is_none() && !matches!(chore, Chore::Trim(_) | Chore::Snapshot { .. }) {
            return;
        }
        if self.goes_wrong(self.faults.crash) {
            return self.crash(who.host);
        }
        let pause = self.delay();
        let at = usize::from(who.task.0);
        match chore {
            Chore::Stage { commit, epoch, part } => match commit.parts.get(part as usize) {
                None => self.send(who, Request::Put { commit, epoch, answered: false }),
                Some(bytes) => match self.write(who.task, Write::Part((commit.number, commit.id, part), bytes.clone()))
                {
                    true => self.after(pause, Action::Work(who, Chore::Stage { commit, epoch, part: part + 1 })),
                    false if self.gives_up() => self.answer(who, Event::Put(PutReply::Unknown)),
                    false => self.after(pause, Action::Work(who, Chore::Stage { commit, epoch, part })),
                },
            },
            Chore::Snapshot { manifest, parts, part: 0 } if self.slip == Some(Slip::ManifestBeforeParts) => {
                self.send(who, Request::Manifest { manifest: manifest.clone(), answered: true });
                self.after(pause, Action::Work(who, Chore::Snapshot { manifest, parts, part: 1 }));
            }
            Chore::Snapshot { manifest, parts, part } => match parts.get(part as usize) {
                // A manifest that is long in coming is put, and trimmed by, while the next owner loads the one before.
                None if self.rng.chance(300) => {
                    let pause = self.rng.below(20_000);
                    self.after(pause, Action::Work(who, Chore::Snapshot { manifest, parts, part }));
                }
                None => self.send(who, Request::Manifest { manifest, answered: false }),
                Some(entries) => {
                    let write = Write::SnapshotPart((manifest.at, manifest.id, part), entries.clone());
                    let known = self.write(who.task, write);
                    if !known && self.gives_up() {
                        return self.answer(who, Event::SnapshotTaken(None));
                    }
                    let part = part + u32::from(known);
                    self.after(pause, Action::Work(who, Chore::Snapshot { manifest, parts, part }));
                }
            },
            Chore::Load { manifest, part, state } => self.load(who, manifest, part, state, pause),
            Chore::Trim(floor) => {
                let pick = self.rng.next();
                let done = match self.table[at].doomed(floor, pick, self.slip) {
                    Some(doomed) => !self.write(who.task, Write::Delete(doomed)) && self.gives_up(),
                    None => true,
                };
                if !done {
                    return self.after(pause, Action::Work(who, Chore::Trim(floor)));
                }
                self.cover.trims += 1;
                self.answer(who, Event::Trimmed);
            }
            Chore::Rewind(to) => self.rewind(who, to),
            Chore::Call(call) => {
                let outcome = self.outcome(who, call);
                if matches!(outcome, CallOutcome::Failed(_)) {
                    self.call_failed(who);
                }
                self.answer(who, Event::Called(outcome));
            }
        }
    }

    /// Whether a call that came to nothing, as far as its sender knows, is not made again.
    fn gives_up(&mut self) -> bool {
        self.rng.chance(3_000)
    }

    fn outcome(&mut self, who: Who, mut call: Call) -> CallOutcome {
        let names = self.rng.chance(5_000);
        let failed = |kind, index: Option<usize>| {
            let index = index.filter(|_| names);
            CallOutcome::Failed(Failure { kind, index, message: "as the seed wants it".into() })
        };
        if self.goes_wrong(self.faults.guest / 50) {
            self.cover.fatal_calls += 1;
            return failed(FailureKind::Fatal, None);
        }
        if self.goes_wrong(self.faults.guest) {
            self.cover.guest_failures += 1;
            let given = match call.work.given() {
                Given::Runs(runs) => runs.iter().map(Run::len).sum(),
                Given::Timers(timers) => timers.len(),
            };
            let index = self.rng.below(given as u64) as usize;
            return failed(FailureKind::Retry, Some(index));
        }
        if self.slip == Some(Slip::HideSealed) {
            call.sealed = None;
        }
        let pinned = self.instance(who).map(|instance| instance.assignment.deployment);
        let current = self.rollout.current;
        let deployment = pinned.filter(|_| self.slip != Some(Slip::DeploymentOfTheDay)).unwrap_or(current);
        let logic = Logic { deployment, big: self.shape.big };
        let poison = self.shape.poison;
        match logic.call(&call, poison, &self.store(who).state) {
            Ok(done) => {
                let timers = done.timer_changes();
                let mut writes = WriteSet::default();
                done.writes.into_iter().for_each(|(key, value)| writes.insert(key, value));
                CallOutcome::Folded { writes, outputs: done.outputs, timers }
            }
            Err((kind, index)) => {
                self.cover.poisoned_calls += 1;
                failed(kind, Some(index))
            }
        }
    }

    fn load(&mut self, who: Who, manifest: Manifest, part: u32, mut state: State, pause: u64) {
        if part < manifest.parts {
            let parts = &self.table[usize::from(who.task.0)].snapshot_parts;
            let Some(entries) = parts.get(&(manifest.at, manifest.id, part)) else {
                self.cover.snapshots_missed += 1;
                return self.answer(who, Event::SnapshotLoaded(Err(format!("part {part} is gone"))));
            };
            state.extend(entries.iter().cloned());
            return self.after(pause, Action::Work(who, Chore::Load { manifest, part: part + 1, state }));
        }
        self.cover.snapshots_loaded += 1;
        let mark = StateMark {
            number: manifest.at,
            id: manifest.at_id,
            epoch: manifest.at_epoch,
            last_step_id: manifest.last_step_id,
            log_bytes: 0,
        };
        let durably = self.rng.chance(5_000);
        self.store(who).replace(state, mark, durably);
        self.answer(who, Event::SnapshotLoaded(Ok(())));
    }
}
