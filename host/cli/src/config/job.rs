//! `[jobs.NAME]`: a job and all it stands on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pelton_aws::{OutputFormat, OutputStream, StartRequest};
use pelton_core::policy::{Aggregates, OutOfRange, Policies};
use pelton_core::slice::TaskCount;
use pelton_core::task::{LastStraw, OnGap};
use pelton_engine::{Consumer, Grants, GuestLimits, JobSettings};
use toml::Spanned;
use toml::de::DeValue;

use super::document::{Document, Table, Wrong, found};
use super::keys::TableKind;
use super::{grants, limits, value};

/// Tasks when nothing is said.
const TASKS: u32 = 256;
/// Longest name of a job.
const NAME_CHARS_MAX: usize = 64;
/// Most input streams of a job.
const INPUTS_MAX: usize = 64;
const COMMIT_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// The longest that Kinesis keeps records: 365 days.
const REWIND_WINDOW_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(60);
const RETRIES_MAX: u64 = 100;

/// A job.
#[derive(Clone, Debug)]
pub struct JobConfig {
    /// The streams it reads.
    pub inputs: Vec<String>,
    /// How many tasks it has.
    pub tasks: TaskCount,
    /// Where it begins to read.
    pub start: StartRequest,
    /// The component of a deployment made from this.
    pub component: PathBuf,
    /// Where its outputs go, by the names its tasks use.
    pub outputs: BTreeMap<String, OutputStream>,
    /// Limits and paces.
    pub settings: JobSettings,
    /// What becomes of records that are not simply their task's.
    pub policies: Policies,
    /// What its tasks are told by a deployment made from this.
    pub config: BTreeMap<String, String>,
    /// What their instances may use by it.
    pub limits: GuestLimits,
    /// What they are granted by it.
    pub grants: Grants,
}

/// Resolves a job; none when something in it is wrong, which is noted there.
pub fn resolve(name: &str, table: &Table<'_>, document: &Document<'_>) -> Option<JobConfig> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.bytes().all(allowed) {
        let detail =
            format!("{name:?} is not a job's name: 1 to {NAME_CHARS_MAX} lower-case letters, digits and hyphens");
        table.fault_of("", &detail);
    }
    let tasks = table.value("tasks", "a whole number such as 256", |value| {
        let count = value::number(value, 1, TaskCount::MAX.into())?;
        Ok(count as u32)
    });
    let start = table.value("start", "\"trim-horizon\", \"latest\" or a time such as \"2026-01-31T12:00:00Z\"", start);
    let component = table.value("component", "the path of a component", value::text);
    if !table.has("component") {
        table.fault_of("", "`component` is missing: the path of the .wasm file that the job begins with");
    }
    let inputs = inputs(table);
    let (settings, limits) = settings(table);
    let from_job = inputs.iter().map(|input| input.from_job.clone()).collect();
    Some(JobConfig {
        inputs: inputs.into_iter().map(|input| input.stream).collect(),
        tasks: TaskCount::new(tasks.unwrap_or(TASKS))?,
        start: start.unwrap_or(StartRequest::TrimHorizon),
        component: document.path(&component?),
        outputs: outputs(table),
        settings: JobSettings { from_job, ..settings },
        limits,
        policies: policies(table),
        config: texts(table, "config"),
        grants: grants::resolve(table),
    })
}

fn start(value: &DeValue<'_>) -> Result<StartRequest, Wrong> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Array(_) | DeValue::Table(_) => {
            return Err(Wrong::Type);
        }
    };
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return value::timestamp_ms(&text).map(StartRequest::At).map_err(Wrong::Value);
    }
    value::word(value, &[("trim-horizon", Some(StartRequest::TrimHorizon)), ("latest", Some(StartRequest::Latest))])
}

fn policies(table: &Table<'_>) -> Policies {
    let out_of_range = table.value("out-of-range", "one of its words", |value| choice(value, OutOfRange::NAMES));
    let aggregates = table.value("aggregates", "one of its words", |value| choice(value, Aggregates::NAMES));
    Policies { out_of_range: out_of_range.unwrap_or_default(), aggregates: aggregates.unwrap_or_default() }
}

fn choice<T: Copy>(value: &DeValue<'_>, names: &[(&str, T)]) -> Result<T, Wrong> {
    let words: Vec<(&str, Option<T>)> = names.iter().map(|(name, choice)| (*name, Some(*choice))).collect();
    value::word(value, &words)
}

/// An input stream.
struct Input {
    stream: String,
    /// The job whose outputs it carries, of which repeats are dropped.
    from_job: Option<String>,
}

fn inputs(table: &Table<'_>) -> Vec<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    for value in table.array("inputs", "a list of streams such as [\"orders\"]") {
        let Some(input) = input(table, value) else { continue };
        if let Err(why) = value::stream_name(&input.stream) {
            table.fault(value.span(), &format!("`inputs`: {why}"));
        } else if inputs.iter().any(|known| known.stream == input.stream) {
            table.fault(value.span(), &format!("`inputs` has {:?} twice", input.stream));
        } else {
            inputs.push(input);
        }
    }
    if !table.has("inputs") {
        table.fault_of("", "`inputs` is missing: the streams that the job reads, such as [\"orders\"]");
    } else if table.array("inputs", "").is_empty() {
        table.fault_of("inputs", "`inputs` is empty; name the streams that the job reads");
    } else if inputs.len() > INPUTS_MAX {
        table.fault_of("inputs", &format!("`inputs` has {} streams; at most {INPUTS_MAX} are read", inputs.len()));
    }
    inputs
}

/// One input: the name of a stream, or a table with more about it.
fn input<'d>(table: &Table<'d>, value: &'d Spanned<DeValue<'d>>) -> Option<Input> {
    if let Some(name) = value.get_ref().as_str() {
        return Some(Input { stream: name.to_owned(), from_job: None });
    }
    if !value.get_ref().is_table() {
        let detail = format!("`inputs` has {}; expected the name of a stream", found(value.get_ref()));
        table.fault(value.span(), &detail);
        return None;
    }
    let input = table.element("inputs", value, TableKind::Input)?;
    if !input.has("stream") {
        input.fault(value.span(), "`stream` is missing");
    }
    let from_job = input.value("from-job", "the name of the job that writes to the stream", value::text);
    Some(Input { stream: input.value("stream", "the name of a stream", value::text)?, from_job })
}

fn outputs(table: &Table<'_>) -> BTreeMap<String, OutputStream> {
    let mut outputs = BTreeMap::new();
    let Some(named) = table.child("outputs", TableKind::Named) else { return outputs };
    for (name, output) in named.children(TableKind::Output) {
        if name.is_empty() {
            output.fault_of("", "the name of an output is empty");
        }
        if !output.has("stream") {
            output.fault_of("", "`stream` is missing: where the outputs go");
        }
        let formats = [("kpl", Some(OutputFormat::Kpl)), ("raw", Some(OutputFormat::Raw))];
        let format = output.value("format", "\"kpl\" or \"raw\"", |value| value::word(value, &formats));
        let stream = output.value("stream", "the name of a stream", |value| {
            let name = value::text(value)?;
            value::stream_name(&name).map_err(Wrong::Value)?;
            Ok(name)
        });
        if let Some(stream) = stream {
            let format = format.unwrap_or(OutputFormat::Kpl);
            outputs.insert(name.to_owned(), OutputStream { stream, format });
        }
    }
    outputs
}

fn settings(table: &Table<'_>) -> (JobSettings, GuestLimits) {
    let (mut settings, mut limits) = (JobSettings::default(), GuestLimits::default());
    let interval = table.value("commit-interval", "a duration such as \"500ms\"", |value| {
        value::duration_ms(value, COMMIT_INTERVAL_MIN, COMMIT_INTERVAL_MAX)
    });
    settings.commit_interval_ms = interval.unwrap_or(settings.commit_interval_ms);
    if let Some(table) = table.child("limits", TableKind::Limits) {
        limits::resolve(&table, &mut limits, &mut settings.letters);
    }
    if let Some(on_error) = table.child("on-error", TableKind::OnError) {
        let retries =
            on_error.value("retries", "a whole number such as 3", |value| value::number(value, 0, RETRIES_MAX));
        settings.retries = retries.map_or(settings.retries, |retries| retries as u32);
        let words = [("dead-letter", Some(LastStraw::DeadLetter)), ("stop", Some(LastStraw::Stop))];
        let then = on_error.value("then", "\"dead-letter\" or \"stop\"", |value| value::word(value, &words));
        settings.last_straw = then.unwrap_or(settings.last_straw);
    }
    let window = table.value("rewind-window", "a duration such as \"1h\"", |value| {
        value::duration_ms(value, Duration::ZERO, REWIND_WINDOW_MAX)
    });
    settings.rewind_window_ms = window.unwrap_or(settings.rewind_window_ms);
    let words = [("stop", Some(OnGap::Stop)), ("continue", Some(OnGap::Continue))];
    let on_gap = table.value("on-gap", "\"stop\" or \"continue\"", |value| value::word(value, &words));
    settings.on_gap = on_gap.unwrap_or(settings.on_gap);
    let words = [("polling", Some(Consumer::Polling)), ("fan-out", Some(Consumer::FanOut))];
    let consumer = table.value("consumer", "\"polling\" or \"fan-out\"", |value| value::word(value, &words));
    settings.consumer = consumer.unwrap_or(settings.consumer);
    (settings, limits)
}

/// The table below a key, whose values are for guests: text, or what is written like one.
pub fn texts(table: &Table<'_>, key: &str) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let Some(given) = table.child(key, TableKind::Named) else { return texts };
    for (key, value) in given.entries() {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            DeValue::Array(_) | DeValue::Table(_) => {
                let detail = format!("`{key}` is {}; expected text, a number or a boolean", found(value.get_ref()));
                given.fault(value.span(), &detail);
                continue;
            }
        };
        texts.insert(key.to_owned(), text);
    }
    texts
}
