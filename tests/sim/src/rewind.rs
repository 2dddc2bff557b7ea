//! What a host reads to rewind a task: the state of an earlier commit, from the snapshots and the log, by the rules of a restore.

use pelton_core::cause::StopCause;
use pelton_core::id::CommitNumber;
use pelton_core::restore::{AfterApply, Restore, RestoreNext};
use pelton_core::snapshot::{Manifest, StateMark};
use pelton_core::task::{Event, RewindTo, difference};

use crate::oracle::Who;
use crate::promise::Wrong;
use crate::store::{State, write};
use crate::trace::trace;
use crate::world::World;

/// Items of the log that a page has.
const PAGE: usize = 5;

impl World {
    /// A host has read what the state of a task was.
    pub fn rewind(&mut self, who: Who, to: RewindTo) {
        let (now_ms, retention_ms) = (self.host_now(who.host), self.shape.retention_ms.unwrap_or(u64::MAX));
        let too_old_ms = to.too_old_to_go_back_ms(now_ms, retention_ms);
        let verdict = self.oracle.goes_back(&self.kinesis, who.task, to.number, now_ms, too_old_ms.is_none());
        self.check(verdict);
        if let Some(age_ms) = too_old_ms {
            let cause = StopCause::RewindRecordsGone { to: to.number, age_ms, retention_ms };
            return self.step(who, Event::Broken(cause));
        }
        let then = match self.state_at(who, to) {
            Ok(then) => then,
            Err(why) => {
                let what = format!("what may be rewound to is kept: commit {} of task {}: {why}", to.number, who.task);
                return self.check(Err(Wrong::invariant(3, what)));
            }
        };
        let now = self.store(who).state.clone();
        let entry = |entry| Ok::<_, std::convert::Infallible>(entry);
        let writes = difference(then.into_iter().map(entry), now.into_iter().map(entry));
        let writes = writes.into_iter().flatten().next().expect("worlds are small");
        trace!(self, "task {}: host {} goes back to {}: {} writes", who.task, who.host, to.number, writes.len());
        self.answer(who, Event::Rewound(writes));
    }

    fn state_at(&mut self, who: Who, to: RewindTo) -> Result<State, String> {
        let epoch = self.instance(who).map(|instance| instance.task.epoch()).unwrap_or_default();
        let items = &self.table[usize::from(who.task.0)];
        let manifests = || items.manifests.values().cloned().collect::<Vec<Manifest>>();
        let mut restore = Restore::up_to(to, epoch, manifests());
        let mut state = State::new();
        let mut next = restore.local_opened(StateMark::default());
        loop {
            next = match next {
                RestoreNext::LoadSnapshot(manifest) => {
                    let part = |index| items.snapshot_parts.get(&(manifest.at, manifest.id, index)).cloned();
                    let parts: Option<Vec<_>> = (0..manifest.parts).map(part).collect();
                    state.extend(parts.iter().flatten().flatten().cloned());
                    restore.snapshot_loaded(parts.map(drop).ok_or_else(|| "a part is missing".into()))
                }
                RestoreNext::ReadLog(from) => restore.log_read(page(items, from)),
                RestoreNext::Apply(commits, after) => {
                    commits.iter().for_each(|(commit, _)| write(&mut state, commit.writes.iter()));
                    match after {
                        AfterApply::ReadLog(from) => RestoreNext::ReadLog(from),
                        AfterApply::Complete => return Ok(state),
                    }
                }
                RestoreNext::ReadManifests => restore.manifests(manifests()),
                RestoreNext::Complete => return Ok(state),
                RestoreNext::Stop(cause) => return Err(cause.to_string()),
                RestoreNext::OpenLocal | RestoreNext::ResetLocal => return Err("the floor has moved".into()),
            };
        }
    }
}

fn page(items: &crate::dynamo::TaskItems, from: CommitNumber) -> Vec<pelton_core::restore::LogEntry> {
    items.page(from, PAGE)
}
