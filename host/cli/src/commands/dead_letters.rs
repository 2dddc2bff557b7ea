//! `pelton dead-letters`: what tasks set aside, from a running host.

use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{Args, Subcommand};
use pelton_api::model::dead_letter::{ContentView, LetterAsked, LetterPage, LetterView};

use crate::client::{HostArgs, HostClient};
use crate::exit::{Outcome, usage};
use crate::print::{self, Table};

/// A task does what it is asked at its next chance; one that is behind takes longer than this.
const DONE_LIMIT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// See what tasks set aside, and have it folded after all or forgotten.
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DeadLettersCommand,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List the dead letters of a job.
    List {
        /// The job.
        job: String,
        /// How many to show.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Which host.
        #[command(flatten)]
        host: HostArgs,
    },
    /// Show one dead letter with its data.
    Show {
        /// The job.
        job: String,
        /// Which, as listed.
        #[arg(value_name = "TASK/NUMBER")]
        letter: String,
        /// Which host.
        #[command(flatten)]
        host: HostArgs,
    },
    /// Give dead letters to the logic after all. Each is folded once; one it fails with stays.
    Redrive {
        /// The job.
        job: String,
        /// Which, as listed.
        #[arg(value_name = "TASK/NUMBER", required_unless_present = "all")]
        letters: Vec<String>,
        /// All that are there now, but for gaps.
        #[arg(long, conflicts_with = "letters")]
        all: bool,
        /// Which host.
        #[command(flatten)]
        host: HostArgs,
    },
    /// Forget dead letters, with what is in them.
    Drop {
        /// The job.
        job: String,
        /// Which, as listed.
        #[arg(value_name = "TASK/NUMBER", required = true)]
        letters: Vec<String>,
        /// Which host.
        #[command(flatten)]
        host: HostArgs,
    },
}

/// Does it.
///
/// # Errors
/// When the host refuses or does not answer, or a task takes too long.
pub async fn run(args: DeadLettersArgs, json: bool) -> anyhow::Result<Outcome> {
    match args.command {
        DeadLettersCommand::List { job, limit, host } => {
            let letters = listed(&HostClient::new(&host)?, &job, limit).await?;
            if json { print::json(&letters) } else { table(&letters) }?;
            Ok(Outcome::Done)
        }
        DeadLettersCommand::Show { job, letter, host } => {
            let (task, number) = parts(&letter)?;
            let path = ["v1", "jobs", &job, "dead-letters", task, number];
            print::json(&HostClient::new(&host)?.get::<LetterView>(&path, &[]).await?)?;
            Ok(Outcome::Done)
        }
        DeadLettersCommand::Redrive { job, letters, all, host } => {
            let host = HostClient::new(&host)?;
            let letters = if all { redrivable(&host, &job).await? } else { letters };
            ask(&host, &job, &letters, Ask::Redrive, json).await
        }
        DeadLettersCommand::Drop { job, letters, host } => {
            ask(&HostClient::new(&host)?, &job, &letters, Ask::Drop, json).await
        }
    }
}

fn parts(letter: &str) -> anyhow::Result<(&str, &str)> {
    let parts = letter.split_once('/');
    parts.ok_or_else(|| usage(format!("{letter:?} is no dead letter; name one as listed, such as 17/3")))
}

async fn listed(host: &HostClient, job: &str, limit: usize) -> anyhow::Result<Vec<LetterView>> {
    host.list::<LetterPage>(&["v1", "jobs", job, "dead-letters"], limit).await
}

async fn redrivable(host: &HostClient, job: &str) -> anyhow::Result<Vec<String>> {
    let letters = listed(host, job, usize::MAX).await?;
    let given = letters.iter().filter(|letter| !matches!(letter.content, ContentView::Gap { .. }));
    Ok(given.map(|letter| format!("{}/{}", letter.task, letter.number)).collect())
}

fn table(letters: &[LetterView]) -> anyhow::Result<()> {
    let mut table = Table::new(&["LETTER", "CAUSE", "ATTEMPTS", "WHAT", "WHY"]);
    for letter in letters {
        let what = match &letter.content {
            ContentView::Record { stream, shard, sequence_number, sub_sequence_number, partition_key, .. } => {
                format!("{partition_key:?} at {sequence_number}/{sub_sequence_number} of {shard} in {stream}")
            }
            ContentView::Gap { stream, shard, .. } => format!("part of {shard} in {stream}"),
            ContentView::Timer { name, .. } => format!("timer {name:?}"),
        };
        let id = format!("{}/{}", letter.task, letter.number);
        table.row([id, letter.cause.clone(), letter.attempts.to_string(), what, letter.message.clone()]);
    }
    table.print()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Redrive,
    Drop,
}

/// Asks for each letter, then waits for each to be gone, or to tell of another failure.
async fn ask(host: &HostClient, job: &str, letters: &[String], what: Ask, json: bool) -> anyhow::Result<Outcome> {
    let mut asked = Vec::new();
    for letter in letters {
        let (task, number) = parts(letter)?;
        let path = ["v1", "jobs", job, "dead-letters", task, number];
        let before: LetterView = host.get(&path, &[]).await?;
        let _: LetterAsked = match what {
            Ask::Redrive => host.post(&[&path[..], &["redrive"]].concat()).await?,
            Ask::Drop => host.delete(&path).await?,
        };
        asked.push((letter, before));
    }
    let deadline = Instant::now() + DONE_LIMIT;
    let mut failed = Vec::new();
    for (letter, before) in &asked {
        loop {
            // Letters are in order: the first from this one on is it, or it is gone.
            let query = [("start", letter.as_str()), ("limit", "1")];
            let page: LetterPage = host.get(&["v1", "jobs", job, "dead-letters"], &query).await?;
            let same = |now: &LetterView| (now.task, now.number) == (before.task, before.number);
            match page.letters.into_iter().next().filter(same) {
                None => break,
                Some(now) if now.attempts > before.attempts => {
                    eprintln!("dead letter {letter} stays one: {}", now.message);
                    failed.push(now);
                    break;
                }
                Some(_) if Instant::now() > deadline => {
                    bail!(
                        "dead letter {letter}: its task did not come to it within {DONE_LIMIT:?}; see `pelton status`"
                    )
                }
                Some(_) => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
    }
    let done = asked.len() - failed.len();
    let verb = if what == Ask::Redrive { "folded" } else { "dropped" };
    if json {
        print::json(&serde_json::json!({ verb: done, "failed": failed }))?;
    } else {
        print::line(&format!("{done} {verb}, {} failed again", failed.len()))?;
    }
    Ok(if failed.is_empty() { Outcome::Done } else { Outcome::Failed })
}
