//! `pelton component`: components kept in the table, by way of a running host.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use pelton_api::model::component::{ComponentList, ComponentView};

use super::check;
use crate::client::{HostArgs, HostClient};
use crate::exit::Outcome;
use crate::print::{self, Table};

/// Keep components in the table, and see those kept.
#[derive(Debug, Args)]
pub struct ComponentArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ComponentCommand,
}

/// What to do with components.
#[derive(Debug, Subcommand)]
pub enum ComponentCommand {
    /// Check a component and keep it.
    Push {
        /// The component.
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
        /// Which host.
        #[command(flatten)]
        host: HostArgs,
    },
    /// List the components that are kept.
    List {
        /// Which host.
        #[command(flatten)]
        host: HostArgs,
    },
    /// Show one component.
    Show {
        /// Its digest, with or without `sha256:`.
        digest: String,
        /// Which host.
        #[command(flatten)]
        host: HostArgs,
    },
}

/// Does it.
///
/// # Errors
/// When the host refuses or does not answer.
pub async fn run(args: ComponentArgs, json: bool) -> anyhow::Result<Outcome> {
    match args.command {
        ComponentCommand::Push { file, host } => {
            let bytes = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            let view: ComponentView = HostClient::new(&host)?.put(&["v1", "components"], bytes).await?;
            if json { print::json(&view)? } else { print::line(&view.digest)? }
        }
        ComponentCommand::List { host } => {
            let host = HostClient::new(&host)?;
            let components = host.list::<ComponentList>(&["v1", "components"], usize::MAX).await?;
            if json {
                print::json(&ComponentList { components, next: None })?;
            } else {
                let mut table = Table::new(&["DIGEST", "SIZE"]);
                components.into_iter().for_each(|entry| table.row([entry.digest, print::size(entry.size_bytes)]));
                table.print()?;
            }
        }
        ComponentCommand::Show { digest, host } => {
            let view: ComponentView = HostClient::new(&host)?.get(&["v1", "components", &digest], &[]).await?;
            if json { print::json(&view)? } else { check::print(&view)? }
        }
    }
    Ok(Outcome::Done)
}
