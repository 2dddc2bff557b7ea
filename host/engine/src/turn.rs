//! A task's turn on a guest thread: what happened is taken from the mailbox, the machine is stepped through it, and what
//! others may ask for is copied out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pelton_core::task::{Event, PhaseName};

use crate::cell::{TaskCell, Work, lock};
use crate::guest::{Guest, Unborn};
use crate::mailbox::Message;
use crate::scheduler::{Runnable, TurnState};

impl TaskCell {
    /// Copies what others may ask for.
    fn publish_status(&self, work: &Work) {
        let mut status = lock(&self.status);
        let before = status.phase;
        status.update(&work.machine);
        if status.cause.is_none() || status.phase != PhaseName::Stopped {
            status.cause = work
                .machine
                .running()
                .and_then(|running| running.failing())
                .map(|(attempts, fault)| format!("attempt {attempts} failed: {fault}"))
                .or_else(|| lock(&self.trouble).clone());
        }
        if before != status.phase {
            tracing::debug!("task {} of job {}: {:?}", self.id, self.spec().meta.name, status.phase);
            self.tell_phase(&status);
        }
        drop(status);
        self.wake_at_ms.store(work.machine.wake_at_ms().unwrap_or(u64::MAX), Ordering::Relaxed);
        let (bytes, records) = work.held();
        self.mailbox.hold(bytes, records);
    }
}

impl Work {
    /// Ends the task where its machine can no longer be trusted.
    fn abandon(&mut self) {
        self.abandoned = true;
        (self.guest, self.retired, self.unborn) = (None, None, None);
        self.shadow = None;
        self.put_off = None;
        self.store = None;
        self.events.clear();
    }

    /// What ran before a swap is taken down, and what came has its place.
    pub fn retire(&mut self) {
        self.retired = None;
        self.guest.iter_mut().for_each(Guest::take_place);
        self.unborn.iter_mut().for_each(Unborn::take_place);
    }

    /// What a shadow has set apart to spend is given back.
    pub(crate) fn drop_shadow(&mut self) {
        if let Some(shadow) = self.shadow.take() {
            shadow.give_up();
        }
    }

    /// Bytes and records that the machine took and has not folded.
    fn held(&self) -> (usize, usize) {
        let waiting = self.machine.running().into_iter().flat_map(|running| running.intake().waiting());
        waiting.fold((0, 0), |(bytes, records), run| (bytes + run.weight(), records + run.len()))
    }
}

impl Runnable for TaskCell {
    fn turn_state(&self) -> &TurnState {
        &self.turn
    }

    fn owner(&self) -> usize {
        // Its job has this address for as long as there is a task of it.
        Arc::as_ptr(&self.job) as usize
    }

    fn turn(&self) -> bool {
        let began = Instant::now();
        let mut work = lock(&self.work);
        let work = &mut *work;
        if work.abandoned {
            return false;
        }
        for message in self.mailbox.take() {
            match message {
                Message::Event(event) => {
                    // From here on the records count as neither queued nor held until the turn ends: it may be long.
                    if matches!(&event, Event::Run(run) if !run.is_empty()) {
                        lock(&self.status).busy = true;
                    }
                    work.events.push_back(event);
                }
                Message::Store(store, event) => {
                    work.store = Some(store);
                    work.events.push_back(event);
                }
                Message::Shadow(shadow) => self.begin_shadow(work, shadow),
                Message::Shards(map) => {
                    work.map = map;
                    work.look_for_shards = true;
                }
            }
        }
        if self.wake_at_ms.load(Ordering::Relaxed) <= self.now_ms() {
            work.events.push_back(Event::Tick);
        }
        self.run(work, began);
        self.publish_status(work);
        work.put_off.is_some()
    }

    fn panicked(&self) {
        lock(&self.work).abandon();
        drop(lock(&self.prepared).take());
        let cause = "an invariant of Pelton broke in this task, see the log; nothing uncommitted was kept, start the host again";
        tracing::error!("task {} of job {} stopped: {cause}", self.id, self.spec().meta.name);
        {
            let mut status = lock(&self.status);
            status.phase = PhaseName::Stopped;
            status.cause = Some(cause.into());
            self.tell_phase(&status);
        }
        self.job.hub.leave(self.id);
        self.forget_told();
        self.job.task_stopped();
    }
}
