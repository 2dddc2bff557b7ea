//! A task on this host: its machine, its local copy and its instance, with the mailbox through which everything reaches
//! them. One guest thread at a time takes a turn: it steps the machine and does what the machine asks.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use pelton_core::cause::StopCause;
use pelton_core::id::{CommitId, DeploymentNumber, ShardKey, TaskId};
use pelton_core::position::{Position, PositionEntry};
use pelton_core::record::{Gap, Run};
use pelton_core::shard::ShardMap;
use pelton_core::task::{Assignment, Call, Effect, Event, IdSeed, Running, Task};
use tokio::sync::SemaphorePermit;

use crate::deploy::{self, Deployed, Pace};
use crate::guest::{Guest, Unborn};
use crate::job::{JobShared, random};
use crate::mailbox::{Mailbox, Message};
use crate::ports::{Changelog, PortError, Sink};
use crate::scheduler::{QUANTUM, Runnable, TurnState};
use crate::shadow::{Shadowing, findings::Findings};
use crate::spec::JobSpec;
use crate::status::TaskStatus;
use crate::store::{LocalStore, StateReader};
use crate::telling::Tally;

/// A task on this host.
pub struct TaskCell {
    pub(crate) id: TaskId,
    pub(crate) job: Arc<JobShared>,
    pub(crate) mailbox: Mailbox,
    pub(crate) me: Weak<Self>,
    pub(crate) turn: TurnState,
    pub(crate) work: Mutex<Work>,
    pub(crate) status: Mutex<TaskStatus>,
    /// An instance had beforehand of what the task is to run next.
    pub(crate) prepared: Mutex<Option<(DeploymentNumber, Unborn)>>,
    /// What it was told to run, with what it may have to go back to; from what it runs on.
    pub(crate) told: Mutex<VecDeque<Vec<Arc<Deployed>>>>,
    /// What a service last failed with, until it answers.
    pub(crate) trouble: Mutex<Option<String>>,
    pub(crate) tally: Mutex<Tally>,
    /// What calls came to since there is a canary, or another deployment.
    pub(crate) pace: Mutex<Pace>,
    /// What came of its shadow, if it has one.
    pub(crate) findings: Mutex<Option<Findings>>,
    /// The committed state, for those who ask from outside.
    pub(crate) reader: Mutex<Option<StateReader>>,
    /// When the machine next has something to do by itself, in milliseconds; the maximum for never.
    pub(crate) wake_at_ms: AtomicU64,
    pub(crate) unflushed: AtomicBool,
    pub(crate) was_ready: AtomicBool,
    /// What it ran when it stopped, where it was for that.
    pub(crate) stopped_for: Mutex<Option<Assignment>>,
    /// The change that brought the canary that failed here last.
    pub(crate) came_back_from: Mutex<Option<u64>>,
    idle_at_stop: Mutex<Option<IdlePassed>>,
}

/// Positions passed with nothing to commit, and the step they follow.
pub type IdlePassed = (CommitId, Vec<(ShardKey, PositionEntry)>);

/// What only the thread that has the turn touches.
pub(crate) struct Work {
    pub machine: Task,
    pub store: Option<Box<LocalStore>>,
    pub guest: Option<Guest>,
    /// What the task runs.
    pub deployed: Option<Arc<Deployed>>,
    /// An instance of it that was had beforehand.
    pub unborn: Option<Unborn>,
    /// How long the instance of the last call took to be born, if it was for that call.
    pub birth: Duration,
    /// How long the pin took to change, until the new logic is called for the first time.
    pub swapping: Option<Duration>,
    /// The put of the old logic's last commit, until there is an instance of the new.
    pub held_put: Option<Effect>,
    /// The old logic's instance until then: to take one down takes longer than to begin with one.
    pub retired: Option<Guest>,
    pub shadow: Option<Box<Shadowing>>,
    /// A call put off to the next turn.
    pub put_off: Option<Call>,
    pub map: Arc<ShardMap>,
    pub look_for_shards: bool,
    pub events: VecDeque<Event>,
    /// A commit could not be applied: the local copy stays where it stands, and the task stops.
    pub behind: bool,
    /// A turn panicked.
    pub abandoned: bool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TaskCell {
    /// A task that does nothing until [`Event::Start`].
    ///
    /// # Errors
    /// When the system gives no random numbers, from which its ids come.
    pub(crate) fn new(id: TaskId, job: Arc<JobShared>, assignment: Assignment) -> Result<Arc<Self>, PortError> {
        let told = job.fleet.of(&assignment);
        let (rules, ids) = (job.spec.rules(assignment), IdSeed::new(random()?));
        let machine = Task::new(id, Arc::new(job.spec.meta.clone()), rules, ids);
        let work = Work {
            machine,
            store: None,
            guest: None,
            deployed: None,
            unborn: None,
            birth: Duration::ZERO,
            swapping: None,
            held_put: None,
            retired: None,
            shadow: None,
            put_off: None,
            map: Arc::default(),
            look_for_shards: false,
            events: VecDeque::new(),
            behind: false,
            abandoned: false,
        };
        Ok(Arc::new_cyclic(|me| Self {
            id,
            status: Mutex::new(TaskStatus::new(id, job.spec.meta.tasks.slice(id))),
            job,
            mailbox: Mailbox::default(),
            me: me.clone(),
            turn: TurnState::default(),
            work: Mutex::new(work),
            prepared: Mutex::default(),
            told: Mutex::new(VecDeque::from([told])),
            trouble: Mutex::default(),
            tally: Mutex::default(),
            pace: Mutex::default(),
            findings: Mutex::default(),
            reader: Mutex::default(),
            wake_at_ms: AtomicU64::new(u64::MAX),
            unflushed: AtomicBool::new(false),
            was_ready: AtomicBool::new(false),
            stopped_for: Mutex::default(),
            came_back_from: Mutex::default(),
            idle_at_stop: Mutex::default(),
        }))
    }

    /// Gives the task something, and has it take a turn.
    pub(crate) fn send(&self, message: Message) {
        self.mailbox.push(message);
        self.notify();
    }

    pub(crate) fn tell(&self, event: Event) {
        self.send(Message::Event(event));
    }

    /// Gives the task a run. Returns false, and gives nothing, when its mailbox is full.
    pub(crate) fn offer(&self, run: &Run) -> bool {
        let taken = self.mailbox.offer(run);
        if taken {
            self.notify();
        }
        taken
    }

    pub(crate) fn notify(&self) {
        if let Some(me) = self.me.upgrade() {
            let me: Arc<dyn Runnable> = me;
            self.job.scheduler.notify(&me);
        }
    }

    /// Has the task take a turn if its time came.
    pub(crate) fn wake(&self, now_ms: u64) {
        if self.wake_at_ms.load(Ordering::Relaxed) <= now_ms {
            self.notify();
        }
    }

    pub(crate) fn spec(&self) -> &JobSpec {
        &self.job.spec
    }

    pub(crate) fn changelog(&self) -> &dyn Changelog {
        self.job.ports.changelog.as_ref()
    }

    pub(crate) fn sink(&self) -> &dyn Sink {
        self.job.ports.sink.as_ref()
    }

    pub(crate) fn store_path(&self) -> &Path {
        &self.job.store_paths[usize::from(self.id.0)]
    }

    pub(crate) async fn snapshot_turn(&self) -> Option<SemaphorePermit<'_>> {
        self.job.snapshot_turns.acquire().await.ok()
    }

    /// The committed state, while the task runs here.
    pub(crate) fn reader(&self) -> Option<StateReader> {
        lock(&self.reader).clone()
    }

    /// Positions passed with nothing to commit, now or when the task stopped.
    pub(crate) fn idle_positions(&self) -> Option<IdlePassed> {
        let now = self.work.try_lock().ok().and_then(|work| work.machine.idle_positions());
        now.or_else(|| lock(&self.idle_at_stop).clone())
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.job.ports.clock.now_ms()
    }

    /// Steps the machine through the events at hand and does what it asks. When the quantum is over, the next call is put off
    /// to another turn; each turn makes one though, lest a task on a busy machine spend its turns on all but its records.
    pub(crate) fn run(&self, work: &mut Work, began: Instant) {
        let mut effects = Vec::new();
        let mut calls = 0;
        loop {
            while let Some(event) = work.events.pop_front() {
                if matches!(event, Event::Stop) {
                    *lock(&self.idle_at_stop) = work.machine.idle_positions();
                }
                self.unqueue(&event);
                self.drop_needless(work, &event);
                work.look_for_shards |= matches!(&event, Event::Run(run) if run.up_to == Position::ShardEnd);
                let (stepped, was_called) = (Instant::now(), matches!(event, Event::Called(_)));
                work.machine.step(self.now_ms(), event, &mut effects);
                // A put wakes another thread, to which this one may lose its core: it follows a swap, once there is an instance.
                let swaps = effects.iter().any(|effect| matches!(effect, Effect::Swap(_)));
                for effect in effects.drain(..) {
                    match effect {
                        Effect::Put { .. } if swaps => work.held_put = Some(effect),
                        effect => self.perform(work, effect),
                    }
                }
                // Where nothing was under way, nothing was held up by what else the step did.
                if was_called
                    && swaps
                    && let Some(swapping) = &mut work.swapping
                {
                    *swapping = stepped.elapsed();
                }
            }
            if std::mem::take(&mut work.look_for_shards) {
                self.look_for_shards(work);
                if !work.events.is_empty() {
                    continue;
                }
            }
            match work.put_off.take() {
                Some(call) if (calls == 0 || began.elapsed() < QUANTUM) && self.turn.may_call() => {
                    calls += 1;
                    // A swap that begins with a whole slice of time is not cut in two where others want the core.
                    if work.machine.running().is_some_and(Running::swaps_next) {
                        std::thread::yield_now();
                    }
                    let called = Instant::now();
                    let twin = work.shadow.as_mut().and_then(|shadow| shadow.joins(&call));
                    let size = deploy::size(&call);
                    let outcome = self.call(work, call);
                    let took = called.elapsed();
                    self.paced(size, took, &outcome);
                    self.shadow(work, twin, took, &outcome);
                    // By the task's own: a shadow that is slow makes no slow task.
                    self.turn.called(took);
                    work.events.push_back(Event::Called(outcome));
                }
                put_off => {
                    if work.swapping.is_none() || put_off.is_none() {
                        work.retire();
                    }
                    work.put_off = put_off;
                    self.let_put_go(work);
                    return;
                }
            }
        }
    }

    /// What was taken out of the mailbox counts there no more.
    fn unqueue(&self, event: &Event) {
        if let Event::Run(run) = event {
            self.mailbox.unqueue(run.weight(), run.len());
        }
    }

    /// Has done what waited for a swap.
    pub(crate) fn let_put_go(&self, work: &mut Work) {
        if let Some(put) = work.held_put.take() {
            self.perform(work, put);
        }
    }

    fn perform(&self, work: &mut Work, effect: Effect) {
        let Some(me) = self.me.upgrade() else { return };
        let runtime = &self.job.runtime;
        match effect {
            Effect::Claim => drop(runtime.spawn(me.claim())),
            Effect::ReadTail => drop(runtime.spawn(me.read_tail())),
            Effect::Put { commit, epoch, attempt } => drop(runtime.spawn(me.put(commit, epoch, attempt))),
            Effect::ReadItem(number) => drop(runtime.spawn(me.read_item(number))),
            Effect::ReadManifests => drop(runtime.spawn(me.read_manifests())),
            Effect::ReadLog(number) => drop(runtime.spawn(me.read_log(number))),
            Effect::Publish { packages, attempt } => drop(runtime.spawn(me.publish(packages, attempt))),
            Effect::Trim(floor) => drop(runtime.spawn(me.trim(floor))),
            Effect::OpenLocal => match &work.store {
                // Of a task that begins anew.
                Some(store) => work.events.push_back(Event::LocalOpened(store.mark())),
                None => drop(runtime.spawn_blocking(move || me.open_local())),
            },
            Effect::ResetLocal => {
                let store = work.store.take().expect("the local copy was opened");
                drop(runtime.spawn_blocking(move || me.reset_local(store)));
            }
            Effect::LoadSnapshot(manifest) => {
                let (store, handle) = (work.store.take().expect("the local copy was opened"), runtime.clone());
                drop(runtime.spawn_blocking(move || me.load_snapshot(&handle, store, &manifest)));
            }
            Effect::Apply(applied) => self.apply(work, &applied),
            Effect::LoadSystem(mark) => {
                work.shadow.iter_mut().for_each(|shadow| shadow.begin_anew());
                self.load_system(work, mark);
            }
            Effect::Ready => self.ready(work),
            Effect::Call(call) => work.put_off = Some(call),
            Effect::Reread(want) => self.job.hub.join(self.id, want),
            Effect::LookForShards => work.look_for_shards = true,
            Effect::Snapshot(snapshot) => self.begin_snapshot(work, snapshot),
            Effect::Rewind(to) => {
                let now = work.store.as_ref().expect("the local copy was opened").reader();
                let (epoch, handle) = (work.machine.epoch(), runtime.clone());
                drop(runtime.spawn(me.rewind(handle, now, to, epoch)));
            }
            Effect::DropInstance => self.drop_instance(work),
            Effect::Swap(assignment) => self.swap(work, assignment),
            Effect::TrialFailed(tried, why) => {
                *lock(&self.came_back_from) = Some(tried.revision);
                drop(runtime.spawn(deploy::take_back(self.job.clone(), Some(self.id), tried.deployment, why)));
            }
            Effect::Stopped(cause) => self.stopped(work, &cause),
        }
    }

    fn ready(&self, work: &mut Work) {
        let found = self.job.idle_found(self.id);
        if !found.is_empty() {
            work.events.push_front(Event::IdleFound(found));
        }
        self.begin_tally(work);
        work.map = self.job.hub.map();
        work.look_for_shards = true;
        // Once, however often it begins anew.
        if !self.was_ready.swap(true, Ordering::Relaxed) {
            self.job.task_ready();
        }
    }

    /// Asks for readers of the shards that the task needs now.
    fn look_for_shards(&self, work: &mut Work) {
        let now_ms = self.now_ms();
        for want in work.machine.wants(&work.map) {
            let retention_ms = self.job.hub.retention_ms(want.shard.stream);
            if let Some(gone_until_ms) = want.gap(now_ms, retention_ms) {
                work.events.push_back(Event::Lost(want.shard, Gap::Until(gone_until_ms)));
                continue;
            }
            self.job.hub.join(self.id, want);
        }
        for orphan in work.machine.orphans(&work.map) {
            self.job.hub.look_for(self.id, orphan);
        }
    }

    fn stopped(&self, work: &mut Work, cause: &StopCause) {
        (work.guest, work.retired, work.unborn, work.put_off) = (None, None, None, None);
        work.drop_shadow();
        drop(lock(&self.prepared).take());
        for event in work.events.drain(..) {
            self.unqueue(&event);
        }
        self.job.hub.leave(self.id);
        self.forget_told();
        match cause {
            StopCause::Asked => tracing::debug!("task {} of job {}: {cause}", self.id, self.spec().meta.name),
            cause => tracing::error!("task {} of job {} stopped: {cause}", self.id, self.spec().meta.name),
        }
        lock(&self.status).cause = Some(cause.to_string());
        self.job.task_stopped();
        // Behind it, since it may begin anew from here on.
        *lock(&self.stopped_for) = cause.is_of_assignment().then(|| work.machine.assignment().clone());
    }
}
