//! The child in which a component is compiled: it limits itself before it reads anything, and by how it ends it says what came of
//! it. Where a system has no such limits, there is only the time that its parent gives it.

use std::io::{self, Read, Write};
use std::process::ExitStatus;

use wasmtime::{Error, OutOfMemory};

use crate::guest::runtime::compiling_engine;

/// Exit codes of a child that compiled nothing: for another reason, for want of a component, for want of memory.
const FAILED: u8 = 1;
const NO_COMPONENT: u8 = 3;
const NO_MEMORY: u8 = 4;
/// How the standard library says that there is no memory, before it aborts.
const NO_MEMORY_SAID: &str = "memory allocation of";
/// Seconds of a core that a child has left to end by itself.
#[cfg(target_os = "linux")]
const GRACE_S: u64 = 5;

/// To what a child holds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildLimits {
    /// Memory that it writes to, in bytes.
    pub memory_bytes_max: u64,
    /// Seconds of all cores together.
    pub cpu_s_max: u64,
}

/// Why a child compiled nothing.
#[derive(Debug, thiserror::Error)]
pub enum ChildFault {
    /// What it was given is no component.
    #[error("{0}")]
    NoComponent(String),
    /// It needs more memory than it may have.
    #[error("no memory is left")]
    NoMemory,
    /// The component has no part in it.
    #[error("{0}")]
    Failed(String),
}

impl ChildFault {
    /// The exit code by which a child says so.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoComponent(_) => NO_COMPONENT,
            Self::NoMemory => NO_MEMORY,
            Self::Failed(_) => FAILED,
        }
    }

    fn failed(doing: &str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::OutOfMemory => Self::NoMemory,
            _ => Self::Failed(format!("{doing}: {error}")),
        }
    }

    fn of(error: &Error, otherwise: impl FnOnce(String) -> Self) -> Self {
        if error.is::<OutOfMemory>() { Self::NoMemory } else { otherwise(line(&format!("{error:#}"))) }
    }
}

/// Reads a component, and writes its code. The limits hold for the whole process, from then on.
///
/// # Errors
/// When there is no code of it.
pub fn serve(limits: ChildLimits, mut input: impl Read, mut output: impl Write) -> Result<(), ChildFault> {
    confine(limits).map_err(|error| ChildFault::failed("limiting the compiler", error))?;
    let engine = compiling_engine();
    let engine = engine.map_err(|error| ChildFault::of(&error, ChildFault::Failed))?;
    let mut component = Vec::new();
    input.read_to_end(&mut component).map_err(|error| ChildFault::failed("reading the component", error))?;
    let code = engine.precompile_component(&component);
    let code = code.map_err(|error| ChildFault::of(&error, ChildFault::NoComponent))?;
    let written = output.write_all(&code).and_then(|()| output.flush());
    written.map_err(|error| ChildFault::failed("writing the code", error))
}

/// What a child said by its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    NoComponent,
    NoMemory,
    NoTime,
    Failed,
    /// Nothing: it did not end by itself.
    Crashed,
}

impl Ending {
    pub(super) fn of(status: ExitStatus, said: &str) -> Self {
        match status.code().map(u8::try_from) {
            Some(Ok(0)) => Self::Done,
            Some(Ok(NO_COMPONENT)) => Self::NoComponent,
            Some(Ok(NO_MEMORY)) => Self::NoMemory,
            Some(Ok(FAILED)) => Self::Failed,
            _ if said.contains(NO_MEMORY_SAID) => Self::NoMemory,
            _ if is_out_of_time(status) => Self::NoTime,
            _ => Self::Crashed,
        }
    }
}

/// Text as one line.
pub(super) fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(target_os = "linux")]
fn confine(limits: ChildLimits) -> io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
    let limit = |resource, most: u64, hard: u64| {
        let given = rustix::process::getrlimit(resource).maximum;
        let hard = given.map_or(hard, |given| given.min(hard));
        let limit = Rlimit { current: Some(most.min(hard)), maximum: Some(hard) };
        rustix::process::setrlimit(resource, limit)
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Where the machine has no memory left, this process goes before the host. Some systems do not know that.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Cpu, limits.cpu_s_max, limits.cpu_s_max.saturating_add(GRACE_S))?;
    // Heaps and stacks, and no address space beside: wasmtime reserves much of that, and uses little.
    limit(Resource::Data, limits.memory_bytes_max, limits.memory_bytes_max)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn confine(_: ChildLimits) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn is_out_of_time(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(rustix::process::Signal::XCPU.as_raw())
}

#[cfg(not(target_os = "linux"))]
fn is_out_of_time(_: ExitStatus) -> bool {
    false
}
