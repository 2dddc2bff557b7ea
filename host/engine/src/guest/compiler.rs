//! Compilers: a component becomes code in this process, or in a child of it that has limits. Whatever a component has its compiler
//! do, a child ends within them and this process goes on. Nothing here knows what a task is.

pub mod child;

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use wasmtime::Engine;

use super::limits::{
    CODE_BYTES_MAX, COMPILE_CPU_S_MAX, COMPILE_MEMORY_BYTES_MAX, COMPILE_S_MAX, COMPILE_THREADS_MAX, COMPILING_MAX,
};
use child::{ChildLimits, Ending};

/// What a child says is cut to this.
const SAID_BYTES_MAX: u64 = 4 * 1024;
/// How often is looked whether a child has ended.
const ENDED_POLL: Duration = Duration::from_millis(5);
/// How many threads wasmtime compiles on is read from this.
const THREADS: &str = "RAYON_NUM_THREADS";

/// What compiles components.
#[derive(Debug)]
pub enum Compiler {
    /// This process, without limits: for components that whoever runs it made.
    Here,
    /// A child for each component.
    Child(ChildCompiler),
}

/// What a component may take to compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// To what its child holds itself.
    pub child: ChildLimits,
    /// Seconds by the clock, after which the child is killed.
    pub s_max: u64,
    /// Compiled code, in bytes.
    pub code_bytes_max: usize,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            child: ChildLimits { memory_bytes_max: COMPILE_MEMORY_BYTES_MAX, cpu_s_max: COMPILE_CPU_S_MAX },
            s_max: COMPILE_S_MAX,
            code_bytes_max: CODE_BYTES_MAX,
        }
    }
}

/// Why there is no code of a component.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is no component.
    #[error("not a WebAssembly component: {0}")]
    Invalid(String),
    /// It takes too long by the clock.
    #[error("compiling the component takes more than {0} s, the most there is for one; build it smaller")]
    Time(u64),
    /// It takes too much of the cores.
    #[error("compiling the component takes more than {0} s of a core, the most there is for one; build it smaller")]
    CpuTime(u64),
    /// It takes too much memory.
    #[error("compiling the component needs more than {} MiB of memory, the most there is for one; build it smaller", .0 >> 20)]
    Memory(u64),
    /// Its code is too long.
    #[error("the component compiles to more than {} MiB of code, the most there may be of one; build it smaller", .0 >> 20)]
    Code(usize),
    /// The compiler ended as it never should.
    #[error(
        "compiling the component crashed the compiler ({0}); try again where the machine was short of memory, or build it with other \
         tools"
    )]
    Crashed(String),
    /// As many are compiled as may be at a time.
    #[error("{COMPILING_MAX} components are being compiled, as many as may be at a time; try again")]
    Busy,
    /// No component can be compiled, whatever it is like.
    #[error("no compiler could be run for the component: {0}")]
    NoCompiler(String),
}

impl CompileError {
    /// Whether another try may come to something else: that was of the machine, and perhaps not of the component.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Time(_) | Self::Crashed(_) | Self::Busy | Self::NoCompiler(_) => true,
            Self::Invalid(_) | Self::CpuTime(_) | Self::Memory(_) | Self::Code(_) => false,
        }
    }
}

impl Compiler {
    /// The code of a component. Waits until there is a child for it, or no longer than so.
    pub(super) fn compile(
        &self,
        engine: &Engine,
        component: &[u8],
        patience: Option<Duration>,
    ) -> Result<Vec<u8>, CompileError> {
        match self {
            Self::Here => {
                let code = engine.precompile_component(component);
                code.map_err(|error| CompileError::Invalid(format!("{error:#}")))
            }
            Self::Child(compiler) => compiler.compile(component, patience),
        }
    }
}

/// Has each component compiled by a child, which gets it at its stdin and answers at its stdout.
#[derive(Debug)]
pub struct ChildCompiler {
    program: PathBuf,
    args: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    limits: CompileLimits,
    places: Places,
}

/// What became of a child.
struct Ended {
    /// None where it was killed for the time it took.
    status: Option<ExitStatus>,
    /// What it wrote, up to a byte more than it may.
    code: Vec<u8>,
    /// What it said, on one line.
    said: String,
}

impl ChildCompiler {
    /// A child is this program with these arguments, which has it call [`child::serve`] and hold itself to these limits.
    pub fn new(program: impl Into<PathBuf>, args: Vec<OsString>, limits: CompileLimits) -> Self {
        Self { program: program.into(), args, variables: Vec::new(), limits, places: Places::default() }
    }

    /// Has children find a variable in their environment, in which there is nothing else of this process'.
    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn compile(&self, component: &[u8], patience: Option<Duration>) -> Result<Vec<u8>, CompileError> {
        let _place = self.places.take(patience).ok_or(CompileError::Busy)?;
        let failed = |error| CompileError::NoCompiler(format!("{}: {error}", self.program.display()));
        self.judge(self.run(component).map_err(failed)?)
    }

    fn run(&self, component: &[u8]) -> io::Result<Ended> {
        thread::scope(|scope| {
            // The child ends with this thread, which therefore waits for it.
            let mut child = Running(self.command().spawn()?);
            let mut stdin = child.0.stdin.take().expect("it is piped");
            let stdout = child.0.stdout.take().expect("it is piped");
            // A child that ends early takes no more. Why it ended, it says itself.
            let feed = move || drop(stdin.write_all(component));
            thread::Builder::new().name("component".into()).spawn_scoped(scope, feed)?;
            let most = self.limits.code_bytes_max as u64 + 1;
            let read = move || {
                let mut code = Vec::new();
                stdout.take(most).read_to_end(&mut code).map(|_| code)
            };
            let code = thread::Builder::new().name("code".into()).spawn_scoped(scope, read)?;
            let mut stderr = child.0.stderr.take().expect("it is piped");
            let hear = move || {
                let mut said = Vec::new();
                stderr.by_ref().take(SAID_BYTES_MAX).read_to_end(&mut said)?;
                // What is not kept is read all the same: the child would wait for that.
                io::copy(&mut stderr, &mut io::sink()).map(|_| said)
            };
            let said = thread::Builder::new().name("said".into()).spawn_scoped(scope, hear)?;
            let status = child.wait(Duration::from_secs(self.limits.s_max))?;
            let code = code.join().expect("reading does not panic")?;
            let said = said.join().expect("reading does not panic")?;
            Ok(Ended { status, code, said: child::line(&String::from_utf8_lossy(&said)) })
        })
    }

    fn command(&self) -> Command {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        // The environment of this process has secrets.
        command.env_clear().env(THREADS, cores.min(COMPILE_THREADS_MAX).to_string());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn judge(&self, ended: Ended) -> Result<Vec<u8>, CompileError> {
        let Ended { status, code, said } = ended;
        let ChildLimits { memory_bytes_max, cpu_s_max } = self.limits.child;
        let Some(status) = status else { return Err(CompileError::Time(self.limits.s_max)) };
        if code.len() > self.limits.code_bytes_max {
            return Err(CompileError::Code(self.limits.code_bytes_max));
        }
        match Ending::of(status, &said) {
            Ending::Done => Ok(code),
            Ending::NoComponent => Err(CompileError::Invalid(said)),
            Ending::NoMemory => Err(CompileError::Memory(memory_bytes_max)),
            Ending::NoTime => Err(CompileError::CpuTime(cpu_s_max)),
            Ending::Failed => Err(CompileError::NoCompiler(said)),
            Ending::Crashed if said.is_empty() => Err(CompileError::Crashed(status.to_string())),
            Ending::Crashed => Err(CompileError::Crashed(format!("{status}: {said}"))),
        }
    }
}

/// A child that does not outlive this.
struct Running(Child);

impl Running {
    /// How it ended, unless it took longer than so and was killed.
    fn wait(&mut self, most: Duration) -> io::Result<Option<ExitStatus>> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if began.elapsed() >= most {
                self.0.kill()?;
                self.0.wait()?;
                return Ok(None);
            }
            thread::sleep(ENDED_POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is left alone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many children there are at a time.
#[derive(Debug, Default)]
struct Places {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// A place for one child.
struct Place<'a>(&'a Places);

impl Places {
    /// A place, as soon as there is one, or none within so long.
    fn take(&self, patience: Option<Duration>) -> Option<Place<'_>> {
        let full = |taken: &mut usize| *taken >= COMPILING_MAX;
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = match patience {
            Some(patience) => {
                let waited = self.freed.wait_timeout_while(taken, patience, full);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.freed.wait_while(taken, full).unwrap_or_else(PoisonError::into_inner),
        };
        if full(&mut taken) {
            return None;
        }
        *taken += 1;
        Some(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
#[path = "compiler_tests.rs"]
mod tests;
