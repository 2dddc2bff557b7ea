//! The dead letters of a job, for those who ask from outside: read from the committed state, given again or forgotten by the
//! task that holds them.

use std::sync::Arc;

use pelton_core::codec::{dead_letter_key, decode_dead_letter};
use pelton_core::dead_letter::DeadLetter;
use pelton_core::id::TaskId;
use pelton_core::task::{Event, PhaseName};

use crate::cell::TaskCell;
use crate::job::Job;
use crate::status::StateReadError;

impl Job {
    /// A task's dead letters with their numbers, from a number on, rising, up to `limit`.
    ///
    /// # Errors
    /// When the task's state is not here, or cannot be read.
    pub fn dead_letters(
        &self,
        task: TaskId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, DeadLetter)>, StateReadError> {
        let wrong = |cause: String| StateReadError::Store { task, cause };
        let (start, mut end) = (dead_letter_key(from), dead_letter_key(u64::MAX).to_vec());
        end.push(0);
        let entries = self.reader(task)?.scan(&start, &end, limit).map_err(|error| wrong(error.to_string()))?;
        let letter = |(key, value): (bytes::Bytes, bytes::Bytes)| {
            let number = key.last_chunk::<8>().map(|number| u64::from_be_bytes(*number));
            let number = number.ok_or_else(|| wrong(format!("{key:02x?} is no dead letter's key")))?;
            Ok((number, decode_dead_letter(value).map_err(|error| wrong(error.to_string()))?))
        };
        entries.into_iter().map(letter).collect()
    }

    /// One of a task's dead letters, if it stands.
    ///
    /// # Errors
    /// When the task's state is not here, or cannot be read.
    pub fn dead_letter(&self, task: TaskId, number: u64) -> Result<Option<DeadLetter>, StateReadError> {
        let found = self.dead_letters(task, number, 1)?;
        Ok(found.into_iter().find(|(found, _)| *found == number).map(|(_, letter)| letter))
    }

    /// Has a dead letter given to the logic after all: soon, and once. Returns whether it stands; a gap cannot be given.
    ///
    /// # Errors
    /// When the task does not run here, or its state cannot be read.
    pub fn redrive(&self, task: TaskId, number: u64) -> Result<bool, StateReadError> {
        let Some(letter) = self.dead_letter(task, number)? else { return Ok(false) };
        self.running_cell(task)?.tell(Event::Redrive(number, Box::new(letter)));
        Ok(true)
    }

    /// Has a dead letter forgotten: soon. Returns whether it stands.
    ///
    /// # Errors
    /// When the task does not run here, or its state cannot be read.
    pub fn forget_dead_letter(&self, task: TaskId, number: u64) -> Result<bool, StateReadError> {
        let Some(letter) = self.dead_letter(task, number)? else { return Ok(false) };
        self.running_cell(task)?.tell(Event::Forget(number, Box::new(letter)));
        Ok(true)
    }

    fn running_cell(&self, task: TaskId) -> Result<Arc<TaskCell>, StateReadError> {
        let running = self.task(task).is_some_and(|status| status.phase == PhaseName::Running);
        if running { Ok(self.shared.cell(task)) } else { Err(StateReadError::NotRunning(task)) }
    }
}
