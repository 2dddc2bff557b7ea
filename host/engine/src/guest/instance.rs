//! One live instance of a component, owned by one task. Its memory is a cache: a call that fails drops the instance.

mod fault;
mod unborn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pelton_core::dead_letter::Timer;
use pelton_core::id::{DeploymentNumber, Incarnation, TaskId};
use pelton_core::output::Output;
use pelton_core::record::Run;
use pelton_core::slice::{HashRange, TaskCount};
use pelton_core::timers::TimerChange;
use pelton_core::write_set::WriteSet;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;

use super::arena;
use super::bindings::flat::BatchTask;
use super::bindings::flat::exports::pelton::task::batch_processor::Batch;
use super::bindings::list::Task;
use super::bindings::list::pelton::task::types;
use super::bindings::timed::TimerTask;
use super::bindings::timed::exports::pelton::task::timer_handler::DueTimer;
use super::clock::Ambient;
use super::component::{Program, ProgramKind};
use super::grants::Granted;
use super::growth::Growth;
use super::limits::{CALL_BYTES_MAX, EPOCH_MS, GuestLimits, HANDLES_MAX, RESOURCES_MAX};
use super::log::GuestLog;
use super::outbound::{self, Outbound};
use super::state::LayeredState;
use super::timers::CallTimers;
use super::wasi;
use crate::store::StateReader;
use fault::{cut, fault, unstarted};

pub use super::bindings::list::pelton::task::types::FailureKind;
pub use fault::GuestFault;
pub use unborn::{NotAhead, Unborn};

/// Who an instance is, and what it may use.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Name of the job.
    pub job: Arc<str>,
    /// Which task.
    pub task: TaskId,
    /// Of how many.
    pub tasks: TaskCount,
    /// Its part of the hash space.
    pub slice: HashRange,
    /// The deployment it belongs to.
    pub deployment: DeploymentNumber,
    /// The deployment's configuration.
    pub config: Arc<BTreeMap<String, String>>,
    /// Names it may emit to.
    pub outputs: Arc<BTreeSet<String>>,
    /// Of the job.
    pub incarnation: Incarnation,
    /// What it may use.
    pub limits: GuestLimits,
    /// What it is granted beside its own task; [`Granted::for_shadow`] where it must have no consequence.
    pub granted: Arc<Granted>,
    /// Where its lines go.
    pub log: Arc<GuestLog>,
}

/// What a call reads through, below its own writes.
#[derive(Clone)]
pub struct View {
    /// Where the state of a shadow differs from its task's.
    pub over: Option<Arc<WriteSet>>,
    /// Folded and not sealed.
    pub open: Arc<WriteSet>,
    /// Sealed and not known to be durable.
    pub sealed: Option<Arc<WriteSet>>,
    /// Durable.
    pub local: StateReader,
}

/// What a guest observes of when it is called.
#[derive(Clone, Copy, Debug)]
pub struct Invocation {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// For its random numbers.
    pub seed: u64,
}

/// What a call that succeeded did.
#[derive(Debug)]
pub struct CallEffects {
    /// Its writes.
    pub writes: WriteSet,
    /// Its outputs, in order.
    pub outputs: Vec<Output>,
    /// What it did to timers.
    pub timers: Vec<TimerChange>,
}

/// What the host keeps for an instance.
pub struct HostState {
    pub(super) identity: Identity,
    pub(super) state: LayeredState,
    pub(super) outputs: Vec<Output>,
    pub(super) output_bytes: usize,
    pub(super) timers: CallTimers,
    pub(super) read_only: bool,
    pub(super) growth: Growth,
    /// Whether its calls are looked at from the next tick of the epoch on, and not at their limit.
    pub(super) is_hurried: bool,
    /// Where listings of keys stopped in this call, by number from 1.
    pub(super) cursors: Vec<Vec<u8>>,
    pub(super) ambient: Arc<Ambient>,
    wasi: WasiCtx,
    pub(super) http: WasiHttpCtx,
    pub(super) outbound: Outbound,
    pub(super) resources: ResourceTable,
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

enum Exports {
    List(Task),
    Flat(BatchTask, Box<Batch>),
}

/// One live instance.
pub struct Guest {
    pub(super) store: Store<HostState>,
    exports: Exports,
    timer_handler: Option<TimerTask>,
    ambient: Arc<Ambient>,
    /// Of one that is beside a task's own.
    beside: Option<OwnedSemaphorePermit>,
}

impl Program {
    /// Instantiates the component for a task, as its only instance. What runs meanwhile sees no state, and a time and chance that are
    /// always the same.
    ///
    /// # Errors
    /// When it traps, takes longer than this many milliseconds, or needs more than it may have.
    pub fn prepare(&self, identity: &Identity, timeout_ms: u64) -> Result<Unborn, GuestFault> {
        self.make(identity, timeout_ms, None)
    }

    /// Instantiates the component for a task that has an instance. It takes the room of no other task's.
    ///
    /// # Errors
    /// As for [`Program::prepare`], and when there is no room beside the tasks' own.
    pub fn prepare_beside(&self, identity: &Identity, timeout_ms: u64) -> Result<Unborn, GuestFault> {
        self.make(identity, timeout_ms, Some(self.runtime.room_beside()?))
    }

    fn make(
        &self,
        identity: &Identity,
        timeout_ms: u64,
        beside: Option<OwnedSemaphorePermit>,
    ) -> Result<Unborn, GuestFault> {
        self.granted_by(identity.granted.grants())?;
        let ambient = Arc::new(Ambient::default());
        let seed = u128::from_be_bytes(identity.incarnation.0) ^ u128::from(identity.task.0);
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(RESOURCES_MAX);
        let state = HostState {
            identity: identity.clone(),
            state: LayeredState::default(),
            outputs: Vec::new(),
            output_bytes: 0,
            timers: CallTimers::default(),
            read_only: true,
            growth: Growth::new(identity.limits),
            is_hurried: false,
            cursors: Vec::new(),
            wasi: wasi::context(&ambient, &identity.log, seed, identity.granted.grants()),
            http: outbound::context(),
            outbound: Outbound::new(identity.granted.clone(), identity.log.clone(), ambient.calls.clone()),
            ambient: ambient.clone(),
            resources,
        };
        let mut store = Store::new(&self.runtime.engine, state);
        store.limiter(|state| &mut state.growth);
        store.set_hostcall_fuel(CALL_BYTES_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        deadline(&mut store, timeout_ms.min(identity.limits.batch_timeout_ms), false);
        let (exports, timer_handler) = self.instantiate(&mut store).map_err(|error| unstarted(&store, &error))?;
        Ok(Unborn::new(Guest { store, exports, timer_handler, ambient, beside }))
    }

    /// Instantiates the component for a task and has it begin.
    ///
    /// # Errors
    /// As for [`Program::prepare`] and [`Unborn::begin`].
    pub fn start(&self, identity: &Identity, view: View, invocation: Invocation) -> Result<Guest, GuestFault> {
        self.prepare(identity, u64::MAX)?.begin(view, invocation)
    }
}

impl Program {
    fn instantiate(&self, store: &mut Store<HostState>) -> wasmtime::Result<(Exports, Option<TimerTask>)> {
        let (exports, instance) = match &self.kind {
            ProgramKind::List(pre, exports) => {
                let instance = pre.instantiate(&mut *store)?;
                (Exports::List(exports.load(&mut *store, &instance)?), instance)
            }
            ProgramKind::Flat(pre, exports) => {
                let instance = pre.instantiate(&mut *store)?;
                (Exports::Flat(exports.load(&mut *store, &instance)?, Box::new(empty())), instance)
            }
        };
        let handler = self.timer_handler.as_ref().map(|handler| handler.load(&mut *store, &instance)).transpose()?;
        Ok((exports, handler))
    }
}

impl Guest {
    /// It is the task's own from now on: the one before is gone.
    pub fn take_place(&mut self) {
        self.beside = None;
    }

    /// Calls the logic with records. The guest comes back only if it succeeded.
    ///
    /// # Errors
    /// When the logic fails, traps or takes too long: nothing it wrote or emitted is kept, and the instance is gone.
    pub fn process(
        mut self,
        runs: &[Run],
        streams: &Arc<[String]>,
        invocation: Invocation,
        timers: usize,
        view: View,
    ) -> Result<(Self, CallEffects), GuestFault> {
        begin(&mut self.store, &self.ambient, view, invocation, false);
        self.store.data_mut().timers.begin(timers);
        let answer = match &mut self.exports {
            Exports::List(task) => {
                let records = arena::list(runs, streams);
                task.pelton_task_processor().call_process(&mut self.store, &records)
            }
            Exports::Flat(task, batch) => {
                arena::fill(batch, runs, streams);
                task.pelton_task_batch_processor().call_process(&mut self.store, batch)
            }
        };
        self.ended(answer)
    }

    /// Calls the logic with timers that are due. The guest comes back only if it succeeded.
    ///
    /// # Errors
    /// As for [`Guest::process`].
    pub fn fire(
        mut self,
        due: &[Timer],
        invocation: Invocation,
        timers: usize,
        view: View,
    ) -> Result<(Self, CallEffects), GuestFault> {
        let Some(handler) = &self.timer_handler else {
            // However often they are tried: what has them is an earlier component that was gone back to.
            let message = "timers are due, and this component has no timer-handler to fire them".into();
            return Err(GuestFault::Failed { kind: FailureKind::Poison, index: None, message, refused: None });
        };
        begin(&mut self.store, &self.ambient, view, invocation, false);
        self.store.data_mut().timers.begin(timers);
        let due: Vec<_> = due.iter().map(|timer| DueTimer { name: timer.name.clone(), due: timer.due_ms }).collect();
        let answer = handler.pelton_task_timer_handler().call_fire(&mut self.store, &due);
        self.ended(answer)
    }

    fn ended(
        mut self,
        answer: wasmtime::Result<Result<(), types::Failure>>,
    ) -> Result<(Self, CallEffects), GuestFault> {
        let state = self.store.data_mut();
        let refused = state.growth.refused;
        let outputs = std::mem::take(&mut state.outputs);
        let effects = CallEffects { writes: state.state.end(), outputs, timers: state.timers.end() };
        match answer {
            Ok(Ok(())) => Ok((self, effects)),
            Ok(Err(types::Failure { kind, index, message })) => {
                Err(GuestFault::Failed { kind, index, message: cut(message), refused })
            }
            Err(error) => Err(fault(&self.store, &error)),
        }
    }
}

fn begin(store: &mut Store<HostState>, ambient: &Ambient, view: View, invocation: Invocation, read_only: bool) {
    ambient.begin(invocation.time_ms, invocation.seed);
    let timeout_ms = store.data().identity.limits.batch_timeout_ms;
    deadline(store, timeout_ms, !read_only);
    let state = store.data_mut();
    state.state.begin(view, &state.identity.limits, read_only);
    state.outputs.clear();
    state.output_bytes = 0;
    state.read_only = read_only;
    state.growth.refused = None;
    state.cursors.clear();
}

fn deadline(store: &mut Store<HostState>, timeout_ms: u64, may_call_others: bool) {
    store.data_mut().outbound.begin(timeout_ms, may_call_others);
    let ticks = if store.data().is_hurried { 1 } else { timeout_ms.div_ceil(EPOCH_MS) };
    // One tick more, because the present one is partly over.
    store.set_epoch_deadline(ticks + 1);
}

fn empty() -> Batch {
    Batch { streams: Vec::new(), shards: Vec::new(), arena: Vec::new(), spans: Vec::new(), numbers: Vec::new() }
}
