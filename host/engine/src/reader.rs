//! A shard's reader: does what the feed says, sorts the records by task, and puts the runs into the mailboxes. A full mailbox
//! pushes back; one that stays full is left out until it has room, so that it holds up nobody else.

mod deliver;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use pelton_core::cause::StopCause;
use pelton_core::feed::{Feed, FeedNext, FeedTrouble, Lane, Reply};
use pelton_core::id::{ShardKey, TaskId};
use pelton_core::intake::Want;
use pelton_core::limits::BATCH_RECORDS_MAX;
use pelton_core::position::Position;
use pelton_core::record::Gap;
use pelton_core::shard::Shard;
use pelton_core::task::Event;
use tokio::sync::mpsc;

use crate::cell::lock;
use crate::events::{Happening, NamedShard};
use crate::job::JobShared;
use crate::ports::{Fetched, PortError, ShardIterator, SourceError, Subscription};
use crate::spec::Consumer;

/// What tasks ask of a feed.
#[derive(Debug)]
pub(crate) enum FeedCommand {
    /// Serve a task.
    Join(TaskId, Want),
    /// Serve it no more.
    Leave(TaskId),
    /// Its mailbox has room again.
    Room(TaskId),
}

/// How a feed stands, for those who ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct FeedState {
    pub feeds: Vec<TaskId>,
    pub catching_up: Vec<TaskId>,
    /// How the shared lane is read; none before it is.
    pub consumer: Option<Consumer>,
    /// Why not by fan-out, though it should be.
    pub refused: Option<String>,
    pub behind_ms: Option<u64>,
    pub caught_up: bool,
    pub fetches: u64,
    pub failures: u64,
    pub records_read: u64,
    pub error: Option<String>,
}

/// The reader of one shard.
pub(crate) struct ShardReader {
    job: Arc<JobShared>,
    key: ShardKey,
    shard: Shard,
    home: TaskId,
    feed: Feed,
    iterators: BTreeMap<Lane, ShardIterator>,
    /// Of the shared lane, instead of an iterator.
    subscription: Option<Subscription>,
    /// Fan-out was refused: it is not asked for before this.
    polls_until_ms: Option<u64>,
    commands: mpsc::UnboundedReceiver<FeedCommand>,
    sender: mpsc::UnboundedSender<FeedCommand>,
    state: Arc<Mutex<FeedState>>,
    has_ended: bool,
}

impl ShardReader {
    pub fn new(
        job: Arc<JobShared>,
        key: ShardKey,
        shard: Shard,
        commands: mpsc::UnboundedReceiver<FeedCommand>,
        sender: mpsc::UnboundedSender<FeedCommand>,
        state: Arc<Mutex<FeedState>>,
    ) -> Self {
        let home = job.spec.meta.tasks.task_of(shard.range.start);
        let feed = Feed::new(job.spec.pace);
        let iterators = BTreeMap::new();
        let (subscription, polls_until_ms) = (None, None);
        Self {
            job,
            key,
            shard,
            home,
            feed,
            iterators,
            subscription,
            polls_until_ms,
            commands,
            sender,
            state,
            has_ended: false,
        }
    }

    /// Reads until the job closes.
    pub async fn run(mut self) {
        self.tell_of(Happening::ShardOpened);
        while !self.job.is_closed() {
            while let Ok(command) = self.commands.try_recv() {
                self.command(command);
            }
            self.ask_for_fan_out_again();
            let next = self.feed.next(self.now_ms());
            if !self.feed.listens() {
                self.subscription = None;
            }
            match next {
                FeedNext::Iterate(Lane::Shared, position) if self.fans_out() => self.subscribe(position),
                FeedNext::Iterate(lane, position) => self.iterate(lane, position).await,
                FeedNext::Fetch(lane) => {
                    self.take_pushed().await;
                    self.fetch(lane).await;
                }
                FeedNext::Listen(until_ms) => self.listen(until_ms).await,
                FeedNext::Wait(until_ms) => {
                    let pause = Duration::from_millis(until_ms.saturating_sub(self.now_ms()).max(1));
                    self.pause(pause).await;
                }
                FeedNext::Idle => self.pause(Duration::MAX).await,
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.job.ports.clock.now_ms()
    }

    fn tell_of(&self, what: impl FnOnce(NamedShard) -> Happening) {
        self.job.events.tell(self.now_ms(), &self.job.name, what(NamedShard::new(&self.key, &self.job.streams)));
    }

    /// Tells it once, however often tasks have it read again.
    fn ended(&mut self) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.tell_of(Happening::ShardEnded);
        }
    }

    async fn pause(&mut self, pause: Duration) {
        self.copy_state();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            command = self.commands.recv() => {
                if let Some(command) = command {
                    self.command(command);
                }
            }
            () = self.job.closed() => {}
        }
    }

    fn command(&mut self, command: FeedCommand) {
        let now_ms = self.now_ms();
        match command {
            FeedCommand::Join(task, want) => self.feed.join(now_ms, task, &want),
            FeedCommand::Leave(task) => self.feed.leave(task),
            FeedCommand::Room(task) => self.feed.room(now_ms, task),
        }
    }

    /// Whether the shared lane is to be read by fan-out now.
    fn fans_out(&self) -> bool {
        self.job.spec.settings.consumer == Consumer::FanOut && self.polls_until_ms.is_none()
    }

    fn ask_for_fan_out_again(&mut self) {
        if self.polls_until_ms.is_some_and(|until_ms| self.now_ms() >= until_ms) {
            self.polls_until_ms = None;
            self.feed.turn_over();
        }
    }

    fn subscribe(&mut self, position: Position) {
        self.iterators.remove(&Lane::Shared);
        self.subscription = Some(self.job.ports.source.subscribe(&self.key, position));
        self.feed.subscribed();
    }

    /// Takes what the subscription has at hand, so that a lane that is always ready to be read does not hold it up.
    async fn take_pushed(&mut self) {
        let Some(subscription) = &mut self.subscription else { return };
        if let Some(Some(reply)) = subscription.0.next().now_or_never() {
            self.pushed(reply).await;
        }
    }

    /// Waits for what the subscription pushes, as long as nothing else is to be done.
    async fn listen(&mut self, until_ms: Option<u64>) {
        self.copy_state();
        let pause = until_ms
            .map_or(Duration::MAX, |until_ms| Duration::from_millis(until_ms.saturating_sub(self.now_ms()).max(1)));
        let subscription = self.subscription.as_mut().expect("the feed listens only to a subscription");
        tokio::select! {
            reply = subscription.0.next() => {
                self.pushed(reply.expect("a subscription has no end")).await;
            }
            () = tokio::time::sleep(pause) => {}
            command = self.commands.recv() => {
                if let Some(command) = command {
                    self.command(command);
                }
            }
            () = self.job.closed() => {}
        }
    }

    async fn pushed(&mut self, reply: Result<Fetched, SourceError>) {
        match reply {
            Ok(fetched) => {
                {
                    let mut state = lock(&self.state);
                    (state.consumer, state.refused) = (Some(Consumer::FanOut), None);
                }
                self.fetched(Lane::Shared, fetched).await;
            }
            Err(SourceError::Refused(text)) => {
                self.polls_until_ms = Some(self.now_ms() + self.job.spec.pace.refusal_holds_ms);
                self.feed.turn_over();
                lock(&self.state).refused = Some(text.clone());
                let job = &self.job.spec.meta.name;
                self.job.hub.warn_once(format!("job {job} polls, because fan-out is refused: {text}"));
            }
            Err(error) => {
                tracing::warn!("reading {}: {error}; subscribing again", self.key);
                lock(&self.state).error = Some(error.to_string());
            }
        }
    }

    async fn iterate(&mut self, lane: Lane, position: Position) {
        match self.job.ports.source.iterator(&self.key, position).await {
            Ok(iterator) => {
                self.iterators.insert(lane, iterator);
                self.feed.iterated(lane);
                if lane == Lane::Shared {
                    lock(&self.state).consumer = Some(Consumer::Polling);
                }
            }
            Err(error) => self.failed(lane, error).await,
        }
    }

    async fn fetch(&mut self, lane: Lane) {
        let iterator = self.iterators.get(&lane).cloned().expect("the feed fetches only with an iterator");
        match self.job.ports.source.records(&self.key, &iterator, BATCH_RECORDS_MAX as u32).await {
            Ok(fetched) => self.fetched(lane, fetched).await,
            Err(error) => self.failed(lane, error).await,
        }
    }

    async fn failed(&mut self, lane: Lane, error: SourceError) {
        let now_ms = self.now_ms();
        {
            let mut state = lock(&self.state);
            state.failures += 1;
            state.error = Some(error.to_string());
        }
        match error {
            SourceError::Expired => self.feed.failed(now_ms, lane, FeedTrouble::Expired),
            SourceError::Throttled | SourceError::Refused(_) => self.feed.failed(now_ms, lane, FeedTrouble::Passing),
            SourceError::Port(PortError::Retry(text)) => {
                tracing::warn!("reading {}: {text}; trying again", self.key);
                self.feed.failed(now_ms, lane, FeedTrouble::Passing);
            }
            SourceError::Gone(shard) => {
                let members = self.feed.members().collect();
                self.tell_all(members, || Event::Lost(shard.clone(), Gap::ToEnd));
            }
            SourceError::Port(PortError::Stop(text)) => self.break_members(&StopCause::Service(text)),
        }
    }

    /// Stops every task that needs this shard.
    fn break_members(&mut self, cause: &StopCause) {
        let members: Vec<TaskId> = self.feed.members().collect();
        self.tell_all(members, || Event::Broken(cause.clone()));
    }

    /// Tells tasks why they are served no more.
    fn tell_all(&mut self, tasks: Vec<TaskId>, event: impl Fn() -> Event) {
        for task in tasks {
            self.feed.leave(task);
            self.job.cell(task).tell(event());
        }
    }

    /// Serves the tasks of a lane no more that may have lost what a reply begins behind: Kinesis goes on silently then. They ask
    /// again once they have accounted for the gap. All others are given the reply, which no subscription brings twice.
    fn tell_of_gap(&mut self, lane: Lane) {
        let retention_ms = self.job.hub.retention_ms(self.key.stream);
        let Some((until_ms, tasks)) = self.feed.gap(lane, self.now_ms(), retention_ms) else { return };
        let shard = self.key.clone();
        self.tell_all(tasks, || Event::Lost(shard.clone(), Gap::Until(until_ms)));
    }

    async fn fetched(&mut self, lane: Lane, fetched: Fetched) {
        self.tell_of_gap(lane);
        let now_ms = self.now_ms();
        let last = fetched.records.last();
        let reply = Reply {
            up_to: last.map(|record| Position::after_all_of(record.place.sequence)),
            arrived_ms: last.map(|record| record.arrived_ms),
            bytes: fetched.records.iter().map(|record| record.data.len() as u64).sum(),
            end: fetched.next.is_none(),
            // A full reply is followed by another, whatever it says: some servers never say how far it is behind.
            caught_up: fetched.behind_ms.is_none_or(|behind_ms| behind_ms == 0)
                && fetched.records.len() < BATCH_RECORDS_MAX,
        };
        match fetched.next {
            Some(iterator) if self.iterators.contains_key(&lane) => drop(self.iterators.insert(lane, iterator)),
            // Where a subscription goes on, it knows itself.
            Some(_) => {}
            None => drop(self.iterators.remove(&lane)),
        }
        {
            let mut state = lock(&self.state);
            state.fetches += 1;
            state.records_read += fetched.records.len() as u64;
            state.behind_ms = fetched.behind_ms;
            state.error = None;
        }
        let delivery = self.feed.fetched(now_ms, lane, reply);
        self.deliver(delivery, fetched.records).await;
        if reply.end {
            self.ended();
            self.job.hub.look();
        }
        self.copy_state();
    }

    fn copy_state(&self) {
        let mut state = lock(&self.state);
        state.feeds.clear();
        state.feeds.extend(self.feed.members());
        state.catching_up.clear();
        state.catching_up.extend(self.feed.catching_up());
        state.caught_up = self.feed.is_caught_up();
    }
}
