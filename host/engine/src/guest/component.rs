//! Components: checked, compiled, and kept compiled by the digest of their bytes and the engine's hash.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pelton_core::id::Digest;
use sha2::{Digest as _, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};

use super::bindings::{flat, list, timed};
use super::compiler::CompileError;
use super::grants::Grants;
use super::instance::HostState;
use super::limits::COMPILE_WAIT_S_MAX;
use super::outbound::HANDLER;
use super::runtime::GuestRuntime;
use super::sockets::INTERFACES;

/// The export of a task that takes lists of records.
const PROCESSOR: &str = "pelton:task/processor@0.1.0";
/// The export of a task that takes flat batches.
const BATCH_PROCESSOR: &str = "pelton:task/batch-processor@0.1.0";

/// The export of a task that has timers.
const TIMER_HANDLER: &str = "pelton:task/timer-handler@0.1.0";
/// The import of a task that sets timers.
const TIMERS: &str = "pelton:task/timers@0.1.0";
/// The import of which there are two by one name.
const KEYVALUE_BATCH: &str = "wasi:keyvalue/batch@0.2.0-draft2";

/// Why bytes are not a component that can run as a task.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The bytes are cut off, or never were wasm.
    #[error("not a WebAssembly component: {0}")]
    NotWasm(String),
    /// A core module.
    #[error(
        "a core WebAssembly module, not a component; build it for wasm32-wasip2, or wrap it with wasm-tools component new"
    )]
    CoreModule,
    /// It has nothing to call.
    #[error("the component exports neither {PROCESSOR} nor {BATCH_PROCESSOR} but {0}; build it with a guest SDK")]
    NoProcessor(String),
    /// It needs what no task is given.
    #[error("the component imports {0}, which tasks are not given; see wit/task.wit for what they are{hint}", hint = instead(.0))]
    UnknownImport(String),
    /// It needs what its deployment is not granted.
    #[error(
        "the component imports {0}, which this deployment is not granted: name whom it may call as `http` in \
         [jobs.NAME.grants], such as http = [\"api.example.com\"]"
    )]
    NotGranted(String),
    /// It could set timers that nothing would fire.
    #[error("the component imports {TIMERS} and does not export {TIMER_HANDLER}, which its timers would be fired at")]
    NoTimerHandler,
    /// It may be one, and there is no code of it.
    #[error(transparent)]
    Uncompiled(CompileError),
    /// It has the right names but not the right types.
    #[error("the component cannot be used: {0}")]
    Unusable(String),
}

impl From<CompileError> for ComponentError {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Invalid(why) => Self::NotWasm(why),
            error => Self::Uncompiled(error),
        }
    }
}

/// What there is in place of an interface that nobody is given.
fn instead(name: &str) -> &'static str {
    match name.split(['/', '@']).next() {
        Some("wasi:sockets") => "; a deployment can be granted calls by wasi:http, and no sockets",
        Some(_) | None => "",
    }
}

/// What a component is like.
#[derive(Clone, Debug)]
pub struct ComponentReport {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// How long it is, in bytes.
    pub size_bytes: u64,
    /// Which processor export is used.
    pub processor: &'static str,
    /// Interfaces it imports.
    pub imports: Vec<String>,
    /// Interfaces and functions it exports.
    pub exports: Vec<String>,
}

/// A component ready to be instantiated.
pub struct Program {
    pub(super) runtime: Arc<GuestRuntime>,
    pub(super) digest: Digest,
    pub(super) kind: ProgramKind,
    pub(super) timer_handler: Option<timed::TimerTaskIndices>,
    /// The import by which it calls others, where it does.
    calls_by: Option<String>,
}

pub(super) enum ProgramKind {
    List(InstancePre<HostState>, list::TaskIndices),
    Flat(InstancePre<HostState>, flat::BatchTaskIndices),
}

impl Program {
    /// The digest of its component.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Makes sure that a deployment is granted what the component needs of it.
    ///
    /// # Errors
    /// Names what is not.
    pub fn granted_by(&self, grants: &Grants) -> Result<(), ComponentError> {
        match &self.calls_by {
            Some(import) if grants.http.is_empty() => Err(ComponentError::NotGranted(import.clone())),
            Some(_) | None => Ok(()),
        }
    }
}

/// SHA-256 of a component's bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

impl GuestRuntime {
    /// Says what a component is like, having made sure that it can run as a task. Its compiled code is kept, so that who loads it
    /// finds it. Fails where others are compiled for too long meanwhile.
    ///
    /// # Errors
    /// When it cannot run, or could not be compiled.
    pub fn check(self: &Arc<Self>, bytes: &[u8]) -> Result<ComponentReport, ComponentError> {
        let patience = Duration::from_secs(COMPILE_WAIT_S_MAX);
        let (component, program) = self.ready(digest_of(bytes), bytes, Some(patience))?;
        let kind = component.component_type();
        Ok(ComponentReport {
            digest: program.digest,
            size_bytes: bytes.len() as u64,
            processor: match program.kind {
                ProgramKind::List(..) => PROCESSOR,
                ProgramKind::Flat(..) => BATCH_PROCESSOR,
            },
            imports: kind.imports(&self.engine).map(|(name, _)| name.to_owned()).collect(),
            exports: kind.exports(&self.engine).map(|(name, _)| name.to_owned()).collect(),
        })
    }

    /// Makes a component ready, however long others are compiled before it.
    ///
    /// # Errors
    /// When it cannot run as a task, or could not be compiled.
    pub fn load(self: &Arc<Self>, digest: Digest, bytes: &[u8]) -> Result<Arc<Program>, ComponentError> {
        self.ready(digest, bytes, None).map(|(_, program)| Arc::new(program))
    }

    /// A component from the compiled code kept of it, where there is any; else it is compiled, and its code kept if it can run.
    fn ready(
        self: &Arc<Self>,
        digest: Digest,
        bytes: &[u8],
        patience: Option<Duration>,
    ) -> Result<(Component, Program), ComponentError> {
        let file = self.cache_file(digest);
        if let Some(component) = self.load_compiled(&file) {
            let program = self.link(digest, &component)?;
            return Ok((component, program));
        }
        begins_as_component(bytes)?;
        let code = self.compiler.compile(&self.engine, bytes, patience)?;
        let component = self.deserialize(&code).map_err(unusable)?;
        let program = self.link(digest, &component)?;
        if let Err(error) = keep_compiled(&code, &file) {
            tracing::warn!("keeping compiled code in {}: {error}", file.display());
        }
        Ok((component, program))
    }

    fn link(self: &Arc<Self>, digest: Digest, component: &Component) -> Result<Program, ComponentError> {
        let kind = component.component_type();
        let exports: BTreeSet<String> = kind.exports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        let flat = exports.contains(BATCH_PROCESSOR);
        if !flat && !exports.contains(PROCESSOR) {
            let found = exports.into_iter().collect::<Vec<_>>().join(", ");
            return Err(ComponentError::NoProcessor(if found.is_empty() { "nothing".into() } else { found }));
        }
        if kind.imports(&self.engine).any(|(name, _)| name == TIMERS) && !exports.contains(TIMER_HANDLER) {
            return Err(ComponentError::NoTimerHandler);
        }
        for (name, item) in kind.imports(&self.engine) {
            // Instances of types alone need nothing from the host.
            let is_known = matches!(item.ty, ComponentItem::Type(_)) || self.is_linked(name);
            if !is_known {
                return Err(ComponentError::UnknownImport(name.to_owned()));
            }
        }
        let linked = self.linker.instantiate_pre(component);
        let is_batch = |(name, _): (&str, _)| name == KEYVALUE_BATCH;
        let instance = match linked {
            Err(_) if kind.imports(&self.engine).any(is_batch) => self.older_linker.instantiate_pre(component),
            linked => linked,
        };
        let instance = instance.map_err(unusable)?;
        let calls_others = |name: &&str| name.split('@').next() == Some(HANDLER);
        let calls_by = kind.imports(&self.engine).map(|(name, _)| name).find(calls_others).map(str::to_owned);
        let handles = exports.contains(TIMER_HANDLER);
        let timer_handler = handles.then(|| timed::TimerTaskIndices::new(&instance)).transpose().map_err(unusable)?;
        let kind = if flat {
            let indices = flat::BatchTaskIndices::new(&instance).map_err(unusable)?;
            ProgramKind::Flat(instance, indices)
        } else {
            let indices = list::TaskIndices::new(&instance).map_err(unusable)?;
            ProgramKind::List(instance, indices)
        };
        Ok(Program { runtime: self.clone(), digest, kind, timer_handler, calls_by })
    }

    /// Whether an interface of this name is given to tasks, in this version or one it is compatible with.
    fn is_linked(&self, name: &str) -> bool {
        const GIVEN: [&str; 19] = [
            "wasi:io/error",
            "wasi:io/poll",
            "wasi:io/streams",
            "wasi:clocks/wall-clock",
            "wasi:clocks/monotonic-clock",
            "wasi:random/random",
            "wasi:random/insecure",
            "wasi:random/insecure-seed",
            "wasi:cli/environment",
            "wasi:cli/exit",
            "wasi:cli/stdin",
            "wasi:cli/stdout",
            "wasi:cli/stderr",
            "wasi:cli/terminal-input",
            "wasi:cli/terminal-output",
            "wasi:filesystem/types",
            "wasi:filesystem/preopens",
            "wasi:http/types",
            // Linked for all, and instantiated where it is granted.
            HANDLER,
        ];
        // Prereleases are compatible with nothing but themselves.
        const DRAFTS: [&str; 8] = [
            KEYVALUE_BATCH,
            "wasi:keyvalue/store@0.2.0-draft2",
            "wasi:keyvalue/atomics@0.2.0-draft2",
            "wasi:keyvalue/store@0.2.0-draft",
            "wasi:keyvalue/atomics@0.2.0-draft",
            "wasi:keyvalue/batch@0.2.0-draft",
            "wasi:logging/logging@0.1.0-draft",
            "wasi:config/store@0.2.0-rc.1",
        ];
        const OWN: [&str; 5] = [
            TIMERS,
            "pelton:task/types@0.1.0",
            "pelton:task/state@0.1.0",
            "pelton:task/output@0.1.0",
            "pelton:task/context@0.1.0",
        ];
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        let terminals = ["wasi:cli/terminal-stdin", "wasi:cli/terminal-stdout", "wasi:cli/terminal-stderr"];
        let wasi = GIVEN.contains(&interface) || terminals.contains(&interface) || INTERFACES.contains(&interface);
        OWN.contains(&name) || DRAFTS.contains(&name) || (wasi && version.starts_with("0.2."))
    }

    fn cache_file(&self, digest: Digest) -> PathBuf {
        let mut engine = DefaultHasher::new();
        self.engine.precompile_compatibility_hash().hash(&mut engine);
        self.cache_dir.join(format!("{digest}-{:016x}.cwasm", engine.finish()))
    }

    /// Loads what [`keep_compiled`] wrote.
    fn load_compiled(&self, file: &Path) -> Option<Component> {
        let bytes = std::fs::read(file).ok()?;
        let (sum, code) = bytes.split_at_checked(32)?;
        if sum != Sha256::digest(code).as_slice() {
            tracing::warn!("{} is damaged; the component is compiled again", file.display());
            return None;
        }
        self.deserialize(code).ok()
    }

    /// Has compiled code at hand: what was just compiled, or read by [`Self::load_compiled`].
    fn deserialize(&self, code: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: the code is wasmtime's own. It was made by this process, or by a child that runs the same binary and does nothing
        // but compile, and came through a pipe between the two; or it was kept since, in a folder that is this user's alone and that
        // only `keep_compiled` writes to, and its checksum says that it is whole. Bytes that somebody sends never reach this, but
        // for what wasmtime makes of them: a fault of the compiler's by which a component has it write other code than its own
        // would be as bad here as one in this process.
        #[allow(unsafe_code)]
        unsafe {
            Component::deserialize(&self.engine, code)
        }
    }
}

fn unusable(error: wasmtime::Error) -> ComponentError {
    ComponentError::Unusable(format!("{error:#}"))
}

/// What is no component by its first bytes need not be compiled to be refused.
fn begins_as_component(bytes: &[u8]) -> Result<(), ComponentError> {
    match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(ComponentError::CoreModule),
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        _ => Err(ComponentError::NotWasm(format!("{} bytes that do not begin as one", bytes.len()))),
    }
}

/// Keeps compiled code: its SHA-256, then itself.
fn keep_compiled(code: &[u8], file: &Path) -> std::io::Result<()> {
    /// Two threads may keep code of the same component.
    static KEPT: AtomicU64 = AtomicU64::new(0);
    let nth = KEPT.fetch_add(1, Ordering::Relaxed);
    let unfinished = file.with_extension(format!("unfinished-{}-{nth}", std::process::id()));
    let mut to = std::fs::File::create(&unfinished)?;
    to.write_all(&Sha256::digest(code))?;
    to.write_all(code)?;
    std::fs::rename(unfinished, file)
}

#[cfg(test)]
#[path = "component_tests.rs"]
mod tests;
