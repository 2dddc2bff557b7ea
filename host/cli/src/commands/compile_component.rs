//! `pelton compile-component`: the child in which this binary compiles a component. No person has a use for it.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;
use pelton_engine::Compiler;
use pelton_engine::guest::child::{self, ChildLimits};
use pelton_engine::guest::{ChildCompiler, CompileLimits};

use crate::exit::Outcome;

/// Compile a component from stdin to stdout, within limits.
#[derive(Debug, Args)]
pub struct CompileComponentArgs {
    /// Memory that may be written to.
    #[arg(long)]
    pub memory_bytes: u64,
    /// Seconds of all cores together.
    #[arg(long)]
    pub cpu_seconds: u64,
}

/// Compiles it.
///
/// # Errors
/// A [`child::ChildFault`], when there is no code of it.
pub fn run(args: &CompileComponentArgs) -> anyhow::Result<Outcome> {
    let limits = ChildLimits { memory_bytes_max: args.memory_bytes, cpu_s_max: args.cpu_seconds };
    let mut stdout = io::stdout().lock();
    child::serve(limits, io::stdin().lock(), &mut stdout)?;
    stdout.flush()?;
    Ok(Outcome::Done)
}

/// Has this binary, in a process of its own, do the above.
///
/// # Errors
/// When the system does not say which binary this is.
pub fn compiler() -> io::Result<Compiler> {
    let limits = CompileLimits::default();
    let ChildLimits { memory_bytes_max, cpu_s_max } = limits.child;
    let args = [
        "compile-component".into(),
        format!("--memory-bytes={memory_bytes_max}").into(),
        format!("--cpu-seconds={cpu_s_max}").into(),
    ];
    let compiler = ChildCompiler::new(this_binary()?, args.into(), limits);
    // The allocator would take a gigabyte beforehand, and all of it would count.
    Ok(Compiler::Child(compiler.variable("MIMALLOC_ARENA_EAGER_COMMIT", "0")))
}

/// This binary, also where another has taken its place since it was started.
#[cfg(target_os = "linux")]
fn this_binary() -> io::Result<PathBuf> {
    Ok("/proc/self/exe".into())
}

/// This binary.
#[cfg(not(target_os = "linux"))]
fn this_binary() -> io::Result<PathBuf> {
    std::env::current_exe()
}
