//! `pelton`: runs stateful stream tasks over Kinesis, and asks a running host about them.
//!
//! Data goes to stdout, talk to stderr. Exits with 0 when what was asked is done, 1 when it failed, and 2 when the
//! command line or the configuration is wrong.

mod args;
mod exit;
mod print;

mod aws;
mod client;

mod launch;
mod lock;
mod open_files;
mod servers;
mod signals;
mod watch;

mod commands;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;
use tokio::runtime::Builder;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use exit::Outcome;
use pelton_cli::config;

/// What is logged when nothing else is asked for: Pelton's own news, and the warnings of what it stands on. The
/// embedded servers warn of every refusal that they answer with, which their callers tell better.
const LOG_FILTER: &str = "warn,pelton=info,dynoxide=error,ferrokinesis=error";

/// A host allocates and frees small keys and values by the million, on several threads. It goes without huge pages, of which 256
/// tasks with little to do would hold many.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let began = Instant::now();
    let cli = Cli::parse();
    match run(cli, began) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(exit::FAILED),
        Err(error) => {
            eprintln!("{}", exit::message(&error));
            ExitCode::from(exit::code(&error))
        }
    }
}

fn run(cli: Cli, began: Instant) -> anyhow::Result<Outcome> {
    log(cli.log.as_deref())?;
    // A compiler has limits, to which each thread would count.
    let is_compiler = matches!(cli.command, Command::CompileComponent(_));
    let mut runtime = if is_compiler { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    let runtime = runtime.enable_all().build()?;
    let outcome = runtime.block_on(commands::run(cli, began));
    // Reads of stdin cannot be called off; nobody waits for them.
    runtime.shutdown_background();
    outcome
}

fn log(filter: Option<&str>) -> anyhow::Result<()> {
    let filter = match filter {
        Some(filter) => {
            EnvFilter::try_new(filter).map_err(|error| exit::usage(format!("--log {filter:?}: {error}")))?
        }
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG_FILTER)),
    };
    let stderr = std::io::stderr();
    let ansi = stderr.is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    Ok(())
}
