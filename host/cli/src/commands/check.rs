//! `pelton check`: whether a component can run as a task, said by the runtime that would run it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use pelton_api::model::component::ComponentView;
use pelton_engine::{GuestRuntime, Room};

use super::compile_component::compiler;
use crate::exit::Outcome;
use crate::print;

/// Check that a component can run as a task.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The component.
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,
}

/// Compiles it, and says what it is.
///
/// # Errors
/// When it cannot run as a task.
pub fn run(args: &CheckArgs, json: bool) -> anyhow::Result<Outcome> {
    let file = args.file.display();
    let bytes = std::fs::read(&args.file).with_context(|| format!("reading {file}"))?;
    let cache = tempfile::tempdir().context("making a folder for compiled code")?;
    let report = GuestRuntime::new(cache.path(), Room::for_tasks(1), compiler()?)?
        .check(&bytes)
        .with_context(|| file.to_string())?;
    let view = ComponentView::from(report);
    if json {
        print::json(&view)?
    } else {
        print(&view)?
    }
    Ok(Outcome::Done)
}

/// Writes what a component is, for people.
///
/// # Errors
/// When stdout takes no more.
pub fn print(view: &ComponentView) -> anyhow::Result<()> {
    print::line(&format!("digest     {}", view.digest))?;
    print::line(&format!("size       {}", print::size(view.size_bytes)))?;
    print::line(&format!("processor  {}", view.processor))?;
    for (title, names) in [("imports", &view.imports), ("exports", &view.exports)] {
        for (index, name) in names.iter().enumerate() {
            print::line(&format!("{:<9}  {name}", if index == 0 { title } else { "" }))?;
        }
    }
    Ok(())
}
