//! The wasm engine of a process: one pool of instances for all jobs.
//! The engine of a compiler differs from it in nothing that compiled code depends on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::compiler::Compiler;
use super::instance::{GuestFault, HostState};
use super::limits::{CORE_PARTS_MAX, EPOCH_MS, MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX};
use super::room::{MEMORIES_PER_INSTANCE, Room, TABLES_PER_INSTANCE};
use super::{bindings, keyvalue_draft2, outbound, sockets, waiting, wasi};

/// The wasm engine of a process.
pub struct GuestRuntime {
    pub(super) engine: Engine,
    pub(super) linker: Linker<HostState>,
    /// For guests whose `wasi:keyvalue/batch@0.2.0-draft2` is the older of the two there are.
    pub(super) older_linker: Linker<HostState>,
    pub(super) cache_dir: PathBuf,
    pub(super) compiler: Compiler,
    room: Room,
    /// What is left of the room beside the tasks' own.
    beside: Arc<Semaphore>,
    stopping: Arc<AtomicBool>,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
#[error("starting the wasm engine: {0}")]
pub struct RuntimeError(String);

impl RuntimeError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(format!("{error:#}"))
    }
}

impl GuestRuntime {
    /// An engine with room for instances; compiled code is kept in a folder that only this user reads, and made
    /// by a compiler.
    ///
    /// # Errors
    /// When the folder cannot be made, or the system has not the address space.
    pub fn new(cache_dir: &Path, room: Room, compiler: Compiler) -> Result<Arc<Self>, RuntimeError> {
        make_private(cache_dir).map_err(|error| {
            RuntimeError(format!("making the folder for compiled components {}: {error}", cache_dir.display()))
        })?;
        let engine = Engine::new(&config(pool(room.instances())));
        let engine = engine.map_err(|error| RuntimeError(format!("{error:#}; a host of fewer tasks needs less")))?;
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker).map_err(RuntimeError::of)?;
        outbound::link(&mut linker).map_err(RuntimeError::of)?;
        waiting::link(&mut linker).map_err(RuntimeError::of)?;
        sockets::link(&mut linker).map_err(RuntimeError::of)?;
        bindings::timed::TimerTask::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |state| state)
            .map_err(RuntimeError::of)?;
        bindings::list::Task::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |state| state)
            .map_err(RuntimeError::of)?;
        bindings::stores::StoreTask::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |state| state)
            .map_err(RuntimeError::of)?;
        let mut older_linker = linker.clone();
        keyvalue_draft2::link_older(&mut older_linker).map_err(RuntimeError::of)?;
        let stopping = Arc::new(AtomicBool::new(false));
        tick(engine.clone(), stopping.clone()).map_err(RuntimeError::of)?;
        let beside = Arc::new(Semaphore::new(room.beside as usize));
        let cache_dir = cache_dir.into();
        Ok(Arc::new(Self { engine, linker, older_linker, cache_dir, compiler, room, beside, stopping }))
    }

    /// Room for an instance beside those that the tasks have.
    pub(super) fn room_beside(&self) -> Result<OwnedSemaphorePermit, GuestFault> {
        let all = self.room.beside;
        let full = |_| GuestFault::NoRoom(format!("{all} are all it may have beside those of its tasks"));
        self.beside.clone().try_acquire_owned().map_err(full)
    }
}

impl Drop for GuestRuntime {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// An engine that only compiles: what it makes of a component, that of any [`GuestRuntime`] can run.
pub(super) fn compiling_engine() -> wasmtime::Result<Engine> {
    Engine::new(&config(InstanceAllocationStrategy::OnDemand))
}

fn pool(instances_max: u32) -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    // These are only counted, and take nothing beforehand.
    let core_instances = instances_max.saturating_mul(CORE_PARTS_MAX);
    // These are address space. A guest of an interpreted language has three memories, two tables; most others one of each.
    let memories = instances_max.saturating_mul(MEMORIES_PER_INSTANCE);
    let tables = instances_max.saturating_mul(TABLES_PER_INSTANCE);
    pool.total_component_instances(instances_max)
        .total_core_instances(core_instances)
        .total_memories(memories)
        .total_tables(tables)
        .total_stacks(0)
        .max_core_instances_per_component(CORE_PARTS_MAX)
        // Who checks a component names what it has too many of; the engine would only refuse it.
        .max_memories_per_component(CORE_PARTS_MAX)
        .max_tables_per_component(CORE_PARTS_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(MEMORY_BYTES_MAX)
        .linear_memory_keep_resident(64 * 1024)
        .table_keep_resident(64 * 1024);
    InstanceAllocationStrategy::Pooling(pool)
}

fn config(allocation: InstanceAllocationStrategy) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(allocation)
        .concurrency_support(false)
        .epoch_interruption(true)
        .parallel_compilation(true)
        .wasm_component_model(true);
    config
}

/// Moves the epoch on, by which calls that take too long are ended. A plain thread, so that nothing else holds it up.
fn tick(engine: Engine, stopping: Arc<AtomicBool>) -> std::io::Result<()> {
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        while !stopping.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(EPOCH_MS));
            engine.increment_epoch();
        }
    })?;
    Ok(())
}

/// Makes a folder that only this user may enter.
fn make_private(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}
