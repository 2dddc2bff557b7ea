//! `pelton logs`: what the guests of a job say.

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use pelton_api::model::event::MissedView;
use pelton_api::model::log::{LevelView, LineView, SourceView};

use crate::client::{HostArgs, HostClient};
use crate::exit::Outcome;
use crate::print;

/// Show what the guests of a job log, print to standard output and standard error, were refused and failed with.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The job.
    pub job: String,
    /// Stay, and show the lines to come.
    #[arg(short, long)]
    pub follow: bool,
    /// So many of the lines kept come first; the host keeps the newest 4 MiB of a job.
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
    pub tail: u32,
    /// Lines of this task only.
    #[arg(long, value_name = "TASK")]
    pub task: Option<u16>,
    /// Lines of this deployment only.
    #[arg(long, value_name = "NUMBER")]
    pub deployment: Option<u64>,
    /// Lines that matter so much at least: trace, debug, info, warn, error or critical.
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub level: Option<LevelView>,
    /// Which host.
    #[command(flatten)]
    pub host: HostArgs,
}

fn level(text: &str) -> Result<LevelView, String> {
    LevelView::named(text).ok_or_else(|| format!("expected one of {}", LevelView::names()))
}

/// Shows the lines, each as one line: for programs, as JSON.
///
/// # Errors
/// When the host runs no such job, or does not answer.
pub async fn run(args: LogsArgs, json: bool) -> anyhow::Result<Outcome> {
    let host = HostClient::new(&args.host)?;
    let mut query = vec![("tail", args.tail.to_string()), ("follow", args.follow.to_string())];
    query.extend(args.task.map(|task| ("task", task.to_string())));
    query.extend(args.deployment.map(|deployment| ("deployment", deployment.to_string())));
    query.extend(args.level.map(|level| ("level", level.to_string())));
    let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut events = host.watch(&["v1", "jobs", &args.job, "logs"], &query).await?;
    while let Some(event) = events.next().await? {
        match event.name.as_str() {
            "line" if json => print::line(&event.data)?,
            "line" => print::line(&shown(&serde_json::from_str(&event.data)?))?,
            _ => {
                let missed: MissedView = serde_json::from_str(&event.data)?;
                let missed = missed.missed.map_or("some".into(), |missed| missed.to_string());
                eprintln!("{missed} lines came too fast to be shown here, or are kept no more");
            }
        }
    }
    if args.follow {
        eprintln!("the host has stopped");
    }
    Ok(Outcome::Done)
}

fn shown(line: &LineView) -> String {
    let at = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(line.at_ms));
    let LineView { level, task, deployment, text, .. } = line;
    let shadow = if line.shadow { " as a shadow" } else { "" };
    let source = match line.source {
        SourceView::Logging => "",
        SourceView::Stdout => " stdout",
        SourceView::Stderr => " stderr",
        SourceView::Host => " host",
    };
    format!("{at} {level:<8} task {task} deployment {deployment}{shadow}{source}: {text}")
}
