//! A job on this host: its tasks and all they share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pelton_core::id::{ShardKey, TaskId};
use pelton_core::position::Position;
use pelton_core::task::{Event, PhaseName};
use pelton_core::write_set::{USER_SPACE, user_key};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::cell::{IdlePassed, TaskCell, lock};
use crate::deploy::{self, Fleet, keep_accounts, keep_rolling_out};
use crate::events::EventLog;
use crate::flush;
use crate::guest::{GuestLine, GuestLines, GuestRuntime};
use crate::hub::Hub;
use crate::idle::{self, IdleByTask};
use crate::ports::{Changelog, Clock, ComponentStore, Deployments, PortError, Sink, Source};
use crate::recent::Recent;
use crate::scheduler::Scheduler;
use crate::spec::JobSpec;
use crate::status::{ShardStatus, StateReadError, TaskStatus};

/// Snapshots taken at a time.
const SNAPSHOTS_AT_ONCE: usize = 2;
/// How often tasks are looked at for something that is due.
const WAKE_INTERVAL: Duration = Duration::from_millis(20);

/// The outside, as a job uses it.
#[derive(Clone)]
pub struct Ports {
    /// Where records come from.
    pub source: Arc<dyn Source>,
    /// Where outputs go.
    pub sink: Arc<dyn Sink>,
    /// Where commits are kept.
    pub changelog: Arc<dyn Changelog>,
    /// Where components are kept.
    pub components: Arc<dyn ComponentStore>,
    /// Where it is kept what the job runs.
    pub deployments: Arc<dyn Deployments>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// What the tasks of a job share.
pub(crate) struct JobShared {
    pub spec: JobSpec,
    pub ports: Ports,
    pub name: Arc<str>,
    pub fleet: Fleet,
    pub scheduler: Arc<Scheduler>,
    pub events: Arc<EventLog>,
    pub runtime: Handle,
    pub hub: Hub,
    pub snapshot_turns: Semaphore,
    pub store_paths: Vec<PathBuf>,
    pub streams: Arc<[String]>,
    /// By task. One that begins anew is another cell.
    cells: Mutex<Vec<Arc<TaskCell>>>,
    idle: Mutex<IdleByTask>,
    closed: watch::Sender<bool>,
    tasks_stopped: watch::Sender<u32>,
    pub tasks_ready: AtomicU32,
    pub first_fold_ms: AtomicU64,
}

impl JobShared {
    /// The tasks as they stand, in order.
    pub fn cells(&self) -> Vec<Arc<TaskCell>> {
        lock(&self.cells).clone()
    }

    pub fn cell(&self, task: TaskId) -> Arc<TaskCell> {
        lock(&self.cells)[usize::from(task.0)].clone()
    }

    /// Has another cell take the place of a task's own, which has stopped, and starts it, unless the job closes.
    pub fn replace(&self, cell: Arc<TaskCell>) {
        // Who closes the job tells every cell behind this lock.
        let mut cells = lock(&self.cells);
        if !self.is_closed() {
            self.tasks_stopped.send_modify(|stopped| *stopped -= 1);
            cell.tell(Event::Start);
            let place = usize::from(cell.id.0);
            cells[place] = cell;
        }
    }

    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Returns when the job closes.
    pub async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender lives as long as the job, so waiting ends only with what it waits for.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    pub fn idle_found(&self, task: TaskId) -> Vec<IdlePassed> {
        lock(&self.idle).remove(&task).unwrap_or_default()
    }

    pub fn task_ready(&self) {
        let ready = self.tasks_ready.fetch_add(1, Ordering::Relaxed) + 1;
        if ready == self.spec.meta.tasks.get() {
            tracing::info!("job {}: all {ready} tasks are running", self.spec.meta.name);
        }
    }

    pub fn task_stopped(&self) {
        self.tasks_stopped.send_modify(|stopped| *stopped += 1);
    }
}

/// A job on this host.
pub struct Job {
    pub(crate) shared: Arc<JobShared>,
}

impl Job {
    pub(crate) async fn start(
        spec: JobSpec,
        ports: Ports,
        guests: Arc<GuestRuntime>,
        scheduler: Arc<Scheduler>,
        data_dir: &Path,
        events: Arc<EventLog>,
    ) -> Result<Arc<Self>, PortError> {
        let folder = data_dir.join("state").join(spec.meta.incarnation.to_string());
        std::fs::create_dir_all(&folder)
            .map_err(|error| PortError::Stop(format!("creating the data folder {}: {error}", folder.display())))?;
        let idle = idle::kept(ports.changelog.as_ref()).await?;
        let clock = ports.clock.clone();
        let lines = GuestLines::new(move || clock.now_ms());
        let fleet = Fleet::open(&spec, guests, &ports, lines).await?;
        let shared = Arc::new(JobShared {
            name: spec.meta.name.as_str().into(),
            fleet,
            scheduler,
            events,
            runtime: Handle::current(),
            hub: Hub::new(&spec.retention_ms),
            snapshot_turns: Semaphore::new(SNAPSHOTS_AT_ONCE),
            store_paths: spec.meta.tasks.tasks().map(|task| folder.join(format!("{:05}.redb", task.0))).collect(),
            streams: spec.meta.inputs.iter().map(|input| input.name.clone()).collect(),
            cells: Mutex::default(),
            idle: Mutex::new(idle),
            closed: watch::Sender::new(false),
            tasks_stopped: watch::Sender::new(0),
            tasks_ready: AtomicU32::new(0),
            first_fold_ms: AtomicU64::new(0),
            spec,
            ports,
        });
        shared.hub.bind(&shared);
        let rollout = shared.fleet.rollout();
        let cells = shared.spec.meta.tasks.tasks();
        let cells = cells.map(|task| TaskCell::new(task, shared.clone(), rollout.assignment(task)));
        *lock(&shared.cells) = cells.collect::<Result<_, _>>()?;
        shared.runtime.spawn(Hub::keep_listing(shared.clone()));
        shared.runtime.spawn(keep_waking(shared.clone()));
        shared.runtime.spawn(flush::keep(shared.clone()));
        shared.runtime.spawn(idle::keep(shared.clone()));
        shared.runtime.spawn(keep_rolling_out(shared.clone()));
        shared.runtime.spawn(keep_accounts(shared.clone()));
        shared.cells().iter().for_each(|cell| cell.tell(Event::Start));
        deploy::begin_shadow(&shared);
        Ok(Arc::new(Self { shared }))
    }

    /// What the job was started with.
    pub fn spec(&self) -> &JobSpec {
        &self.shared.spec
    }

    /// What its guests said on this host, the newest lines.
    pub fn lines(&self) -> &Arc<Recent<GuestLine>> {
        self.shared.fleet.lines.recent()
    }

    /// Every task, in order.
    pub fn tasks(&self) -> Vec<TaskStatus> {
        let lags = self.reader_lags();
        self.shared.cells().iter().map(|cell| self.status(cell, &lags)).collect()
    }

    /// One task, if the job has it.
    pub fn task(&self, task: TaskId) -> Option<TaskStatus> {
        let cells = self.shared.cells();
        let cell = cells.get(usize::from(task.0))?;
        Some(self.status(cell, &self.reader_lags()))
    }

    /// For each shard that is read: whether it is caught up, or how far it is behind.
    fn reader_lags(&self) -> BTreeMap<ShardKey, Option<u64>> {
        let states = self.shared.hub.states().into_iter();
        states
            .map(|(shard, state)| (shard, if state.caught_up { Some(0) } else { state.behind_ms.filter(|ms| *ms > 0) }))
            .collect()
    }

    fn status(&self, cell: &TaskCell, lags: &BTreeMap<ShardKey, Option<u64>>) -> TaskStatus {
        let mut status = lock(&cell.status).clone();
        let (bytes, records) = cell.mailbox.load();
        (status.mailbox_bytes, status.mailbox_records) = (bytes as u64, records as u64);
        status.tally = cell.tally();
        let earlier = status.tally.earlier;
        status.records_folded += earlier.records_folded;
        status.failed_batches += earlier.failed_batches;
        status.outputs_published += earlier.outputs_published;
        let now_ms = self.shared.ports.clock.now_ms();
        let waiting_ms = status.oldest_unfolded_ms.map(|arrived_ms| now_ms.saturating_sub(arrived_ms).max(1));
        let unread_ms = self.unread_ms(&status, lags);
        let busy_ms = u64::from(status.busy || records > 0);
        status.lag_ms = match status.phase {
            PhaseName::Running => unread_ms.map(|unread_ms| unread_ms.max(waiting_ms.unwrap_or(0)).max(busy_ms)),
            PhaseName::Claiming
            | PhaseName::Restoring
            | PhaseName::Rewinding
            | PhaseName::Draining
            | PhaseName::Stopped => None,
        };
        status
    }

    /// How far behind the readers of a task's unfinished shards are; none where one cannot tell, or shards are to come.
    fn unread_ms(&self, status: &TaskStatus, lags: &BTreeMap<ShardKey, Option<u64>>) -> Option<u64> {
        let map = self.shared.hub.map();
        let mut behind_ms = Some(0);
        for (key, _) in map.touching(self.shared.spec.meta.reads(status.task)) {
            let position = status.positions.iter().find(|(shard, _)| shard == key).map(|(_, entry)| entry.position);
            if position == Some(Position::ShardEnd) {
                continue;
            }
            let lag = if position.is_some() { lags.get(key).copied().flatten() } else { None };
            behind_ms = behind_ms.zip(lag).map(|(a, b)| a.max(b));
        }
        behind_ms
    }

    /// Every shard known, by stream and id.
    pub fn shards(&self) -> Vec<ShardStatus> {
        let states: BTreeMap<ShardKey, _> = self.shared.hub.states().into_iter().collect();
        let meta = &self.shared.spec.meta;
        let map = self.shared.hub.map();
        map.iter()
            .map(|(key, shard)| {
                let state = states.get(key).cloned().unwrap_or_default();
                ShardStatus {
                    stream: meta.input(key.stream).name.clone(),
                    shard: key.shard.clone(),
                    range: shard.range,
                    parents: shard.parents.clone(),
                    closed: shard.closed,
                    home: meta.tasks.task_of(shard.range.start),
                    feeds: state.feeds,
                    catching_up: state.catching_up,
                    consumer: state.consumer.unwrap_or(self.shared.spec.settings.consumer),
                    refused: state.refused,
                    behind_ms: state.behind_ms,
                    fetches: state.fetches,
                    failures: state.failures,
                    records_read: state.records_read,
                    error: state.error,
                }
            })
            .collect()
    }

    /// The committed value of a key that the logic wrote.
    ///
    /// # Errors
    /// When the task's state is not here, or cannot be read.
    pub fn state_get(&self, task: TaskId, key: &[u8]) -> Result<Option<Vec<u8>>, StateReadError> {
        let reader = self.reader(task)?;
        reader.get(&user_key(key)).map_err(|error| StateReadError::Store { task, cause: error.to_string() })
    }

    /// Up to `limit` committed entries that the logic wrote, from a key on, in key order.
    ///
    /// # Errors
    /// When the task's state is not here, or cannot be read.
    pub fn state_scan(&self, task: TaskId, start: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, StateReadError> {
        let reader = self.reader(task)?;
        let entries = reader.scan(&user_key(start), &[USER_SPACE + 1], limit);
        let entries = entries.map_err(|error| StateReadError::Store { task, cause: error.to_string() })?;
        Ok(entries.into_iter().map(|(key, value)| (key.slice(1..), value)).collect())
    }

    pub(crate) fn reader(&self, task: TaskId) -> Result<crate::store::StateReader, StateReadError> {
        let cells = self.shared.cells();
        cells.get(usize::from(task.0)).and_then(|cell| cell.reader()).ok_or(StateReadError::NotRunning(task))
    }

    /// Records folded since the job began on this host.
    pub fn records_folded(&self) -> u64 {
        let folded =
            |cell: &Arc<TaskCell>| lock(&cell.status).records_folded + lock(&cell.tally).earlier.records_folded;
        self.shared.cells().iter().map(folded).sum()
    }

    /// When the first record was folded on this host, milliseconds since 1970; none before.
    pub fn first_fold_ms(&self) -> Option<u64> {
        Some(self.shared.first_fold_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    /// Stops reading, commits and publishes what is folded, and returns when every task has stopped. Gives up on what a
    /// service does not take only when dropped.
    pub async fn stop(&self) {
        let shared = &self.shared;
        shared.closed.send_replace(true);
        shared.cells().iter().for_each(|cell| cell.tell(Event::Stop));
        let mut stopped = shared.tasks_stopped.subscribe();
        // The sender lives as long as the job.
        let _ = stopped.wait_for(|stopped| *stopped == shared.spec.meta.tasks.get()).await;
        idle::put(shared).await;
        flush::all(shared).await;
        shared.fleet.lines.recent().close();
    }
}

/// Random bytes from the system.
///
/// # Errors
/// When the system has none.
pub fn random() -> Result<[u8; 16], PortError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| PortError::Stop(format!("the system gives no random numbers: {error}")))?;
    Ok(bytes)
}

async fn keep_waking(shared: Arc<JobShared>) {
    let mut interval = tokio::time::interval(WAKE_INTERVAL);
    let stopped = shared.tasks_stopped.subscribe();
    let all = shared.spec.meta.tasks.get();
    // Those that have stopped may begin anew until the job closes.
    while !shared.is_closed() || *stopped.borrow() < all {
        interval.tick().await;
        let now_ms = shared.ports.clock.now_ms();
        shared.cells().iter().for_each(|cell| cell.wake(now_ms));
    }
}
