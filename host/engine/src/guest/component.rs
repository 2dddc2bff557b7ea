//! Components: checked, compiled, and made ready to be instantiated.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pelton_core::id::Digest;
use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, InstancePre};

use super::bindings::{flat, list, timed};
use super::code;
use super::compiler::CompileError;
use super::fitness::{BATCH_PROCESSOR, KEYVALUE_BATCH, Misfit, PROCESSOR, TIMER_HANDLER, misfits};
use super::grants::Grants;
use super::instance::HostState;
use super::limits::COMPILE_WAIT_S_MAX;
use super::outbound::HANDLER;
use super::runtime::GuestRuntime;
use super::signature;

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
    /// It is a component, and no task: all that stands against it.
    #[error("{}", listed(.0))]
    Unfit(Vec<Misfit>),
    /// It needs what its deployment is not granted.
    #[error(
        "the component imports {0}, which this deployment is not granted: name whom it may call as `http` in \
         [jobs.NAME.grants], such as http = [\"api.example.com\"]"
    )]
    NotGranted(String),
    /// It may be one, and there is no code of it.
    #[error(transparent)]
    Uncompiled(CompileError),
    /// What was compiled of it cannot be used.
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

fn listed(misfits: &[Misfit]) -> String {
    misfits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
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

    /// Whether it can be called with timers that are due.
    pub fn fires_timers(&self) -> bool {
        self.timer_handler.is_some()
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
        let file = self.code_file(digest);
        if let Some(component) = code::load(&file).and_then(|code| self.deserialize(&code).ok()) {
            let program = self.link(digest, &component)?;
            return Ok((component, program));
        }
        begins_as_component(bytes)?;
        let code = self.compiler.compile(&self.engine, bytes, patience)?;
        let component = self.deserialize(&code).map_err(unusable)?;
        let program = self.link(digest, &component)?;
        code::keep(&code, &file);
        Ok((component, program))
    }

    fn link(self: &Arc<Self>, digest: Digest, component: &Component) -> Result<Program, ComponentError> {
        let kind = component.component_type();
        let mut misfits = misfits(component, &self.engine);
        misfits.extend(signature::misfits(&kind, &self.engine));
        if !misfits.is_empty() {
            return Err(ComponentError::Unfit(misfits));
        }
        let exports: BTreeSet<&str> = kind.exports(&self.engine).map(|(name, _)| name).collect();
        let flat = exports.contains(BATCH_PROCESSOR);
        let linked = self.linker.instantiate_pre(component);
        let is_batch = |(name, _): (&str, _)| name == KEYVALUE_BATCH;
        let instance = match linked {
            Err(error) if kind.imports(&self.engine).any(is_batch) => {
                // Where neither fits it is told what stands against the newer.
                self.older_linker.instantiate_pre(component).map_err(|_| error)
            }
            linked => linked,
        };
        let instance =
            instance.map_err(|error| ComponentError::Unfit(vec![Misfit::ImportTypes(format!("{error:#}"))]))?;
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

#[cfg(test)]
#[path = "component_tests.rs"]
mod tests;
