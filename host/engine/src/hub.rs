//! The hub of a job: which shards its streams have, and one feed for each that some task needs. Feeds begin with the first
//! task that asks and go on, idle, when none does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

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
/// And no more often than this.
const LISTING_PAUSE: Duration = Duration::from_millis(200);

/// The shards and feeds of a job.
#[derive(Default)]
pub(crate) struct Hub {
    map: Mutex<Arc<ShardMap>>,
    feeds: Mutex<BTreeMap<ShardKey, FeedHandle>>,
    job: OnceLock<Weak<JobShared>>,
    look: Notify,
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

    /// A shard that no listing shows may still be there; if Kinesis does not know it, its records are lost to the task.
    pub fn look_for(&self, task: TaskId, shard: ShardKey) {
        let Some(job) = self.job() else { return };
        job.clone().runtime.spawn(async move {
            match job.ports.source.iterator(&shard, Position::TrimHorizon).await {
                Err(SourceError::Gone(shard)) => {
                    tracing::warn!("task {task}: {shard} is gone and was not read to its end");
                    job.cell(task).tell(Event::Lost(shard, Gap::ToEnd));
                }
                // The listing lags behind: the next one shows it, or the question is asked again.
                Ok(_) | Err(_) => job.hub.look(),
            }
        });
    }

    /// Lists the shards of every stream, again and again, and tells the tasks what is new.
    pub async fn keep_listing(job: Arc<JobShared>) {
        let streams = (0..job.spec.meta.inputs.len()).map(|index| StreamIndex(index as u16));
        let streams: Vec<StreamIndex> = streams.collect();
        let mut failures = 0;
        while !job.is_closed() {
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
