//! The oracle: sees every commit at the moment it becomes history, and compares it with what a single-threaded fold of the
//! records that were put says. It also knows who claimed what, and which outputs history holds.

use std::collections::{BTreeMap, BTreeSet};

use pelton_core::codec::{self, SystemEntry};
use pelton_core::commit::{Commit, CommitKind, StoredCommit};
use pelton_core::id::{CommitId, CommitNumber, Epoch, ShardKey, TaskId};
use pelton_core::job::{JobMeta, Start};
use pelton_core::output::{Output, OutputId};
use pelton_core::position::{Position, PositionEntry};
use pelton_core::record::Record;
use pelton_core::slice::HashKey;
use pelton_core::snapshot::StateMark;
use pelton_core::write_set::{USER_SPACE, WriteSet};

use crate::guest;
use crate::kinesis::Kinesis;
use crate::store::{State, write};

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

#[derive(Debug)]
struct Emitted {
    output: Output,
    published: bool,
}

/// One task's history, and what it should have come to.
#[derive(Debug, Default)]
struct History {
    commits: Vec<Past>,
    /// What the commits' writes come to.
    state: State,
    /// What folding the records comes to.
    model: State,
    /// Of each key, the put that must be folded next.
    next: BTreeMap<String, u32>,
    positions: BTreeMap<ShardKey, PositionEntry>,
    outputs: BTreeMap<(CommitNumber, u32), Emitted>,
    /// Of each output key, the newest output that arrived for the first time.
    newest_published: BTreeMap<String, OutputId>,
    clock_ms: u64,
}

/// Knows what must be.
#[derive(Debug)]
pub struct Oracle {
    meta: JobMeta,
    big: bool,
    tasks: Vec<History>,
    owners: BTreeMap<String, TaskId>,
    claims: BTreeMap<(TaskId, Epoch), Who>,
    /// Puts that lie before the job's start.
    before_start: BTreeSet<(String, u32)>,
    /// Shards that no listing showed when the job was created.
    gone_before_start: BTreeSet<ShardKey>,
    puts: BTreeMap<String, u32>,
    folded: u64,
    expected: u64,
}

/// What is wrong, if anything.
pub type Verdict = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}

mod end;

/// Key and number of a put, from a record.
fn put_of(record: &Record) -> (String, u32) {
    let text = std::str::from_utf8(&record.data).expect("records are text");
    let (key, count) = text.rsplit_once('#').expect("records are key#count");
    (key.to_owned(), count.parse().expect("records are key#count"))
}

impl Oracle {
    /// An oracle for a job just created; what was put before and is not in its start counts for nothing.
    pub fn new(meta: JobMeta, big: bool, kinesis: &Kinesis) -> Self {
        let mut before_start = BTreeSet::new();
        let mut puts: BTreeMap<String, u32> = BTreeMap::new();
        for (key, shard) in kinesis.shards() {
            let first = match meta.start {
                _ if shard.forgotten => shard.records.len(),
                Start::TrimHorizon => 0,
                Start::At(ms) => kinesis.index(&key, Position::AtTimestamp(ms)),
            };
            before_start.extend(shard.records[..first].iter().map(put_of));
            for (key, count) in shard.records.iter().map(put_of) {
                let puts = puts.entry(key).or_default();
                *puts = (*puts).max(count + 1);
            }
        }
        let expected = puts.values().map(|count| u64::from(*count)).sum::<u64>() - before_start.len() as u64;
        let tasks = meta.tasks.tasks().map(|_| History::default()).collect();
        let gone = kinesis.shards().filter(|(_, shard)| shard.forgotten);
        let gone_before_start = gone.map(|(key, _)| key).collect();
        let (owners, claims) = (BTreeMap::new(), BTreeMap::new());
        Self { meta, big, tasks, owners, claims, before_start, gone_before_start, puts, folded: 0, expected }
    }

    /// A record was put.
    pub fn put(&mut self, record: &Record) {
        let (key, count) = put_of(record);
        self.puts.insert(key, count + 1);
        self.expected += 1;
    }

    fn owner(&mut self, key: &str) -> TaskId {
        if let Some(owner) = self.owners.get(key) {
            return *owner;
        }
        let owner = self.meta.tasks.task_of(HashKey::of(key));
        self.owners.insert(key.into(), owner);
        owner
    }

    /// A row was claimed.
    pub fn claimed(&mut self, who: Who, epoch: Epoch) -> Verdict {
        let before = self.claims.insert((who.task, epoch), who);
        ensure!(before.is_none(), "one owner an epoch: epoch {epoch} of task {} was claimed twice", who.task);
        Ok(())
    }

    /// A commit was put and stands at its number now. Says whether it is history: what lies below the floor is not.
    pub fn stands(
        &mut self,
        who: Who,
        epoch: Epoch,
        stored: &StoredCommit,
        floor: CommitNumber,
        kinesis: &Kinesis,
    ) -> Result<bool, String> {
        let task = who.task;
        let (number, tail) = (stored.number, self.tasks[usize::from(task.0)].commits.len() as u64);
        if number.0 <= tail && number < floor {
            return Ok(false);
        }
        ensure!(
            number.0 == tail + 1,
            "a number has one author: {number} of task {task} put, the tail is {tail}, the floor {floor}"
        );
        let commit = codec::decode(&stored.head, &stored.parts).map_err(|error| format!("commits decode: {error}"))?;
        ensure!(self.claims.get(&(task, epoch)) == Some(&who), "one author an epoch: {who:?} put {number} in {epoch}");
        ensure!(
            (commit.number, commit.id, commit.epoch, commit.kind) == (number, stored.id, epoch, stored.kind),
            "item and commit agree: {number} of task {task}"
        );
        self.follows(task, &commit)?;
        self.folds(task, &commit, kinesis)?;
        Ok(true)
    }

    fn follows(&mut self, task: TaskId, commit: &Commit) -> Verdict {
        let history = &mut self.tasks[usize::from(task.0)];
        let last = history.commits.last().copied().unwrap_or(Past { id: CommitId::default(), epoch: Epoch(0) });
        let at = format!("commit {} of task {task}", commit.number);
        ensure!(commit.previous_id == last.id, "previous-ids form a chain: {at}");
        match commit.kind {
            CommitKind::Fence => {
                ensure!(
                    commit.epoch > last.epoch,
                    "a fence raises the epoch: {at}, {} after {}",
                    commit.epoch,
                    last.epoch
                );
                ensure!(commit.writes.is_empty() && commit.invocations.is_empty(), "a fence changes nothing: {at}");
            }
            CommitKind::Step => {
                ensure!(
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

    fn folds(&mut self, task: TaskId, commit: &Commit, kinesis: &Kinesis) -> Verdict {
        let at = format!("commit {} of task {task}", commit.number);
        let (mut touched, mut outputs) = (WriteSet::default(), Vec::new());
        for invocation in &commit.invocations {
            let history = &mut self.tasks[usize::from(task.0)];
            ensure!(invocation.time_ms >= history.clock_ms, "invocation time never falls: {at}");
            history.clock_ms = invocation.time_ms;
            for run in &invocation.runs {
                let (from, to) = (kinesis.index(&run.shard, run.after), kinesis.index(&run.shard, run.up_to));
                let mut count = 0;
                for record in &kinesis.shard(&run.shard).records[from.min(to)..to] {
                    if self.owner(&record.partition_key) != task {
                        continue;
                    }
                    count += 1;
                    self.fold(task, record, &mut touched, &mut outputs).map_err(|wrong| format!("{wrong}: {at}"))?;
                }
                ensure!(
                    count == run.records,
                    "a run is all of the task's records: {at}, {} of {count} in {}",
                    run.records,
                    run.shard
                );
            }
        }
        let history = &mut self.tasks[usize::from(task.0)];
        let mark = StateMark {
            number: commit.number,
            id: commit.id,
            epoch: commit.epoch,
            last_step_id: commit.id,
            log_bytes: 0,
        };
        write(&mut history.state, &pelton_core::task::Applied { writes: commit.writes.clone().into(), mark });
        write(&mut history.model, &pelton_core::task::Applied { writes: touched.clone().into(), mark });
        let written: Vec<_> = commit.writes.iter().filter(|(key, _)| key[0] == USER_SPACE).collect();
        let expected: Vec<_> = touched.iter().collect();
        ensure!(written == expected, "state is the fold of the records: {at} writes {written:?}, not {expected:?}");
        self.system(task, commit, &outputs, kinesis).map_err(|wrong| format!("{wrong}: {at}"))
    }

    fn fold(&mut self, task: TaskId, record: &Record, touched: &mut WriteSet, outputs: &mut Vec<Output>) -> Verdict {
        let (key, count) = put_of(record);
        let history = &mut self.tasks[usize::from(task.0)];
        let next = history.next.entry(key.clone()).or_default();
        while self.before_start.contains(&(key.clone(), *next)) {
            *next += 1;
        }
        ensure!(count == *next, "each record once and in order: {key}#{count} was folded where {key}#{next} was due");
        *next += 1;
        self.folded += 1;
        guest::fold(record, self.big, &history.model, touched, outputs);
        Ok(())
    }

    fn system(&mut self, task: TaskId, commit: &Commit, outputs: &[Output], kinesis: &Kinesis) -> Verdict {
        let mut emitted = Vec::new();
        for (key, value) in commit.writes.iter().filter(|(key, _)| key[0] != USER_SPACE) {
            let Some(value) = value else { continue };
            match codec::decode_system(key, value.clone()).map_err(|error| format!("system state decodes: {error}"))? {
                SystemEntry::Position(shard, entry) => self.position(task, &shard, entry, kinesis)?,
                SystemEntry::Outbox(number, outputs) => {
                    ensure!(number == commit.number, "a commit's outputs are its own: {number}");
                    emitted = outputs;
                }
                SystemEntry::Clock(_) => {}
            }
        }
        self.lineage(task, commit, kinesis)?;
        ensure!(emitted == outputs, "outputs are those of the fold: {emitted:?}, not {outputs:?}");
        let history = &mut self.tasks[usize::from(task.0)];
        for (index, output) in emitted.into_iter().enumerate() {
            history.outputs.insert((commit.number, index as u32), Emitted { output, published: false });
        }
        Ok(())
    }

    /// All of the task's records up to a position are folded, and none after it.
    fn position(&mut self, task: TaskId, shard: &ShardKey, entry: PositionEntry, kinesis: &Kinesis) -> Verdict {
        let before = self.tasks[usize::from(task.0)].positions.insert(shard.clone(), entry);
        let before = before.map_or(Position::TrimHorizon, |entry| entry.position);
        ensure!(before <= entry.position, "positions never fall: {shard} from {before} to {}", entry.position);
        let (from, to) = (kinesis.index(shard, before), kinesis.index(shard, entry.position));
        let records = &kinesis.shard(shard).records;
        for (index, record) in records.iter().enumerate().skip(from) {
            let (key, count) = put_of(record);
            if self.owner(&key) != task || self.before_start.contains(&(key.clone(), count)) {
                continue;
            }
            let folded = self.tasks[usize::from(task.0)].next.get(&key).is_some_and(|next| count < *next);
            ensure!(
                folded == (index < to),
                "positions and state agree: {key}#{count} of {shard}, passed up to {}",
                entry.position
            );
            ensure!(
                index < to || record.arrived_ms >= entry.unread_from_ms || record.arrived_ms < self.meta.created_ms,
                "the bound on unread records holds: {key}#{count} of {shard} arrived {} < {}",
                record.arrived_ms,
                entry.unread_from_ms
            );
        }
        Ok(())
    }

    /// What is known of a child is written with or after the ends of the parents that the task reads.
    fn lineage(&self, task: TaskId, commit: &Commit, kinesis: &Kinesis) -> Verdict {
        let (slice, positions) = (self.meta.tasks.slice(task), &self.tasks[usize::from(task.0)].positions);
        for (shard, _) in positions.iter().filter(|(shard, _)| commit.writes.get(&codec::position_key(shard)).is_some())
        {
            for parent in &kinesis.shard(shard).shard.parents {
                let parent = ShardKey { stream: shard.stream, shard: parent.clone() };
                let read =
                    kinesis.shard(&parent).shard.range.touches(&slice) && !self.gone_before_start.contains(&parent);
                let ended = positions.get(&parent).is_some_and(|entry| entry.position == Position::ShardEnd);
                ensure!(ended || !read, "a child is written after its parents' ends: {shard} before {parent}");
            }
        }
        Ok(())
    }

    /// A local copy stands at a mark.
    pub fn local(&self, task: TaskId, mark: StateMark) -> Verdict {
        let past = self.tasks[usize::from(task.0)].commits.get((mark.number.0 as usize).wrapping_sub(1));
        ensure!(
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
            return Err(format!("only what is in the log is published: {id:?} of {partition_key}"));
        };
        ensure!(emitted.output.partition_key == partition_key && id.task == task, "an output keeps its key: {id:?}");
        if !std::mem::replace(&mut emitted.published, true) {
            let newest = history.newest_published.insert(partition_key.into(), id);
            ensure!(
                newest.is_none_or(|newest| newest < id),
                "outputs of a key keep their order: {id:?} after {newest:?}"
            );
        }
        Ok(())
    }
}
