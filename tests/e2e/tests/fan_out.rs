//! Jobs whose shards push: everything is folded once through reshards and a death, and by polling where fan-out is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pelton_e2e::api::Api;
use pelton_e2e::process::{component, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::streams;
use serde_json::Value;

const JOB: &str = "pushed";
const KEYS: usize = 40;
const LIMIT: Duration = Duration::from_secs(60);
/// Consumers that a stream has at most.
const CONSUMERS_MAX: usize = 20;

fn job() -> Result<String> {
    Ok(format!(
        "[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = 8\ncomponent = {:?}\nconsumer = \"fan-out\"\n\
         commit-interval = \"50ms\"\n",
        component("word_count")?
    ))
}

/// A stream, and how many records were put into it: each has a word of its own, and the word of its key.
struct Input {
    stage: Stage,
    records: usize,
}

impl Input {
    fn put(&mut self, records: usize) -> Result<()> {
        let numbers = self.records..self.records + records;
        let entries: Vec<_> = numbers
            .map(|number| entry(&format!("key{}", number % KEYS), &format!("key{} n{number}", number % KEYS)))
            .collect();
        self.stage.put("in", &entries)?;
        self.records += records;
        Ok(())
    }

    /// Waits until as many records are folded as were put, and expects each of them once.
    fn check(&self, api: &Api) -> Result<()> {
        let put = self.records as u64;
        let folded = wait_for("every record to be folded", LIMIT, || {
            let Ok(fates) = api.fates(JOB) else { return Ok(None) };
            let folded = fates.get("folded").copied().unwrap_or_default();
            Ok((folded >= put).then_some(folded))
        });
        folded.with_context(|| format!("{:?}", api.fates(JOB)))?;
        api.wait_caught_up(JOB, LIMIT)?;
        let counts = api.counts(JOB)?;
        let mut expected = BTreeMap::new();
        for number in 0..self.records {
            *expected.entry(format!("key{}", number % KEYS).into_bytes()).or_default() += 1;
            expected.insert(format!("n{number}").into_bytes(), 1);
        }
        let differs = expected.iter().find(|(word, count)| counts.get(*word) != Some(count));
        ensure!(differs.is_none(), "{differs:?} was put; {:?}", differs.map(|(word, _)| counts.get(word)));
        ensure!(counts.len() == expected.len(), "{} words where {} were put", counts.len(), expected.len());
        Ok(())
    }
}

/// Waits until every shard that still feeds a task is read like this.
fn wait_read_by(api: &Api, consumer: &str) -> Result<Vec<Value>> {
    wait_for(&format!("shards to be read by {consumer}"), LIMIT, || {
        let Ok((200, reply)) = api.get(&format!("/v1/jobs/{JOB}/shards")) else { return Ok(None) };
        let shards = reply["shards"].as_array().context("there are shards")?;
        let fed = shards.iter().filter(|shard| shard["closed"] == false && shard["fetches"] != 0);
        let fed: Vec<Value> = fed.cloned().collect();
        Ok((!fed.is_empty() && fed.iter().all(|shard| shard["consumer"] == consumer)).then_some(fed))
    })
}

#[test]
fn what_shards_push_is_folded_once() -> Result<()> {
    let mut input = Input { stage: Stage::set(&[("in", 2)])?, records: 0 };
    input.put(1_000)?;
    let host = input.stage.host("host", &job()?)?;
    let mut process = host.start(&[])?;
    let api = host.api()?;
    input.check(&api).with_context(|| process.said().unwrap_or_default())?;
    input.stage.run(streams::split(&input.stage.kinesis, "in", 0))?;
    input.put(1_000)?;
    input.stage.run(streams::merge(&input.stage.kinesis, "in", 1))?;
    input.put(1_000)?;
    input.check(&api).with_context(|| process.said().unwrap_or_default())?;
    for shard in wait_read_by(&api, "fan-out")? {
        ensure!(shard["fan_out_refused"].is_null() && shard["error"].is_null(), "{shard}");
    }

    // It dies in the middle, with a split under way.
    input.put(1_000)?;
    input.stage.run(streams::split(&input.stage.kinesis, "in", 1))?;
    input.put(1_000)?;
    process.kill()?;
    input.put(1_000)?;
    let process = host.start(&[])?;
    input.put(1_000)?;
    input.check(&api).with_context(|| process.said().unwrap_or_default())?;
    wait_read_by(&api, "fan-out")?;
    let said = process.said()?;
    ensure!(said.matches("registered the fan-out consumer pelton-pushed").count() == 1, "{said}");
    ensure!(!said.contains("fan-out is refused"), "{said}");
    Ok(())
}

#[test]
fn refused_it_polls_until_fan_out_is_to_be_had() -> Result<()> {
    let mut input = Input { stage: Stage::set(&[("in", 2)])?, records: 0 };
    let kinesis = input.stage.kinesis.clone();
    let summary = input.stage.run(kinesis.describe_stream_summary().stream_name("in").send())?;
    let arn = summary.stream_description_summary().context("the stream is there")?.stream_arn().to_owned();
    for consumer in 0..CONSUMERS_MAX {
        let register = kinesis.register_stream_consumer().stream_arn(&arn).consumer_name(format!("other-{consumer}"));
        input.stage.run(register.send())?;
    }
    input.put(1_000)?;
    let host = input.stage.host("host", &job()?)?;
    let process = host.start(&[])?;
    let api = host.api()?;
    input.check(&api).with_context(|| process.said().unwrap_or_default())?;
    for shard in wait_read_by(&api, "polling")? {
        let why = shard["fan_out_refused"].as_str().with_context(|| shard.to_string())?;
        ensure!(why.contains("LimitExceededException") && why.contains("stream in"), "{why}");
    }
    let said = process.said()?;
    ensure!(said.matches("polls, because fan-out is refused").count() == 1, "it is said once: {said}");

    // There is room for ours.
    let deregister = kinesis.deregister_stream_consumer().stream_arn(&arn).consumer_name("other-7");
    input.stage.run(deregister.send())?;
    for shard in wait_read_by(&api, "fan-out")? {
        ensure!(shard["fan_out_refused"].is_null(), "{shard}");
    }
    input.put(1_000)?;
    input.check(&api).with_context(|| process.said().unwrap_or_default())
}
