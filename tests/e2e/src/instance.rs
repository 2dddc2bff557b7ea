//! One instance of a component in this process, without a host around it: called by hand, with whatever limits and
//! invocation a test likes.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use pelton_core::id::{DeploymentNumber, Incarnation, ShardId, ShardKey, StreamIndex, TaskId};
use pelton_core::position::{Position, RecordPlace};
use pelton_core::record::{Fetch, Record, Run};
use pelton_core::sequence::SequenceNumber;
use pelton_core::slice::TaskCount;
use pelton_engine::guest::{
    CallEffects, Granted, Guest, GuestFault, GuestLines, GuestLog, Identity, Invocation, LogOrigin, View,
};
use pelton_engine::store::LocalStore;
use pelton_engine::{Compiler, Grants, GuestLimits, GuestRuntime, Program, Room, digest_of};
use tempfile::TempDir;

use crate::process::component;

/// Time and seed of a call that does not care.
pub const SOME: Invocation = Invocation { time_ms: 1_700_000_000_000, seed: 7 };

/// A component, and who it is called as.
pub struct Instance {
    /// What a test may change before it calls.
    pub identity: Identity,
    program: Arc<Program>,
    store: LocalStore,
    _folder: TempDir,
}

impl Instance {
    /// A component that `make guests` built, as the only task of a job with these limits.
    ///
    /// # Errors
    /// When it is not there, or cannot run as a task.
    pub fn of(name: &str, limits: GuestLimits) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let bytes = std::fs::read(component(name)?)?;
        let guests = GuestRuntime::new(&folder.path().join("compiled"), Room::for_tasks(1), Compiler::Here)?;
        let program = guests.load(digest_of(&bytes), &bytes)?;
        let store = open(folder.path())?;
        let tasks = TaskCount::new(1).expect("one task is a number of tasks");
        let (job, deployment) = (Arc::from("test"), DeploymentNumber(1));
        let origin = LogOrigin { job, task: TaskId(0), deployment, shadow: false };
        let identity = Identity {
            job: origin.job.clone(),
            task: TaskId(0),
            tasks,
            slice: tasks.slice(TaskId(0)),
            deployment,
            config: Arc::default(),
            outputs: Arc::new(["out".to_owned()].into()),
            incarnation: Incarnation::default(),
            limits: GuestLimits { batch_timeout_ms: 20_000, ..limits },
            granted: Arc::new(Granted::new(Grants::default())),
            log: Arc::new(GuestLog::new(origin, limits.log_lines_max, GuestLines::new(|| 0))),
        };
        Ok(Self { identity, program, store, _folder: folder })
    }

    /// Its local state.
    pub fn store(&mut self) -> &mut LocalStore {
        &mut self.store
    }

    /// What a call sees when nothing is open or sealed.
    pub fn view(&self) -> View {
        View { over: None, open: Arc::default(), sealed: None, local: self.store.reader() }
    }

    /// A fresh instance.
    ///
    /// # Errors
    /// When it cannot begin.
    pub fn start(&self) -> Result<Guest, GuestFault> {
        self.program.start(&self.identity, self.view(), SOME)
    }

    /// Has a fresh instance process these texts as the records of one batch.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn call(&self, texts: &[&str], invocation: Invocation) -> Result<CallEffects, GuestFault> {
        let view = View { over: None, open: Arc::default(), sealed: None, local: self.store.reader() };
        let guest = self.program.start(&self.identity, view.clone(), invocation)?;
        let streams: Arc<[String]> = ["in".to_owned()].into();
        let (_, effects) = guest.process(&[run(texts)], &streams, invocation, 0, view)?;
        Ok(effects)
    }
}

fn open(folder: &Path) -> Result<LocalStore> {
    Ok(LocalStore::open(&folder.join("state"), Incarnation::default(), TaskId(0), 1 << 20)?.store)
}

fn run(texts: &[&str]) -> Run {
    run_of(records(texts.iter().map(|text| ("key", text.as_bytes()))))
}

/// Records from their keys and data, one after another.
pub fn records<'a>(records: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<Record> {
    let record = |(at, (key, data)): (usize, (&str, &[u8]))| Record {
        place: RecordPlace { sequence: SequenceNumber([0, 0, at as u64 + 1]), sub_sequence: 0 },
        arrived_ms: SOME.time_ms,
        partition_key: key.into(),
        data: Bytes::copy_from_slice(data),
        output: None,
    };
    records.into_iter().enumerate().map(record).collect()
}

/// Records as one run of a shard.
pub fn run_of(records: Vec<Record>) -> Run {
    let count = records.len();
    let fetch = Fetch { records, order: (0..count as u32).collect(), ..Fetch::default() };
    Run {
        after: Position::TrimHorizon,
        up_to: Position::ShardEnd,
        unread_from_ms: 0,
        shard: ShardKey { stream: StreamIndex(0), shard: ShardId("shardId-000000000000".into()) },
        fetch: Some(Arc::new(fetch)),
        span: 0..count,
        asides: 0..0,
        gap: None,
    }
}
