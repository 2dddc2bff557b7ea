//! `pelton put`: records into a stream, in their order for each key. At most one record of a key is on its way at a
//! time, since Kinesis promises no order within a call and may take a part of it only.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::ProvideErrorMetadata as _;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pelton_core::limits::backoff_ms;
use serde::Serialize;
use tokio::sync::mpsc;

use super::records::{LineFormat, Record, Records};
use crate::aws::{self, AwsArgs};
use crate::exit::Outcome;
use crate::print;

/// Records in one call; the limit of PutRecords.
const CALL_RECORDS_MAX: usize = 500;
/// Bytes in one call; the limit of PutRecords, and lower than AWS' newer one so that every server takes it.
const CALL_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Records read ahead, among which those of different keys are found.
const WINDOW_RECORDS: usize = 5_000;
/// Bytes read ahead.
const WINDOW_BYTES: usize = 32 * 1024 * 1024;
/// How long records wait for more to go with them.
const LINGER: Duration = Duration::from_millis(20);
/// Records between the reading thread and the calls.
const CHANNEL_RECORDS: usize = 1_000;
/// Calls in a row that may put nothing.
const FRUITLESS_CALLS_MAX: u32 = 12;

/// Put records into a stream.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// The stream.
    pub stream: String,
    /// The file with the records, `-` for stdin: lines such as {"key": "customer-17", "data": "hello"}, with
    /// "data_base64" for data that is no text, and "explicit_hash_key" where one is wanted.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Take each line as data, under its number as the key.
    #[arg(long)]
    pub lines: bool,
    /// Take each line as data under this key.
    #[arg(long, value_name = "KEY", requires = "lines")]
    pub key: Option<String>,
    /// Fill every call, whatever the keys: faster for few keys, but records of one key may swap places.
    #[arg(long)]
    pub unordered: bool,
    /// Show progress though stderr is no terminal.
    #[arg(long)]
    pub progress: bool,
    /// Where Kinesis is.
    #[command(flatten)]
    pub aws: AwsArgs,
}

/// What was put.
#[derive(Debug, Default, Serialize)]
struct Summary {
    stream: String,
    records: u64,
    bytes: u64,
    calls: u64,
    retried: u64,
    seconds: f64,
}

/// Puts every record.
///
/// # Errors
/// When a line is wrong or Kinesis refuses; says how many were put before.
pub async fn run(args: PutArgs, json: bool) -> anyhow::Result<Outcome> {
    let settings = aws::settings(&args.aws)?;
    let format = if args.lines { LineFormat::Data(args.key.clone()) } else { LineFormat::Json };
    let from_stdin = args.file == Path::new("-");
    let size = if from_stdin { None } else { Some(validate(&args.file, &format)?) };
    let kinesis = pelton_aws::connect(&settings).await.kinesis;
    let bar = progress(size, args.progress);
    let records = read(&args.file, from_stdin, format, bar.clone())?;
    let began = Instant::now();
    let mut put = Put {
        kinesis,
        records,
        window: VecDeque::new(),
        window_bytes: 0,
        ended: false,
        unordered: args.unordered,
        summary: Summary { stream: args.stream, ..Summary::default() },
        bar,
    };
    let result = put.run().await;
    put.bar.finish_and_clear();
    let mut summary = put.summary;
    summary.seconds = began.elapsed().as_secs_f64();
    if let Err(error) = result {
        let Summary { stream, records, .. } = summary;
        let place = aws::place(&settings);
        return Err(error.context(format!("putting into stream {stream} ({place}) ended after {records} records")));
    }
    if json {
        print::json(&summary)?;
    } else {
        let Summary { stream, records, bytes, retried, seconds, .. } = &summary;
        let retried = if *retried > 0 { format!(", {retried} of them again after a refusal") } else { String::new() };
        print::line(&format!(
            "{records} records ({}) put into {stream} in {seconds:.1} s{retried}",
            print::size(*bytes)
        ))?;
    }
    Ok(Outcome::Done)
}

/// Looks at every line of a file before the first record is put, so that a wrong file changes nothing. Returns its
/// size.
fn validate(file: &Path, format: &LineFormat) -> anyhow::Result<u64> {
    let open = File::open(file).with_context(|| format!("reading {}", file.display()))?;
    let size = open.metadata()?.len();
    for record in Records::new(BufReader::new(open), format.clone()) {
        record.with_context(|| file.display().to_string())?;
    }
    Ok(size)
}

fn progress(size: Option<u64>, asked: bool) -> ProgressBar {
    if !asked && !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match size {
        Some(_) => "{bar:30} {percent}% {msg} {elapsed}",
        None => "{spinner} {msg} {elapsed}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = match size {
        Some(size) => ProgressBar::new(size),
        None => ProgressBar::new_spinner(),
    };
    // Asked for by name, it is drawn even where nothing can be redrawn, as lines.
    let target = if asked { ProgressDrawTarget::stderr_with_hz(2) } else { ProgressDrawTarget::stderr() };
    bar.set_draw_target(target);
    bar.with_style(style)
}

/// Reads records on a thread of its own, since reading blocks.
fn read(
    file: &Path,
    from_stdin: bool,
    format: LineFormat,
    bar: ProgressBar,
) -> anyhow::Result<mpsc::Receiver<anyhow::Result<Record>>> {
    let reader: Box<dyn BufRead + Send> = if from_stdin {
        if std::io::stdin().is_terminal() {
            eprintln!("reading records from the terminal, one a line; Ctrl-D ends them");
        }
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(file).with_context(|| format!("reading {}", file.display()))?))
    };
    let (sender, receiver) = mpsc::channel(CHANNEL_RECORDS);
    let body = move || {
        let mut records = Records::new(reader, format);
        while let Some(record) = records.next() {
            bar.set_position(records.bytes());
            let failed = record.is_err();
            // Nobody listens any more once putting failed.
            if sender.blocking_send(record).is_err() || failed {
                return;
            }
        }
    };
    std::thread::Builder::new().name("reader".into()).spawn(body)?;
    Ok(receiver)
}

struct Put {
    kinesis: Client,
    records: mpsc::Receiver<anyhow::Result<Record>>,
    /// Read and not yet acknowledged, in their order.
    window: VecDeque<Record>,
    window_bytes: usize,
    ended: bool,
    unordered: bool,
    summary: Summary,
    bar: ProgressBar,
}

impl Put {
    async fn run(&mut self) -> anyhow::Result<()> {
        let mut fruitless = 0;
        loop {
            let wrong = self.fill().await.err();
            // What stands before a wrong line is put.
            while !self.window.is_empty() {
                let acknowledged = self.call(fruitless).await?;
                fruitless = if acknowledged == 0 { fruitless + 1 } else { 0 };
                if !self.ended && wrong.is_none() {
                    break;
                }
            }
            match wrong {
                Some(wrong) => return Err(wrong),
                None if self.ended => return Ok(()),
                None => {}
            }
        }
    }

    fn is_full(&self) -> bool {
        self.window.len() >= WINDOW_RECORDS || self.window_bytes >= WINDOW_BYTES
    }

    /// Reads ahead until the window is full, the records end, or none comes for a moment while some wait: what is piped
    /// in slowly is put as it comes.
    async fn fill(&mut self) -> anyhow::Result<()> {
        while !self.ended && !self.is_full() {
            let limit = if self.window.is_empty() { Duration::MAX } else { LINGER };
            match tokio::time::timeout(limit, self.records.recv()).await {
                Ok(Some(record)) => {
                    let record = record?;
                    self.window_bytes += record.weight();
                    self.window.push_back(record);
                }
                Ok(None) => self.ended = true,
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Which records of the window the next call has.
    fn choose(&self) -> Vec<usize> {
        let (mut chosen, mut bytes, mut keys) = (Vec::new(), 0, BTreeSet::new());
        for (index, record) in self.window.iter().enumerate() {
            if !keys.insert(record.key.as_str()) && !self.unordered {
                continue;
            }
            bytes += record.weight();
            if bytes > CALL_BYTES_MAX || chosen.len() == CALL_RECORDS_MAX {
                break;
            }
            chosen.push(index);
        }
        chosen
    }

    /// Puts what it can in one call. Returns how many records were acknowledged.
    async fn call(&mut self, fruitless: u32) -> anyhow::Result<usize> {
        tokio::time::sleep(Duration::from_millis(backoff_ms(fruitless))).await;
        let chosen = self.choose();
        let entry = |index: &usize| {
            let record = &self.window[*index];
            let entry =
                PutRecordsRequestEntry::builder().partition_key(&record.key).data(Blob::new(record.data.clone()));
            let explicit = record.explicit_hash_key.map(|hash| hash.to_string());
            entry.set_explicit_hash_key(explicit).build().expect("an entry has a key and data")
        };
        let entries = chosen.iter().map(entry).collect();
        self.summary.calls += 1;
        let reply =
            self.kinesis.put_records().stream_name(&self.summary.stream).set_records(Some(entries)).send().await;
        let results = match reply {
            Ok(reply) => reply.records,
            Err(error) => {
                let passing = error.as_service_error().is_none_or(|service| {
                    matches!(service.code(), Some("ProvisionedThroughputExceededException" | "LimitExceededException"))
                });
                if passing && self.summary.records > 0 && fruitless < FRUITLESS_CALLS_MAX {
                    self.summary.retried += chosen.len() as u64;
                    return Ok(0);
                }
                return Err(aws::failure(&error));
            }
        };
        if results.len() != chosen.len() {
            bail!("Kinesis answered for {} records of {}", results.len(), chosen.len());
        }
        let refused = results.iter().find_map(|result| Some((result.error_code()?, result.error_message()?)));
        let mut kept = Vec::new();
        let mut acknowledged = 0;
        for (index, result) in chosen.iter().zip(&results).rev() {
            if result.error_code().is_some() {
                kept.push(*index);
                continue;
            }
            let record = self.window.remove(*index).expect("chosen from the window");
            acknowledged += 1;
            self.window_bytes -= record.weight();
            self.summary.records += 1;
            self.summary.bytes += record.weight() as u64;
        }
        self.summary.retried += kept.len() as u64;
        self.bar.set_message(format!("{} records", self.summary.records));
        match refused {
            Some((code, message)) if acknowledged == 0 && fruitless >= FRUITLESS_CALLS_MAX => {
                bail!("Kinesis keeps refusing: {code}: {message}")
            }
            Some(_) | None => Ok(acknowledged),
        }
    }
}
