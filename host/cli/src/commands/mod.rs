//! The commands, each with its arguments.

pub mod check;
pub mod compile_component;
pub mod component;
pub mod dead_letters;
pub mod deploy;
pub mod dev;
pub mod logs;
pub mod plan;
pub mod put;
pub mod recover;
pub mod run;
pub mod shadow;
pub mod state;
pub mod status;

mod records;

use std::time::Instant;

use crate::args::{Cli, Command};
use crate::exit::Outcome;

/// Carries out a command of a process that began at a time.
///
/// # Errors
/// When it cannot be carried out.
pub async fn run(cli: Cli, began: Instant) -> anyhow::Result<Outcome> {
    let json = cli.json;
    match cli.command {
        Command::Dev(args) => dev::run(args, json, began).await,
        Command::Run(args) => run::run(args, began).await,
        Command::Check(args) => check::run(&args, json),
        Command::CompileComponent(args) => compile_component::run(&args),
        Command::Put(args) => put::run(args, json).await,
        Command::Status(args) => status::run(&args, json).await,
        Command::Logs(args) => logs::run(args, json).await,
        Command::State(args) => state::run(args, json).await,
        Command::DeadLetters(args) => dead_letters::run(args, json).await,
        Command::Plan(args) => plan::run(&args, json).await,
        Command::Recover(args) => recover::run(args, json).await,
        Command::Component(args) => component::run(args, json).await,
        Command::Deploy(args) => deploy::deploy(args, json).await,
        Command::Deployments(args) => deploy::list(&args, json).await,
        Command::Shadow(args) => shadow::run(&args, json).await,
        Command::Promote(args) => deploy::promote(&args, json).await,
        Command::Rollback(args) => deploy::roll_back(&args, json).await,
    }
}
