//! `pelton state`: the committed state of a job, from a running host.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use pelton_api::model::job::JobView;
use pelton_api::model::state::{EntryView, StatePage, ValueView, from_base64};
use serde_json::{Map, Value, json};

use crate::client::{HostArgs, HostClient};
use crate::exit::Outcome;
use crate::print;

/// Entries of a page that is asked for.
const PAGE_ENTRIES: usize = 1_000;

/// Read the committed state of a job.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// What to read.
    #[command(subcommand)]
    pub command: StateCommand,
}

/// How values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ValueFormat {
    /// As text where they are UTF-8 without control characters, else as base64.
    Auto,
    /// As text; an error where they are not UTF-8.
    Text,
    /// As base64.
    Base64,
    /// As unsigned numbers of 8 bytes, big-endian: what counters are kept as.
    U64be,
}

/// How values are shown.
#[derive(Clone, Copy, Debug, Args)]
pub struct FormatArgs {
    /// How values are shown.
    #[arg(long, value_enum, default_value_t = ValueFormat::Auto, value_name = "FORMAT")]
    pub value: ValueFormat,
}

/// What to read of a job's state.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// The value of one key.
    Get {
        /// The job.
        job: String,
        /// The key.
        key: String,
        /// The partition key whose task has it [default: the key itself].
        #[arg(long, value_name = "K", conflicts_with = "task")]
        partition_key: Option<String>,
        /// The task that has it.
        #[arg(long, value_name = "N")]
        task: Option<u16>,
        /// How values are shown.
        #[command(flatten)]
        format: FormatArgs,
        /// Which host.
        #[command(flatten)]
        host: HostArgs,
    },
    /// The keys and values of one task, in key order.
    Scan {
        /// The job.
        job: String,
        /// The task.
        #[arg(long, value_name = "N")]
        task: u16,
        /// The key to start at.
        #[arg(long, value_name = "KEY", default_value = "")]
        start: String,
        /// How many to show.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// How values are shown.
        #[command(flatten)]
        format: FormatArgs,
        /// Which host.
        #[command(flatten)]
        host: HostArgs,
    },
    /// Every key and value of every task, as lines of JSON.
    Export {
        /// The job.
        job: String,
        /// The file to write [default: stdout].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// How values are shown.
        #[command(flatten)]
        format: FormatArgs,
        /// Which host.
        #[command(flatten)]
        host: HostArgs,
    },
}

/// Reads it.
///
/// # Errors
/// When the host refuses or does not answer, or a value cannot be shown so.
pub async fn run(args: StateArgs, json: bool) -> anyhow::Result<Outcome> {
    match args.command {
        StateCommand::Get { job, key, partition_key, task, format, host } => {
            let host = HostClient::new(&host)?;
            let (task, entry) = match task {
                Some(task) => (task, get_from(&host, &job, task, &key).await?),
                None => {
                    let partition_key = partition_key.as_deref().unwrap_or(&key);
                    let query = [("partition-key", partition_key), ("key", key.as_str())];
                    let found: ValueView = host.get(&["v1", "jobs", &job, "state"], &query).await?;
                    (found.task, found.entry)
                }
            };
            let shown = shown(task, &entry, format.value)?;
            if json { print::json(&shown)? } else { print::line(&value_text(&shown))? }
        }
        StateCommand::Scan { job, task, start, limit, format, host } => {
            let host = HostClient::new(&host)?;
            let mut entries = Vec::new();
            let mut out = Vec::new();
            scan(&host, &job, task, start.as_bytes(), limit, &mut |entry| {
                entries.push(shown(task, &entry, format.value)?);
                Ok(())
            })
            .await?;
            if json {
                print::json(&entries)?;
            } else {
                entries.iter().try_for_each(|entry| writeln!(out, "{}\t{}", key_text(entry), value_text(entry)))?;
                write_all(&out)?;
            }
        }
        StateCommand::Export { job, out, format, host } => {
            export(&HostClient::new(&host)?, &job, out, format.value).await?
        }
    }
    Ok(Outcome::Done)
}

fn write_all(text: &[u8]) -> anyhow::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    print::line(String::from_utf8_lossy(text).trim_end_matches('\n'))
}

/// The entry of a key in a task whose number is known.
async fn get_from(host: &HostClient, job: &str, task: u16, key: &str) -> anyhow::Result<EntryView> {
    let path = ["v1", "jobs", job, "tasks", &task.to_string(), "state"];
    let page: StatePage = host.get(&path, &[("start", key), ("limit", "1")]).await?;
    let found = page.entries.into_iter().find(|entry| entry.key_text.as_deref() == Some(key));
    found.ok_or_else(|| anyhow!("task {task} of job {job} has no key {key:?}"))
}

/// Hands over up to `limit` entries of a task, from a key on, page by page.
async fn scan(
    host: &HostClient,
    job: &str,
    task: u16,
    start: &[u8],
    limit: usize,
    take: &mut impl FnMut(EntryView) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut left = limit;
    let mut next = Some(pelton_api::model::state::to_base64(start));
    while let Some(start) = next.filter(|_| left > 0) {
        let asked = left.min(PAGE_ENTRIES).to_string();
        let path = ["v1", "jobs", job, "tasks", &task.to_string(), "state"];
        let page: StatePage = host.get(&path, &[("start-base64", &start), ("limit", &asked)]).await?;
        left -= page.entries.len().min(left);
        page.entries.into_iter().try_for_each(&mut *take)?;
        next = page.next_base64;
    }
    Ok(())
}

async fn export(host: &HostClient, job: &str, out: Option<PathBuf>, format: ValueFormat) -> anyhow::Result<()> {
    let view: JobView = host.get(&["v1", "jobs", job], &[]).await?;
    let mut writer: Box<dyn Write> = match &out {
        Some(file) => {
            let opened = File::create(file).with_context(|| format!("writing {}", file.display()))?;
            Box::new(BufWriter::new(opened))
        }
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    let mut exported = 0u64;
    for task in 0..view.tasks {
        let task = u16::try_from(task).context("a job has at most 65,536 tasks")?;
        scan(host, job, task, b"", usize::MAX, &mut |entry| {
            exported += 1;
            serde_json::to_writer(&mut writer, &shown(task, &entry, format)?)?;
            Ok(writer.write_all(b"\n")?)
        })
        .await?;
    }
    writer.flush()?;
    eprintln!("{exported} entries of {} tasks of job {job}", view.tasks);
    Ok(())
}

/// An entry as it is printed: `key` and `value`, or `key_base64` and `value_base64` where they are not text.
fn shown(task: u16, entry: &EntryView, format: ValueFormat) -> anyhow::Result<Map<String, Value>> {
    let mut fields = Map::new();
    fields.insert("task".into(), json!(task));
    let key = match &entry.key_text {
        Some(text) => ("key", text),
        None => ("key_base64", &entry.key_base64),
    };
    fields.insert(key.0.into(), json!(key.1));
    let bytes = || from_base64(&entry.value_base64).context("the host sent no base64");
    // A small counter is UTF-8 too, but no text to anyone.
    let printable = |text: &String| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
    let value = match (format, &entry.value_text) {
        (ValueFormat::Auto, Some(text)) if !printable(text) => ("value_base64", json!(entry.value_base64)),
        (ValueFormat::Auto | ValueFormat::Text, Some(text)) => ("value", json!(text)),
        (ValueFormat::Text, None) => {
            anyhow::bail!("the value of key {:?} is not UTF-8; see --value", entry.key_text.as_ref().unwrap_or(key.1))
        }
        (ValueFormat::Auto, None) | (ValueFormat::Base64, _) => ("value_base64", json!(entry.value_base64)),
        // A value of another length among counters is shown as it is, not lost.
        (ValueFormat::U64be, _) => match <[u8; 8]>::try_from(bytes()?) {
            Ok(number) => ("value", json!(u64::from_be_bytes(number))),
            Err(_) => ("value_base64", json!(entry.value_base64)),
        },
    };
    fields.insert(value.0.into(), value.1);
    Ok(fields)
}

fn field_text(entry: &Map<String, Value>, name: &str) -> String {
    let field = entry.get(name).or_else(|| entry.get(&format!("{name}_base64")));
    match field {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

fn key_text(entry: &Map<String, Value>) -> String {
    field_text(entry, "key")
}

fn value_text(entry: &Map<String, Value>) -> String {
    field_text(entry, "value")
}
