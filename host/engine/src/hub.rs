//! The hub of a job: which shards its streams have, and one feed for each that some task needs. Feeds begin with the first
//! task that asks and go on, idle, when none does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use pelton_core::cause::StopCause;
use pelton_core::id::{ShardKey, StreamIndex, TaskId};
use pelton_core::intake::Want;
use pelton_core::limits::backoff_ms;
use pelton_core::position::Position;
use pelton_core::record::Gap;
use pelton_core::shard::ShardMap;
use pelton_core::task::Event;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::cell::lock;
use crate::job::JobShared;
use crate::mailbox::Message;
use crate::ports::SourceError;
use crate::reader::{FeedCommand, FeedState, ShardReader};

/// Shards are listed this often when nothing else asks for it.
const LISTING_INTERVAL: Duration = Duration::from_secs(10);
/// A shard that no listing shows is asked for no more often than this: Kinesis takes five such questions a second from everybody.
const QUESTION_PAUSE: Duration = Duration::from_secs(5);
/// How long streams keep records is asked this often. Between a change and the next answer a gap may be told wrongly, or not.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// Listings come no more often than this.
const LISTING_PAUSE: Duration = Duration::from_millis(200);

/// The shards and feeds of a job.
#[derive(Default)]
pub(crate) struct Hub {
    map: Mutex<Arc<ShardMap>>,
    feeds: Mutex<BTreeMap<ShardKey, FeedHandle>>,
    job: OnceLock<Weak<JobShared>>,
    look: Notify,
    /// Shards that no listing shows and that are being asked for, with the tasks that wait for the answer.
    asked: Mutex<BTreeMap<ShardKey, BTreeSet<TaskId>>>,
    /// Of each stream, how long it keeps records, in milliseconds.
    retention_ms: Vec<AtomicU64>,
    /// What was warned of last.
    warned: Mutex<String>,
}

/// A feed, from outside.
pub(crate) struct FeedHandle {
    /// As many commands are open as there are tasks: each asks again only when it was answered.
    pub commands: mpsc::UnboundedSender<FeedCommand>,
    pub state: Arc<Mutex<FeedState>>,
}

impl Hub {
    /// A hub of streams that keep records so long, in milliseconds.
    pub fn new(retention_ms: &[u64]) -> Self {
        let retention_ms = retention_ms.iter().map(|retention_ms| AtomicU64::new(*retention_ms)).collect();
        Self { retention_ms, ..Self::default() }
    }

    /// Ties the knot: the hub's feeds need the job, which has the hub.
    pub fn bind(&self, job: &Arc<JobShared>) {
        let bound = self.job.set(Arc::downgrade(job));
        assert!(bound.is_ok(), "a hub serves one job");
    }

    fn job(&self) -> Option<Arc<JobShared>> {
        self.job.get()?.upgrade()
    }

    /// The shards known now.
    pub fn map(&self) -> Arc<ShardMap> {
        lock(&self.map).clone()
    }

    /// Has the shards listed soon: one ended, or something points to one that is not known.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// A task needs what follows a position of a shard.
    pub fn join(&self, task: TaskId, want: Want) {
        self.command(&want.shard.clone(), FeedCommand::Join(task, want));
    }

    /// A task needs nothing more of any shard.
    pub fn leave(&self, task: TaskId) {
        for feed in lock(&self.feeds).values() {
            // A feed that ended has nobody to leave it.
            let _ = feed.commands.send(FeedCommand::Leave(task));
        }
    }

    fn command(&self, shard: &ShardKey, command: FeedCommand) {
        let Some(job) = self.job().filter(|job| !job.is_closed()) else { return };
        let mut feeds = lock(&self.feeds);
        let feed = feeds.entry(shard.clone()).or_insert_with(|| {
            let described = lock(&self.map).get(shard).cloned().expect("a task asks only for shards that are known");
            let (commands, receiver) = mpsc::unbounded_channel();
            let state = Arc::<Mutex<FeedState>>::default();
            let reader =
                ShardReader::new(job.clone(), shard.clone(), described, receiver, commands.clone(), state.clone());
            job.runtime.spawn(watch_over(job.clone(), shard.clone(), job.runtime.spawn(reader.run()), state.clone()));
            FeedHandle { commands, state }
        });
        // The feed ends only with its job.
        let _ = feed.commands.send(command);
    }

    /// Warns of what may concern every shard alike, once.
    pub fn warn_once(&self, text: String) {
        let mut warned = lock(&self.warned);
        if *warned != text {
            tracing::warn!("{text}");
            *warned = text;
        }
    }

    /// How each feed stands.
    pub fn states(&self) -> Vec<(ShardKey, FeedState)> {
        lock(&self.feeds).iter().map(|(shard, feed)| (shard.clone(), lock(&feed.state).clone())).collect()
    }

    /// A shard that no listing shows may still be there; if Kinesis does not know it, its records are lost to the task. One
    /// question is open for all tasks that ask; where the answer is another, they look at the shards again after a pause.
    pub fn look_for(&self, task: TaskId, shard: ShardKey) {
        let Some(job) = self.job() else { return };
        {
            let mut asked = lock(&self.asked);
            let is_open = asked.contains_key(&shard);
            asked.entry(shard.clone()).or_default().insert(task);
            if is_open {
                return;
            }
        }
        job.clone().runtime.spawn(async move {
            let answer = job.ports.source.iterator(&shard, Position::TrimHorizon).await;
            let is_gone = matches!(answer, Err(SourceError::Gone(_)));
            if !is_gone {
                // The listing lags behind, or the question did not get through.
                job.hub.look();
                tokio::select! {
                    () = tokio::time::sleep(QUESTION_PAUSE) => {}
                    () = job.closed() => {}
                }
            }
            let tasks = lock(&job.hub.asked).remove(&shard).unwrap_or_default();
            for task in tasks {
                if is_gone {
                    tracing::warn!("task {task}: {shard} is gone and was not read to its end");
                    job.cell(task).tell(Event::Lost(shard.clone(), Gap::ToEnd));
                } else {
                    job.cell(task).send(Message::Shards(job.hub.map()));
                }
            }
        });
    }

    /// How long a stream keeps records, in milliseconds, as it was asked last.
    pub fn retention_ms(&self, stream: StreamIndex) -> u64 {
        self.retention_ms[usize::from(stream.0)].load(Ordering::Relaxed)
    }

    /// Asks how long a stream keeps records: that can be changed while a job runs.
    async fn ask_retention(&self, job: &JobShared, stream: StreamIndex) {
        let retention_ms = match job.ports.source.retention_ms(stream).await {
            Ok(retention_ms) => retention_ms,
            Err(error) => return tracing::warn!("{error}; asking again later"),
        };
        let before_ms = self.retention_ms[usize::from(stream.0)].swap(retention_ms, Ordering::Relaxed);
        if before_ms != retention_ms {
            let (name, hours) = (&job.spec.meta.input(stream).name, retention_ms / 3_600_000);
            tracing::info!("stream {name} keeps records for {hours} h now");
        }
    }

    /// Lists the shards of every stream, again and again, and tells the tasks what is new.
    pub async fn keep_listing(job: Arc<JobShared>) {
        let streams: Vec<StreamIndex> = job.spec.meta.streams().collect();
        let mut failures = 0;
        let mut retentions_asked = Instant::now();
        while !job.is_closed() {
            if retentions_asked.elapsed() >= RETENTION_INTERVAL {
                retentions_asked = Instant::now();
                for stream in &streams {
                    job.hub.ask_retention(&job, *stream).await;
                }
            }
            let mut changed = false;
            let mut map = ShardMap::clone(&job.hub.map());
            for stream in &streams {
                match job.ports.source.list_shards(*stream).await {
                    Ok(shards) => {
                        failures = 0;
                        changed |= map.update(*stream, shards);
                    }
                    Err(error) => {
                        failures += 1;
                        let name = &job.spec.meta.input(*stream).name;
                        tracing::warn!("listing the shards of {name}: {error}; trying again");
                    }
                }
            }
            if changed {
                let map = Arc::new(map);
                *lock(&job.hub.map) = map.clone();
                job.cells().iter().for_each(|cell| cell.send(Message::Shards(map.clone())));
            }
            let pause = match failures {
                0 => LISTING_INTERVAL,
                failures => Duration::from_millis(backoff_ms(failures)),
            };
            tokio::time::sleep(LISTING_PAUSE).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = job.hub.look.notified() => {}
                () = job.closed() => {}
            }
        }
    }
}

/// A reader ends only with its job. Should one panic, the tasks that need it stop rather than wait for ever.
async fn watch_over(job: Arc<JobShared>, shard: ShardKey, reader: JoinHandle<()>, state: Arc<Mutex<FeedState>>) {
    if reader.await.is_err() {
        let tasks = lock(&state).feeds.clone();
        for task in tasks {
            let text = format!("the reader of {shard} panicked, see the log; start the host again");
            job.cell(task).tell(Event::Broken(StopCause::Service(text)));
        }
    }
}
