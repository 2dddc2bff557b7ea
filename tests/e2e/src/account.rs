//! An account of every record put into a stream some of which is gone before it is read: each is folded once, or lies in a gap
//! that a dead letter of its task tells of, and no dead letter tells of anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kinesis::primitives::Blob;
use pelton_core::slice::HashKey;
use serde_json::Value;

use crate::api::Api;
use crate::events::Watch;
use crate::host::HostFiles;
use crate::later::Later;
use crate::process::{component, wait_for};
use crate::stage::Stage;
use crate::streams;

/// The job that reads the stream.
pub const JOB: &str = "gaps";
/// Records of one [`Account::put`].
pub const KEYS: usize = 20;
/// Tasks of the job. Each owns a quarter of the hash space.
pub const TASKS: usize = 4;

const LIMIT: Duration = Duration::from_secs(40);
/// A quarter of the hash space has so many bits.
const SLICE_BITS: u32 = 126;

/// A record as it was put.
#[derive(Debug)]
struct Put {
    task: u64,
    /// A word that no other record has.
    word: String,
    shard: String,
    sequence: String,
    /// It had arrived by then, in milliseconds since 1970.
    arrived_by_ms: u64,
}

/// A stream called `in`, what stands before it, and all that was put into it.
#[derive(Debug)]
pub struct Account {
    /// The embedded servers.
    pub stage: Stage,
    /// The Kinesis that hosts see.
    later: Later,
    puts: Vec<Put>,
    /// Records put that are no job's.
    before: usize,
}

/// What dead letters tell of: task and shard.
pub type Pairs = BTreeSet<(u64, String)>;

impl Account {
    /// A stream of so many shards, with nothing in it.
    ///
    /// # Errors
    /// When a server does not start.
    pub fn open(shards: i32) -> Result<Self> {
        let stage = Stage::set(&[("in", shards)])?;
        Ok(Self { later: Later::before(&stage)?, stage, puts: Vec::new(), before: 0 })
    }

    /// A host with the job and these settings of it.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn host(&self, settings: &str) -> Result<HostFiles> {
        let file = component("word_count")?;
        let job = format!("[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = {TASKS}\ncomponent = {file:?}\n");
        self.later.host(&self.stage, "host", &format!("{job}commit-interval = \"50ms\"\n{settings}\n"))
    }

    /// Puts one record for each key, and returns which of all they are.
    ///
    /// # Errors
    /// When Kinesis refuses.
    pub fn put(&mut self) -> Result<Range<usize>> {
        let first = self.puts.len();
        for number in first..first + KEYS {
            let (key, word) = (format!("key{}", number % KEYS), format!("n{}", self.before + number));
            let data = Blob::new(word.as_bytes());
            let put = self.stage.kinesis.put_record().stream_name("in").partition_key(&key).data(data);
            let reply = self.stage.run(put.send())?;
            self.puts.push(Put {
                task: (HashKey::of(&key).0 >> SLICE_BITS) as u64,
                word,
                shard: reply.shard_id().to_owned(),
                sequence: reply.sequence_number().to_owned(),
                arrived_by_ms: SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64,
            });
        }
        Ok(first..self.puts.len())
    }

    /// Lets hours pass, once.
    ///
    /// # Errors
    /// When Kinesis refuses.
    pub fn pass(&self, hours: u64) -> Result<()> {
        self.later.pass(&self.stage, "in", hours)
    }

    /// Of what was put so far nothing is to be folded or told of: it is no job's.
    pub fn begin_anew(&mut self) {
        self.before += self.puts.len();
        self.puts.clear();
    }

    /// Every task with each shard that touches its slice, but for shards that are left out.
    ///
    /// # Errors
    /// When Kinesis refuses.
    pub fn pairs(&self, left_out: &[&str]) -> Result<Pairs> {
        let mut pairs = BTreeSet::new();
        for shard in self.stage.run(streams::shards(&self.stage.kinesis, "in"))? {
            let (start, end) = streams::range(&shard);
            let tasks = (start >> SLICE_BITS) as u64..=(end >> SLICE_BITS) as u64;
            let tasks = tasks.filter(|_| !left_out.contains(&shard.shard_id()));
            pairs.extend(tasks.map(|task| (task, shard.shard_id().to_owned())));
        }
        Ok(pairs)
    }

    /// Waits until every record that is not among those that may be lost is folded, and expects it to be so once; of the
    /// others, that those not folded lie in gaps. Returns how many these are.
    ///
    /// # Errors
    /// When a record is unaccounted for, or a task stopped.
    pub fn check(&self, api: &Api, may_be_lost: &Range<usize>) -> Result<usize> {
        let folded = || api.fates(JOB).map(|fates| fates.get("folded").copied().unwrap_or_default());
        let certain = (self.puts.len() - may_be_lost.len()) as u64;
        let waited =
            wait_for("the records to be folded", LIMIT, || Ok(folded().ok().filter(|folded| *folded >= certain)));
        waited.with_context(|| format!("{:?}", api.tasks(JOB)))?;
        api.wait_caught_up(JOB, LIMIT)?;
        let (counts, letters) = (api.counts(JOB)?, api.dead_letters(JOB)?);
        let mut lost = 0;
        for (number, put) in self.puts.iter().enumerate() {
            let count = counts.get(put.word.as_bytes()).copied().unwrap_or_default();
            if count == 0 && may_be_lost.contains(&number) {
                let told = letters.iter().any(|letter| tells_of(letter, put));
                ensure!(told, "{} in {} is gone without a dead letter: {letters:?}", put.word, put.shard);
                lost += 1;
            } else {
                ensure!(count == 1, "{} was folded {count} times", put.word);
            }
        }
        let fates = api.fates(JOB)?;
        let expected = BTreeMap::from([("folded".to_owned(), (self.puts.len() - lost) as u64)]);
        ensure!(fates == expected, "{fates:?} where {lost} of {} are lost", self.puts.len());
        Ok(lost)
    }

    /// Waits for a dead letter of each task and shard, and expects no other. Each is of after the hours passed, and says
    /// nothing of what arrived since.
    ///
    /// # Errors
    /// When there is another.
    pub fn letters(&self, api: &Api, pairs: &Pairs) -> Result<Vec<Value>> {
        let over_ms = self.later.over_ms();
        let letters = wait_for("the dead letters", LIMIT, || {
            Ok(api.dead_letters(JOB).ok().filter(|letters| letters.len() >= pairs.len()))
        });
        let letters = letters.with_context(|| format!("{:?}", api.dead_letters(JOB)))?;
        let mut told = Vec::new();
        for letter in &letters {
            let content = gap(letter).with_context(|| format!("{letter} tells of no gap"))?;
            let is_gone = letter["message"].as_str().is_some_and(|message| message.contains("gone"));
            ensure!(is_gone && letter["at_ms"].as_u64() >= Some(over_ms), "{letter} where it was {over_ms}");
            ensure!(content["to"]["timestamp_ms"].as_u64().is_none_or(|to_ms| to_ms < over_ms), "{letter}");
            let (task, shard) = (letter["task"].as_u64().context("a task")?, content["shard"].as_str());
            told.push((task, shard.context("a shard")?.to_owned()));
        }
        told.sort();
        ensure!(told.iter().eq(pairs), "{told:?} are told of, not {pairs:?}");
        Ok(letters)
    }
}

/// Whether a dead letter says that a record may be gone.
fn tells_of(letter: &Value, put: &Put) -> bool {
    let Some(content) = gap(letter).filter(|content| content["shard"] == put.shard.as_str()) else { return false };
    let (from, to) = (&content["from"], &content["to"]);
    // Decimal numbers of any size.
    let size = |number: &str| (number.len(), number.to_owned());
    let is_behind = match from["at"].as_str() {
        Some("trim_horizon") => true,
        Some("timestamp") => from["timestamp_ms"].as_u64().is_some_and(|from_ms| from_ms <= put.arrived_by_ms),
        Some("after") => size(from["sequence_number"].as_str().unwrap_or_default()) < size(&put.sequence),
        _ => false,
    };
    let is_before = match to["at"].as_str() {
        Some("shard_end") => true,
        Some("timestamp") => to["timestamp_ms"].as_u64().is_some_and(|to_ms| put.arrived_by_ms < to_ms),
        _ => false,
    };
    letter["task"] == put.task && is_behind && is_before
}

/// The content of a dead letter that is a gap in the stream.
pub fn gap(letter: &Value) -> Option<&Value> {
    let content = &letter["content"];
    (letter["cause"] == "gap" && content["kind"] == "gap" && content["stream"] == "in").then_some(content)
}

/// What tells one dead letter from another, and cannot change.
pub fn identities(letters: &[Value]) -> BTreeSet<String> {
    let identity = |letter: &Value| format!("{} {} {}", letter["task"], letter["number"], letter["content"]["from"]);
    letters.iter().map(identity).collect()
}

/// Expects a host to have counted these letters and no other since it started, and to have told of each by an event.
///
/// # Errors
/// When it did not.
pub fn told(api: &Api, letters: &[Value]) -> Result<()> {
    let text = String::from_utf8(api.ask("GET", "/metrics", &[], b"")?.body)?;
    let series = format!("pelton_dead_letters_written_total{{job=\"{JOB}\",reason=\"gap\"}} ");
    let counted = text.lines().find_map(|line| line.strip_prefix(&series)).context("gaps are counted")?;
    ensure!(counted == letters.len().to_string(), "{counted} are counted, not those of {letters:?}");
    // With another process' id for the last one, all that is kept of this process follows.
    let watch = Watch::begin(api, Some("another-1"))?;
    let mut expected = letters.to_vec();
    while !expected.is_empty() {
        let event = watch.wait("the event of a gap", LIMIT, |event| event.name == "gap")?.data;
        let is_of = |letter: &Value| {
            let same = |name: &str| event[name] == letter["content"][name];
            let is_it = event["task"] == letter["task"] && event["letter"] == letter["number"];
            is_it && ["stream", "shard", "from", "to"].into_iter().all(same)
        };
        let at = expected.iter().position(is_of).with_context(|| format!("{event} is of none of {expected:?}"))?;
        expected.remove(at);
    }
    Ok(())
}
