//! The oracle: sees every commit at the moment it becomes history, and compares it with what a single-threaded fold of the
//! records that were put says. It also knows who claimed what, and which outputs history holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use pelton_core::commit::{Commit, CommitKind, StoredCommit};
use pelton_core::counts::Counts;
use pelton_core::dead_letter::{Content, DeadLetter};
use pelton_core::id::{CommitId, CommitNumber, DeploymentNumber, Epoch, ShardKey, TaskId};
use pelton_core::job::JobMeta;
use pelton_core::output::{Output, OutputId};
use pelton_core::position::{Position, PositionEntry, RecordPlace};
use pelton_core::record::Record;
use pelton_core::shard::Shard;
use pelton_core::snapshot::StateMark;
use pelton_core::task::{Attempts, FoldedBefore, LastStraw, OnGap, Undone};

use self::judge::Judgement;
use self::rewind::{Account, Deed, Refold};
use self::stored::{Entry, Pinned};
use crate::kinesis::{Kinesis, Meant};
use crate::mutants::Blunder;
use crate::promise::{Verdict, Wrong, ensure};
use crate::shape::Shape;
use crate::store::State;

/// Who does something: an instance of a task on one life of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// Index of the host.
    pub host: usize,
    /// How often the host was started.
    pub life: u32,
    /// Which task.
    pub task: TaskId,
    /// How often a task was begun in this world.
    pub instance: u32,
}

#[derive(Clone, Copy, Debug)]
struct Past {
    id: CommitId,
    epoch: Epoch,
}

#[derive(Clone, Debug)]
struct Emitted {
    output: Output,
    published: bool,
}

/// One task's history, and what it should have come to.
#[derive(Clone, Debug, Default)]
struct History {
    commits: Vec<Past>,
    /// What the commits' writes come to.
    state: State,
    /// What folding the records comes to.
    model: State,
    positions: BTreeMap<ShardKey, PositionEntry>,
    outputs: BTreeMap<(CommitNumber, u32), Emitted>,
    /// Timers as logic set them, and as they are stored.
    timers: BTreeMap<String, u64>,
    stored_timers: BTreeMap<String, u64>,
    /// Dead letters that stand, and those that somebody asked to forget.
    letters: BTreeMap<u64, DeadLetter>,
    letter_bytes: BTreeMap<u64, u64>,
    to_forget: BTreeSet<u64>,
    /// Of letters that were forgotten, whether what they held was folded before a rewind.
    forgotten: BTreeMap<u64, Option<FoldedBefore>>,
    /// Gaps that a letter told of, even if it was dropped since.
    gaps: Vec<Content>,
    counts: Counts,
    stored_counts: Counts,
    attempts: Option<Attempts>,
    /// Outputs of the job upstream, with where each was taken first.
    seen: BTreeMap<OutputId, (ShardKey, RecordPlace)>,
    /// Outputs that a job downstream took for new.
    delivered: BTreeSet<OutputId>,
    /// Of each output key, the newest output that arrived for the first time.
    newest_published: BTreeMap<String, OutputId>,
    clock_ms: u64,
    /// Records put that are the task's.
    expected: u64,
    /// Of those, records folded, set aside, dropped and lost.
    accounted: u64,
    /// The deployments of its commits.
    pins: Vec<Pinned>,
    /// What was passed before it was rewound.
    refold: Option<Refold>,
    /// What its commits did to what is known of all tasks' keys.
    deeds: Vec<(CommitNumber, Deed)>,
}

/// Knows what must be.
#[derive(Debug)]
pub struct Oracle {
    meta: JobMeta,
    big: bool,
    tasks: Vec<History>,
    /// Who answers for each record, and what becomes of it.
    judged: BTreeMap<(ShardKey, RecordPlace), Judgement>,
    /// Of each key, the put that must be folded next.
    next: BTreeMap<String, u32>,
    /// Puts that are not folded in their turn: set aside, dropped, or lost as a dead letter says.
    not_due: BTreeSet<(String, u32)>,
    /// How long streams keep records, in milliseconds, if not for ever.
    retention_ms: Option<u64>,
    claims: BTreeMap<(TaskId, Epoch), Who>,
    /// Puts that lie before the job's start.
    before_start: BTreeSet<(String, u32)>,
    /// Shards that no listing showed when the job was created.
    gone_before_start: BTreeSet<ShardKey>,
    puts: BTreeMap<String, u32>,
    /// Puts that are gone, as dead letters say.
    gone: BTreeSet<(String, u32)>,
    /// Dead letters that a task may have while nothing is mended.
    letters_max: u64,
    /// And how many bytes of them.
    letter_bytes_max: u64,
    on_gap: OnGap,
    /// Deployments that were for all tasks: any other was only ever tried.
    current: BTreeSet<DeploymentNumber>,
    /// Deployments that were gone back from.
    left_behind: BTreeSet<DeploymentNumber>,
    /// Which change brought which deployment.
    brought: BTreeSet<(u64, DeploymentNumber)>,
    /// What was undone, as tasks were told before and are told now.
    undone: Vec<Vec<Undone>>,
    /// Of each task, what was ever folded.
    accounts: Vec<Account>,
    /// Of each task, what its history was before a deployment's first commit, by the commit before.
    befores: Vec<BTreeMap<CommitNumber, History>>,
    /// The bytes that each commit was sent with, as a checksum.
    sent: BTreeMap<(CommitNumber, CommitId), u32>,
    /// What becomes of what logic failed with for the last time, and how often it is tried again.
    last_straw: LastStraw,
    retries: u32,
    /// What it gets wrong on purpose.
    blunder: Option<Blunder>,
}

mod end;
mod folds;
mod judge;
mod reach;
mod rewind;
mod space;
mod stored;
mod system;

/// An entry of the system state as it is stored.
fn read(key: &Bytes, value: &Bytes) -> Result<Entry, Wrong> {
    let entry = stored::entry(&key[1..], value);
    entry.map_err(|wrong| Wrong::invariant(3, format!("system state is stored as documented: {wrong}, at {key:02x?}")))
}

/// Key and number of a put, from a record. One that begins as an aggregate and is none has them behind that.
fn put_of(record: &Record) -> (String, u32) {
    let text = record.data.strip_prefix(&[0xF3, 0x89, 0x9A, 0xC2]).unwrap_or(&record.data);
    let text = std::str::from_utf8(text).expect("records are text");
    let (key, count) = text.rsplit_once('#').expect("records are key#count");
    (key.to_owned(), count.parse().expect("records are key#count"))
}

impl Oracle {
    /// An oracle for a job just created; what was put before and is not in its start counts for nothing.
    pub fn new(meta: JobMeta, shape: &Shape, kinesis: &Kinesis, blunder: Option<Blunder>) -> Self {
        let Shape { big, retention_ms, letters_max, letter_bytes_max, last_straw, retries, on_gap, .. } = *shape;
        let gone = kinesis.shards().filter(|(_, shard)| shard.forgotten);
        let gone_before_start = gone.map(|(key, _)| key).collect();
        let meta_tasks = meta.tasks.tasks().map(|_| BTreeMap::new()).collect();
        let accounts = meta.tasks.tasks().map(|_| Account::default()).collect();
        let mut oracle = Self {
            tasks: meta.tasks.tasks().map(|_| History::default()).collect(),
            meta,
            big,
            judged: BTreeMap::new(),
            next: BTreeMap::new(),
            not_due: BTreeSet::new(),
            retention_ms,
            claims: BTreeMap::new(),
            before_start: BTreeSet::new(),
            gone_before_start,
            puts: BTreeMap::new(),
            gone: BTreeSet::new(),
            letters_max,
            letter_bytes_max,
            on_gap,
            current: BTreeSet::from([DeploymentNumber(1)]),
            left_behind: BTreeSet::new(),
            brought: BTreeSet::from([(1, DeploymentNumber(1))]),
            undone: vec![Vec::new()],
            accounts,
            befores: meta_tasks,
            sent: BTreeMap::new(),
            last_straw,
            retries,
            blunder,
        };
        for (key, shard) in kinesis.shards() {
            let first = if shard.forgotten { Position::ShardEnd } else { space::opening(&oracle.meta, &key) };
            let before = kinesis.between(&key, Position::TrimHorizon, first);
            let before: Vec<_> = before.map(|meant| (meant.record.place, put_of(&meant.record))).collect();
            oracle.before_start.extend(before.iter().map(|(_, put)| put.clone()));
            for same in shard.meant.chunk_by(|a, b| a.record.place.sequence == b.record.place.sequence) {
                oracle.put(&key, &shard.shard, same);
            }
            for (place, _) in before {
                let (owner, _) = oracle.judged[&(key.clone(), place)];
                oracle.tasks[usize::from(owner.0)].expected -= 1;
            }
        }
        oracle
    }

    /// Records were put into a shard, in one Kinesis record.
    pub fn put(&mut self, key: &ShardKey, shard: &Shard, meant: &[Meant]) {
        self.judge(key, shard, meant);
        for one in meant {
            let (key, count) = put_of(&one.record);
            // An output sent again is no other record.
            let puts = self.puts.entry(key).or_default();
            *puts = (*puts).max(count + 1);
        }
    }

    fn judge(&mut self, key: &ShardKey, shard: &Shard, meant: &[Meant]) {
        for (one, judgement) in meant.iter().zip(judge::judge(&self.meta, shard, meant)) {
            let judgement = self.blunder(judgement);
            self.judged.insert((key.clone(), one.record.place), judgement);
            self.tasks[usize::from(judgement.0.0)].expected += 1;
            if judgement.1.is_some() {
                self.not_due.insert(put_of(&one.record));
            }
        }
    }

    fn blunder(&self, (owner, fate): Judgement) -> Judgement {
        match self.blunder {
            Some(Blunder::NextOwner) => (TaskId((owner.0 + 1) % self.tasks.len() as u16), fate),
            Some(Blunder::FoldsTwice | Blunder::TimersStay) | None => (owner, fate),
        }
    }

    /// A row was claimed.
    pub fn claimed(&mut self, who: Who, epoch: Epoch) -> Verdict {
        let before = self.claims.insert((who.task, epoch), who);
        ensure!(2, before.is_none(), "one owner an epoch: epoch {epoch} of task {} was claimed twice", who.task);
        Ok(())
    }

    /// A commit arrives, whatever becomes of it.
    pub fn arrives(&mut self, stored: &StoredCommit) -> Verdict {
        let bytes = stored.parts.iter().fold(crc32c(&stored.head), |sum, part| crc32c_append(sum, part));
        let same = *self.sent.entry((stored.number, stored.id)).or_insert(bytes) == bytes;
        ensure!(2, same, "what is sent of a commit never changes: {} at {}", stored.id, stored.number);
        Ok(())
    }

    /// A commit was put and stands at its number now, by a host that was shown some shards. Says whether it is history: what lies
    /// below the floor is not.
    pub fn stands(
        &mut self,
        who: Who,
        epoch: Epoch,
        stored: &StoredCommit,
        floor: CommitNumber,
        (kinesis, shown): (&Kinesis, &dyn Fn(&ShardKey) -> bool),
    ) -> Result<bool, Wrong> {
        let task = who.task;
        let (number, tail) = (stored.number, self.tasks[usize::from(task.0)].commits.len() as u64);
        if number.0 <= tail && number < floor {
            return Ok(false);
        }
        ensure!(
            2,
            number.0 == tail + 1,
            "a number has one author: {number} of task {task} put, the tail is {tail}, the floor {floor}"
        );
        let commit = stored::commit(stored);
        let commit =
            commit.map_err(|wrong| Wrong::invariant(3, format!("commits are stored as documented: {wrong}")))?;
        ensure!(
            2,
            self.claims.get(&(task, epoch)) == Some(&who),
            "one author an epoch: {who:?} put {number} in {epoch}"
        );
        ensure!(
            2,
            (commit.number, commit.id, commit.epoch, commit.kind) == (number, stored.id, epoch, stored.kind),
            "item and commit agree: {number} of task {task}"
        );
        if commit.kind == CommitKind::Step {
            self.pinned(task, &commit, kinesis)?;
        }
        self.follows(task, &commit)?;
        if let CommitKind::Rewind(to) = commit.kind {
            self.rewinds(task, &commit, to)?;
            return Ok(true);
        }
        self.note_gaps(task, &commit, kinesis, shown)?;
        self.folds(task, &commit, kinesis)?;
        self.passes_again(task, &commit)?;
        Ok(true)
    }

    fn follows(&mut self, task: TaskId, commit: &Commit) -> Verdict {
        let history = &mut self.tasks[usize::from(task.0)];
        let last = history.commits.last().copied().unwrap_or(Past { id: CommitId::default(), epoch: Epoch(0) });
        let at = format!("commit {} of task {task}", commit.number);
        ensure!(2, commit.previous_id == last.id, "previous-ids form a chain: {at}");
        match commit.kind {
            CommitKind::Fence => {
                ensure!(
                    2,
                    commit.epoch > last.epoch,
                    "a fence raises the epoch: {at}, {} after {}",
                    commit.epoch,
                    last.epoch
                );
                ensure!(2, commit.writes.is_empty() && commit.invocations.is_empty(), "a fence changes nothing: {at}");
            }
            CommitKind::Step | CommitKind::Rewind(_) => {
                ensure!(
                    2,
                    commit.epoch == last.epoch,
                    "a step follows its own fence: {at}, {} after {}",
                    commit.epoch,
                    last.epoch
                );
            }
        }
        history.commits.push(Past { id: commit.id, epoch: commit.epoch });
        Ok(())
    }

    /// What is known of a child is written with or after the ends of the parents that the task reads.
    fn lineage<'a>(&self, task: TaskId, moved: impl Iterator<Item = &'a ShardKey>, kinesis: &Kinesis) -> Verdict {
        let positions = &self.tasks[usize::from(task.0)].positions;
        for shard in moved {
            for parent in &kinesis.shard(shard).shard.parents {
                let parent = ShardKey { stream: shard.stream, shard: parent.clone() };
                let read = space::reads(&self.meta, task, kinesis.shard(&parent).shard.range)
                    && !self.gone_before_start.contains(&parent);
                let ended = positions.get(&parent).is_some_and(|entry| entry.position == Position::ShardEnd);
                let read = read && !self.is_lost(task, &parent, kinesis);
                ensure!(5, ended || !read, "a child is written after its parents' ends: {shard} before {parent}");
            }
        }
        Ok(())
    }

    /// A local copy stands at a mark.
    pub fn local(&self, task: TaskId, mark: StateMark) -> Verdict {
        let past = self.tasks[usize::from(task.0)].commits.get((mark.number.0 as usize).wrapping_sub(1));
        ensure!(
            9,
            past.is_some_and(|past| past.id == mark.id),
            "a local copy holds only what is in the log: task {task} at {}",
            mark.number
        );
        Ok(())
    }

    /// An output arrived at the sink.
    pub fn published(&mut self, task: TaskId, partition_key: &str, id: OutputId, data: &[u8]) -> Verdict {
        let history = &mut self.tasks[usize::from(task.0)];
        let emitted = history.outputs.get_mut(&(id.commit, id.index));
        let Some(emitted) = emitted.filter(|emitted| emitted.output.data == data) else {
            return Err(Wrong::invariant(
                6,
                format!("only what is in the log is published: {id:?} of {partition_key}"),
            ));
        };
        ensure!(6, emitted.output.partition_key == partition_key && id.task == task, "an output keeps its key: {id:?}");
        if !std::mem::replace(&mut emitted.published, true) {
            let newest = history.newest_published.insert(partition_key.into(), id);
            ensure!(
                6,
                newest.is_none_or(|newest| newest < id),
                "outputs of a key keep their order: {id:?} after {newest:?}"
            );
        }
        Ok(())
    }

    /// The job downstream folds an output.
    pub fn delivered(&mut self, partition_key: &str, id: OutputId) -> Verdict {
        let first = self.tasks[usize::from(id.task.0)].delivered.insert(id);
        ensure!(6, first, "a job downstream folds an output once: {id:?} of {partition_key}");
        Ok(())
    }
}
