//! The command line. Each command's own arguments stand beside it in `commands`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::check::CheckArgs;
use crate::commands::compile_component::CompileComponentArgs;
use crate::commands::component::ComponentArgs;
use crate::commands::dead_letters::DeadLettersArgs;
use crate::commands::deploy::{DeployArgs, DeploymentsArgs, PromoteArgs, RollbackArgs};
use crate::commands::dev::DevArgs;
use crate::commands::logs::LogsArgs;
use crate::commands::plan::PlanArgs;
use crate::commands::put::PutArgs;
use crate::commands::recover::RecoverArgs;
use crate::commands::run::RunArgs;
use crate::commands::shadow::ShadowArgs;
use crate::commands::state::StateArgs;
use crate::commands::status::StatusArgs;

/// Stateful stream tasks in WebAssembly over AWS Kinesis.
#[derive(Debug, Parser)]
#[command(name = "pelton", version, about)]
pub struct Cli {
    /// Print data as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to log to stderr, such as `debug` or `warn,pelton_engine=debug` [default: RUST_LOG, or pelton's own news].
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run Kinesis and DynamoDB on this machine, and a host on top of them.
    Dev(DevArgs),
    /// Run the jobs of a configuration.
    Run(RunArgs),
    /// Check that a component can run as a task.
    Check(CheckArgs),
    /// Compile a component from stdin to stdout, within limits.
    #[command(hide = true)]
    CompileComponent(CompileComponentArgs),
    /// Put records into a stream.
    Put(PutArgs),
    /// Show the jobs, tasks and shards of a running host.
    Status(StatusArgs),
    /// Show what the guests of a job log, what they were refused, and which of their calls failed.
    Logs(LogsArgs),
    /// Read the committed state of a job.
    State(StateArgs),
    /// See what tasks set aside, and have it folded after all or forgotten.
    DeadLetters(DeadLettersArgs),
    /// Show which task owns a key, and which shards feed it.
    Plan(PlanArgs),
    /// Have a job go on from what a table holds that was restored from a backup.
    Recover(RecoverArgs),
    /// Keep components in the table, and see those kept.
    Component(ComponentArgs),
    /// Make a deployment of a job and have its tasks run it.
    Deploy(DeployArgs),
    /// List the deployments of a job.
    Deployments(DeploymentsArgs),
    /// Show what came of comparing a shadow with what the tasks run.
    Shadow(ShadowArgs),
    /// Have every task run what the canary or the shadow is, or end it.
    Promote(PromoteArgs),
    /// Have every task run an earlier deployment from now on.
    Rollback(RollbackArgs),
}

/// Which configuration.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// The configuration [default: ./pelton.toml where there is one].
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
