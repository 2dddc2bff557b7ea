//! A task's mailbox: what happened to it since its last turn. Runs are bounded by bytes and records; a full mailbox pushes
//! back on the reader. Answers to the task's own requests are not bounded here: it has few requests open at a time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pelton_core::limits::{MAILBOX_BYTES_MAX, MAILBOX_RECORDS_MAX};
use pelton_core::record::Run;
use pelton_core::shard::ShardMap;
use pelton_core::task::Event;
use tokio::sync::Notify;

use crate::shadow::Shadowing;
use crate::store::LocalStore;

/// Something for a task.
pub enum Message {
    /// For the machine.
    Event(Event),
    /// The local copy comes back from the thread that worked on it, with the answer.
    Store(Box<LocalStore>, Event),
    /// What the task is compared with from now on, if with anything.
    Shadow(Option<Box<Shadowing>>),
    /// The shards known now.
    Shards(Arc<ShardMap>),
}

/// What waits for a task.
#[derive(Default)]
pub struct Mailbox {
    messages: Mutex<VecDeque<Message>>,
    queued: Load,
    /// What the task took out and has not folded.
    held: Load,
    room: Notify,
}

/// Bytes and records.
#[derive(Debug, Default)]
struct Load {
    bytes: AtomicUsize,
    records: AtomicUsize,
}

impl Mailbox {
    /// Puts something in that is not a run.
    pub fn push(&self, message: Message) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
    }

    /// Puts a run in, unless the mailbox is full.
    pub fn offer(&self, run: &Run) -> bool {
        if self.is_full() && !run.is_empty() {
            return false;
        }
        self.queued.bytes.fetch_add(run.weight(), Ordering::Relaxed);
        self.queued.records.fetch_add(run.len(), Ordering::Relaxed);
        self.push(Message::Event(Event::Run(run.clone())));
        true
    }

    /// Takes everything out.
    pub fn take(&self) -> VecDeque<Message> {
        std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A run taken out was given to the machine.
    pub fn unqueue(&self, bytes: usize, records: usize) {
        self.queued.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.queued.records.fetch_sub(records, Ordering::Relaxed);
    }

    /// Says what the machine holds unfolded, and lets waiting readers know if there is room.
    pub fn hold(&self, bytes: usize, records: usize) {
        self.held.bytes.store(bytes, Ordering::Relaxed);
        self.held.records.store(records, Ordering::Relaxed);
        if self.has_room() {
            self.room.notify_waiters();
        }
    }

    /// Bytes and records that wait.
    pub fn load(&self) -> (usize, usize) {
        let sum =
            |queued: &AtomicUsize, held: &AtomicUsize| queued.load(Ordering::Relaxed) + held.load(Ordering::Relaxed);
        (sum(&self.queued.bytes, &self.held.bytes), sum(&self.queued.records, &self.held.records))
    }

    fn is_full(&self) -> bool {
        let (bytes, records) = self.load();
        bytes >= MAILBOX_BYTES_MAX || records >= MAILBOX_RECORDS_MAX
    }

    /// Whether it is at most half full.
    fn has_room(&self) -> bool {
        let (bytes, records) = self.load();
        bytes <= MAILBOX_BYTES_MAX / 2 && records <= MAILBOX_RECORDS_MAX / 2
    }

    /// Waits until it is at most half full.
    pub async fn room(&self) {
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.has_room() {
                return;
            }
            notified.await;
        }
    }
}
