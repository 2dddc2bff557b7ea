//! The world: one queue of things to happen, ordered by time, and everything they happen to. Nothing in it is random but
//! its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::Arc;

use bytes::Bytes;
use pelton_core::commit::StoredCommit;
use pelton_core::dead_letter::DeadLetter;
use pelton_core::feed::{Feed, FeedNext};
use pelton_core::id::{CommitNumber, DeploymentNumber, Epoch, Incarnation, ShardId, ShardKey, TaskId};
use pelton_core::intake::Want;
use pelton_core::job::{Input, JobMeta, Start};
use pelton_core::limits::{ARRIVAL_MARGIN_MS, CLOCK_MARGIN_MS};
use pelton_core::output::Package;
use pelton_core::rollout::Rollout;
use pelton_core::shard::ShardMap;
use pelton_core::slice::TaskCount;
use pelton_core::snapshot::Manifest;
use pelton_core::task::{Assignment, Call, Event, RewindTo, Task};

use crate::downstream::Downstream;
use crate::dynamo::{TaskItems, Write};
use crate::kinesis::{Iterator, Kinesis, Put};
use crate::mutants::{Mutant, Slip};
use crate::oracle::{Oracle, Who};
use crate::promise::Verdict;
use crate::rng::Rng;
use crate::shape::{Coverage, Faults, Shape};
use crate::store::{State, Store};
use crate::traffic;
use crate::upstream::Upstream;

/// How long a call hangs that is made to, milliseconds.
pub const HANG_MS: u64 = 400_000;
/// How far a clock is off, at most, and a record's time of arrival, milliseconds: together less than the rules' margin.
pub const CLOCK_OFF_MS_MAX: u64 = CLOCK_MARGIN_MS;
/// See [`CLOCK_OFF_MS_MAX`].
pub const ARRIVAL_OFF_MS_MAX: u64 = 40_000;
const _: () = assert!(ARRIVAL_OFF_MS_MAX + CLOCK_OFF_MS_MAX < ARRIVAL_MARGIN_MS);
/// When the world begins, milliseconds since 1970.
pub const EPOCH_MS: u64 = 1_700_000_000_000;

/// A call to the fake DynamoDB or the sink, on its way. It arrives whatever becomes of its sender.
#[derive(Clone, Debug)]
pub enum Request {
    Claim { answered: bool },
    ReadTail,
    Put { commit: Arc<StoredCommit>, epoch: Epoch, answered: bool },
    ReadItem(CommitNumber),
    ReadManifests,
    ReadLog(CommitNumber),
    ReadIdle,
    Publish { packages: Vec<Package>, answered: bool },
    Manifest { manifest: Manifest, answered: bool },
}

/// Work of a host that takes several calls: a crash ends it where it is.
#[derive(Clone, Debug)]
pub enum Chore {
    Stage { commit: Arc<StoredCommit>, epoch: Epoch, part: u32 },
    Snapshot { manifest: Manifest, parts: Arc<Vec<Vec<(Bytes, Bytes)>>>, part: u32 },
    Load { manifest: Manifest, part: u32, state: State },
    Trim(CommitNumber),
    Rewind(RewindTo),
    Call(Call),
}

/// Something that happens.
#[derive(Debug)]
pub enum Action {
    Put,
    Upstream(usize),
    Late(usize, Put),
    Trim,
    Reshard,
    Whim(usize),
    Restart(usize),
    Tick(usize, u32),
    List(usize, u32),
    SaveIdle(usize, u32),
    Fsync(usize, u32),
    Serve(Who, Request),
    Land(TaskId, Write),
    Answer(Who, Box<Event>),
    Assign(Who),
    Work(Who, Chore),
    Feed(usize, u32, ShardKey, u64),
    Read(usize, u32, ShardKey, FeedNext),
}

/// A task as a host runs it.
#[derive(Debug)]
pub struct Instance {
    pub who: Who,
    pub task: Task,
    /// It was told of idle positions and may want shards.
    pub ready: bool,
    /// Feeds that its full mailbox pushed back.
    pub full: BTreeSet<ShardKey>,
    /// What its calls are made with.
    pub assignment: Assignment,
    /// Calls that failed since, where that is on trial.
    pub trial_failures: u32,
    /// What it sent last.
    pub sent: Option<Arc<StoredCommit>>,
    /// Shards it wants that it is made to wait for.
    pub deferred: Vec<Want>,
}

/// A shard's feed on one host.
#[derive(Debug)]
pub struct Reader {
    pub feed: Feed,
    pub iterators: BTreeMap<pelton_core::feed::Lane, Iterator>,
    pub busy: bool,
    /// Only the newest wake-up counts.
    pub token: u64,
}

/// A host.
#[derive(Debug, Default)]
pub struct Host {
    pub life: u32,
    pub up: bool,
    pub asleep_until: u64,
    /// How far its clock is off, milliseconds.
    pub clock_off_ms: i64,
    pub map: ShardMap,
    /// Shards that no listing shows, and who waits to learn of them.
    pub asked: BTreeSet<(ShardKey, Who)>,
    pub readers: BTreeMap<ShardKey, Reader>,
    pub tasks: BTreeMap<TaskId, Instance>,
    pub stores: BTreeMap<TaskId, Store>,
}

/// Everything.
pub struct World {
    /// Whether a line is kept of everything that happens.
    pub traced: bool,
    pub rng: Rng,
    pub shape: Shape,
    pub faults: Faults,
    pub slip: Option<Slip>,
    pub now: u64,
    queue: BTreeMap<(u64, u64), Box<Action>>,
    queued: u64,
    pub meta: Arc<JobMeta>,
    pub kinesis: Kinesis,
    pub table: Vec<TaskItems>,
    pub oracle: Oracle,
    pub hosts: Vec<Host>,
    pub instances: u32,
    /// What the tasks are to run.
    pub rollout: Rollout,
    /// The newest deployment.
    pub deployments: DeploymentNumber,
    /// A task whose calls hang, in the end.
    pub hung: Option<TaskId>,
    /// Things that happened.
    pub steps: u64,
    pub cover: Coverage,
    /// The only host that may run, in the end.
    pub heir: Option<usize>,
    pub traffic_until: u64,
    pub upstream: Vec<Upstream>,
    pub downstream: Downstream,
    /// Whether shards are forgotten that were not read to their end.
    pub trims: bool,
    /// Aggregates that may be sent again, each with its stream.
    pub aggregates: Vec<(usize, Put)>,
    /// Dead letters as they stood once.
    pub letters_seen: Vec<(TaskId, u64, DeadLetter)>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, mutant: Option<Mutant>, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut shape = Shape::new(&mut rng);
        if rng.chance(1_500) {
            shape = shape.forgetful(&mut rng);
        }
        let mut kinesis = Kinesis::new(&mut rng, shape.streams, shape.shards);
        let mut now = EPOCH_MS + 100_000;
        traffic::before_creation(&mut rng, &shape, &mut kinesis, &mut now);
        let newest = |stream: u64| kinesis.list(stream as usize, 0).into_iter().map(|shard| shard.id).max();
        let input = |stream: u64| Input {
            name: format!("in-{stream}"),
            arn: String::new(),
            created_ms: EPOCH_MS,
            newest_shard: newest(stream).unwrap_or(ShardId::from("")),
            listed: kinesis.list(stream as usize, 0).into_iter().map(|shard| (shard.id, shard.range)).collect(),
        };
        let meta = JobMeta {
            name: "sim".into(),
            incarnation: Incarnation(rng.bytes16()),
            tasks: TaskCount::new(shape.tasks).expect("the shape has tasks"),
            inputs: (0..shape.streams).map(input).collect(),
            start: if rng.chance(3_000) {
                Start::At(now - if rng.chance(5_000) { rng.below(80_000) } else { 0 })
            } else {
                Start::TrimHorizon
            },
            created_ms: now,
            policies: shape.policies,
        };
        let blunder = if let Some(Mutant::Blunder(blunder)) = mutant { Some(blunder) } else { None };
        let oracle = Oracle::new(meta.clone(), &shape, &kinesis, blunder);
        let downstream = Downstream::new(&mut rng);
        let table = (0..shape.tasks).map(|_| TaskItems::default()).collect();
        // Hosts may start long after the job was created, so that bounds on arrival times have room to rise.
        now += if rng.chance(5_000) { rng.below(120_000) } else { rng.below(2_000) };
        let mut world = Self {
            traced,
            rng,
            shape,
            faults: shape.faults,
            slip: if let Some(Mutant::Slip(slip)) = mutant { Some(slip) } else { None },
            now,
            queue: BTreeMap::new(),
            queued: 0,
            meta: Arc::new(meta),
            kinesis,
            table,
            oracle,
            hosts: Vec::new(),
            instances: 0,
            rollout: Rollout::first(DeploymentNumber(1)),
            deployments: DeploymentNumber(1),
            hung: None,
            steps: 0,
            cover: Coverage::default(),
            heir: None,
            traffic_until: now + shape.traffic_ms,
            upstream: (0..shape.upstream).map(|task| Upstream::new(task as u16, shape.upstream_streams)).collect(),
            downstream,
            trims: shape.retention_ms.is_some(),
            aggregates: Vec::new(),
            letters_seen: Vec::new(),
        };
        for host in 0..shape.hosts as usize {
            world.add_host();
            let first = world.first_start();
            world.after(first, Action::Restart(host));
            world.after(500, Action::Whim(host));
        }
        for task in 0..world.upstream.len() {
            world.after(0, Action::Upstream(task));
        }
        if shape.retention_ms.is_some() {
            world.after(0, Action::Trim);
        }
        world.after(0, Action::Put);
        world.after(shape.reshard_every_ms, Action::Reshard);
        world
    }

    /// When a host starts first: at once, or where streams forget just when they begin to.
    fn first_start(&mut self) -> u64 {
        let Some(retention_ms) = self.shape.retention_ms else { return 0 };
        if self.rng.chance(3_000) { retention_ms + self.rng.below(30_000) - 15_000 } else { 0 }
    }

    /// Adds a host that was never up.
    pub fn add_host(&mut self) -> usize {
        let clock_off_ms = self.some_clock();
        self.hosts.push(Host { clock_off_ms, ..Host::default() });
        self.hosts.len() - 1
    }

    /// Has something happen later.
    pub fn after(&mut self, pause_ms: u64, action: Action) {
        self.queued += 1;
        self.queue.insert((self.now + pause_ms, self.queued), Box::new(action));
    }

    /// How long a call is on its way: mostly not, sometimes very.
    pub fn delay(&mut self) -> u64 {
        match self.rng.below(100) {
            0 => self.rng.below(3_000),
            1..=9 => self.rng.below(300),
            _ => self.rng.below(20),
        }
    }

    /// Something goes wrong, by chance.
    pub fn goes_wrong(&mut self, of_ten_thousand: u64) -> bool {
        of_ten_thousand > 0 && self.rng.chance(of_ten_thousand)
    }

    /// Ends the run where something that must hold does not.
    pub fn check(&self, verdict: Verdict) {
        if let Err(wrong) = verdict {
            resume_unwind(Box::new(wrong));
        }
    }

    /// The time by a host's clock.
    pub fn host_now(&self, host: usize) -> u64 {
        self.now.saturating_add_signed(self.hosts[host].clock_off_ms)
    }

    /// How far a clock is off.
    pub fn some_clock(&mut self) -> i64 {
        self.rng.between(0, 2 * CLOCK_OFF_MS_MAX) as i64 - CLOCK_OFF_MS_MAX as i64
    }

    /// Lets things happen until a time, or until it is done. Returns whether it was.
    pub fn run(&mut self, until: u64, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let mut look = self.now;
        while let Some(entry) = self.queue.first_entry() {
            let at = entry.key().0;
            if at > until {
                break;
            }
            let action = *entry.remove();
            self.steps += 1;
            self.now = self.now.max(at);
            self.kinesis.now_ms = self.now;
            self.happen(action);
            if self.now >= look {
                look = self.now + 100;
                if done(self) {
                    return true;
                }
            }
        }
        self.now = self.now.max(until);
        done(self)
    }

    fn happen(&mut self, action: Action) {
        if let Some((host, life)) = host_of(&action) {
            if self.hosts[host].life != life || !self.hosts[host].up {
                return;
            }
            let asleep = self.hosts[host].asleep_until.saturating_sub(self.now);
            if asleep > 0 {
                return self.after(asleep, action);
            }
        }
        match action {
            Action::Put => self.put_records(),
            Action::Upstream(task) => self.step_upstream(task),
            Action::Late(stream, put) => self.put_raw(stream, &put),
            Action::Trim => self.trim_streams(),
            Action::Reshard => self.reshard(),
            Action::Whim(host) => self.whim(host),
            Action::Restart(host) => self.restart(host),
            Action::Tick(host, life) => self.tick(host, life),
            Action::List(host, life) => self.list(host, life),
            Action::SaveIdle(host, life) => self.save_idle(host, life),
            Action::Fsync(host, life) => self.fsync(host, life),
            Action::Serve(who, request) => self.serve(who, request),
            Action::Land(task, write) => self.table[usize::from(task.0)].land(write),
            Action::Answer(who, event) => self.step(who, *event),
            Action::Assign(who) => self.assign(who),
            Action::Work(who, chore) => self.work(who, chore),
            Action::Feed(host, _, shard, token) => self.feed(host, &shard, token),
            Action::Read(host, _, shard, next) => self.read(host, &shard, next),
        }
    }

    /// Records and reshards stop, nothing goes wrong any more, and one host is left.
    pub fn heal(&mut self, heir: usize) {
        self.faults = Faults::default();
        self.oracle.lift_bounds();
        self.shape.call_ms = 20;
        self.shape.fetch_records = self.shape.fetch_records.max(50);
        self.shape.mailbox_records = self.shape.mailbox_records.max(200);
        self.shape.commit_interval_ms = self.shape.commit_interval_ms.max(500);
        let bounds = &mut self.shape.bounds;
        bounds.batch_records_max = bounds.batch_records_max.max(50);
        bounds.seal_invocations = bounds.seal_invocations.max(50);
        self.heir = Some(heir);
        for host in 0..self.hosts.len() {
            self.hosts[host].asleep_until = 0;
            if host != heir && self.hosts[host].up {
                self.crash(host);
            }
        }
        if !self.hosts[heir].up {
            self.after(0, Action::Restart(heir));
        }
    }
}

/// Which life of which host must be there for it.
fn host_of(action: &Action) -> Option<(usize, u32)> {
    match action {
        Action::Put
        | Action::Upstream(_)
        | Action::Late(..)
        | Action::Trim
        | Action::Reshard
        | Action::Whim(_)
        | Action::Restart(_)
        | Action::Serve(..)
        | Action::Land(..) => None,
        Action::Tick(host, life)
        | Action::List(host, life)
        | Action::SaveIdle(host, life)
        | Action::Fsync(host, life)
        | Action::Feed(host, life, ..)
        | Action::Read(host, life, ..) => Some((*host, *life)),
        Action::Answer(who, _) | Action::Work(who, _) | Action::Assign(who) => Some((who.host, who.life)),
    }
}
