//! What the oracle says in the end, when nothing goes wrong any more.

use pelton_core::id::{ShardKey, TaskId};
use pelton_core::position::Position;
use pelton_core::task::{LastStraw, OnGap};
use pelton_core::write_set::USER_SPACE;

use pelton_core::counts::Counts;

use super::{History, Oracle};
use crate::promise::{Promise, Verdict, Wrong, ensure};
use crate::store::State;

impl Oracle {
    /// What is not folded or published yet, if anything.
    pub fn unfinished(&self) -> Option<String> {
        self.meta.tasks.tasks().find_map(|task| self.unfinished_of(task))
    }

    /// The same of one task.
    pub fn unfinished_of(&self, task: TaskId) -> Option<String> {
        let History { accounted, expected, outputs, .. } = &self.tasks[usize::from(task.0)];
        if accounted < expected {
            return Some(format!("{accounted} of {expected} records of task {task} are accounted for"));
        }
        if let Some((to, _)) = self.undoes(task) {
            return Some(format!("task {task} has yet to go back to commit {to}"));
        }
        let unpublished = outputs.iter().find(|(_, emitted)| !emitted.published);
        unpublished
            .map(|((commit, index), _)| format!("output {index} of commit {commit} of task {task} is unpublished"))
    }

    /// Whether a timer of a task should have fired by a host's clock.
    pub fn is_overdue(&self, task: TaskId, now_ms: u64) -> bool {
        self.tasks[usize::from(task.0)].timers.values().any(|due_ms| *due_ms <= now_ms)
    }

    /// Somebody asks a task to forget a dead letter.
    pub fn asked_to_forget(&mut self, task: TaskId, number: u64) {
        self.tasks[usize::from(task.0)].to_forget.insert(number);
    }

    /// How many records are not accounted for.
    pub fn outstanding(&self) -> u64 {
        self.tasks.iter().map(|history| history.expected.saturating_sub(history.accounted)).sum()
    }

    /// From now on the bound on dead letters is lifted, and what would have stopped a task becomes one.
    pub fn lift_bounds(&mut self) {
        self.letters_max = u64::MAX;
        self.letter_bytes_max = u64::MAX;
        self.on_gap = OnGap::Continue;
        self.last_straw = LastStraw::DeadLetter;
    }

    /// A restored state is that of the history.
    pub fn restored(&self, task: TaskId, state: &State, how: &str) -> Verdict {
        let history = &self.tasks[usize::from(task.0)];
        let user = |state: &State| -> State {
            let user = state.iter().filter(|(key, _)| key[0] == USER_SPACE);
            user.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        ensure!(3, *state == history.state, "state is a function of the log: task {task}, restored from {how}");
        ensure!(4, user(state) == history.model, "state is the fold of the records: task {task}, restored from {how}");
        Ok(())
    }

    /// Every key's records were folded to the last.
    pub fn complete(&mut self) -> Verdict {
        if let Some(unfinished) = self.unfinished() {
            return Err(Wrong {
                promise: Promise::Liveness,
                what: format!("not all is folded and published: {unfinished}"),
            });
        }
        for (task, history) in self.meta.tasks.tasks().zip(&self.tasks) {
            let (delivered, emitted) = (history.delivered.len(), history.outputs.len());
            ensure!(
                6,
                delivered == emitted,
                "a job downstream folds every output: {delivered} of {emitted} of task {task}"
            );
        }
        for (key, puts) in self.puts.clone() {
            let next = self.next.entry(key.clone()).or_default();
            while self.before_start.contains(&(key.clone(), *next)) || self.not_due.contains(&(key.clone(), *next)) {
                *next += 1;
            }
            ensure!(4, *next == puts, "no record is lost: {key} was folded up to {next} of {puts}");
        }
        Ok(())
    }

    /// Whether a shard is passed to its end by all logged positions of these tasks, those that a rewind may bring back included.
    pub fn passed_by_all(&self, shard: &ShardKey, readers: &[TaskId], may_rewind: bool) -> bool {
        let ended =
            |history: &History| history.positions.get(shard).is_some_and(|entry| entry.position == Position::ShardEnd);
        let passed = |task: &TaskId| {
            let at = usize::from(task.0);
            ended(&self.tasks[at]) && (!may_rewind || self.befores[at].values().all(ended))
        };
        readers.iter().all(passed)
    }

    /// How many records became what, by task's counts, added up; and how many are lost as dead letters say.
    pub fn fates(&self) -> (Counts, u64) {
        let mut sum = Counts::default();
        for counts in self.tasks.iter().map(|history| &history.counts) {
            sum.folded += counts.folded;
            sum.malformed += counts.malformed;
            sum.dead_letters += counts.dead_letters;
            sum.dead_records += counts.dead_records;
            sum.redriven += counts.redriven;
            sum.timers_fired += counts.timers_fired;
            for (oddity, records) in &counts.dropped {
                *sum.dropped.entry(*oddity).or_default() += records;
            }
        }
        (sum, self.gone.len() as u64)
    }

    /// How many commits all histories have.
    pub fn commits(&self) -> u64 {
        self.tasks.iter().map(|history| history.commits.len() as u64).sum()
    }
}
