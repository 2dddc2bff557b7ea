//! A Kinesis for which hours pass at once: a proxy before the embedded one, since no server on this machine trims, and none
//! has another clock than this machine.
//!
//! Until the hours pass it changes nothing. From then on the service's clock, which is the `Date` of its replies, is ahead by
//! them. What arrived before keeps its time, and so is as old as there are hours; what arrives afterwards arrives by the later
//! clock. Iterators taken before have expired. If the hours are more than retention, records that arrived before are gone from
//! replies, shards that were closed before are gone from listings, and unknown when an iterator is asked for, once the service
//! is not too busy to say so.
//!
//! It does not play fan-out, nor a horizon that moves on while a shard is read: either all that arrived before is gone, or
//! nothing is. Streams and their creation times are from before.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use aws_sdk_kinesis::primitives::{DateTime, DateTimeFormat};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::host::HostFiles;
use crate::stage::Stage;
use crate::streams;

/// How long the embedded Kinesis keeps records, in seconds.
const RETENTION_S: u64 = 24 * 3_600;
/// Whoever asks for a shard that is gone is told at first that the service is busy, more often than a client asks again by itself.
const BUSY_ANSWERS: u32 = 3;

/// A running proxy. Its hosts know no other Kinesis.
#[derive(Debug)]
pub struct Later {
    service: Arc<Service>,
    port: u16,
    /// Serves for as long as this lives.
    _runtime: Runtime,
}

#[derive(Debug)]
struct Service {
    kinesis: String,
    client: reqwest::Client,
    passed: OnceLock<Passed>,
}

/// What passed.
#[derive(Debug)]
struct Passed {
    /// When by this machine's clock, in whole seconds since 1970: arrival times have that grain too.
    at_s: u64,
    /// How long, in seconds.
    by_s: u64,
    /// Stream and id of each shard that is gone, with how often it was asked for.
    gone: BTreeMap<(String, String), AtomicU32>,
}

impl Later {
    /// Stands before the Kinesis of a stage.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn before(stage: &Stage) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let service = Arc::new(Service { kinesis: stage.servers.kinesis(), client, passed: OnceLock::new() });
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let app = axum::Router::new().fallback(answer).with_state(service.clone());
        runtime.spawn(async move { axum::serve(tokio::net::TcpListener::from_std(listener)?, app).await });
        Ok(Self { service, port, _runtime: runtime })
    }

    /// Writes the configuration of a host that reads through this.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn host(&self, stage: &Stage, name: &str, jobs: &str) -> Result<HostFiles> {
        stage.host(name, jobs)?.read_from(&format!("http://127.0.0.1:{}", self.port), &stage.servers)
    }

    /// Lets hours pass for a stream, once. What is put when this returns arrives after them.
    ///
    /// # Errors
    /// When the stream cannot be listed.
    pub fn pass(&self, stage: &Stage, stream: &str, hours: u64) -> Result<()> {
        let by_s = hours * 3_600;
        let shards = stage.run(streams::shards(&stage.kinesis, stream))?;
        let gone = shards.iter().filter(|shard| by_s > RETENTION_S && !streams::is_open(shard));
        let gone = gone.map(|shard| ((stream.to_owned(), shard.shard_id().to_owned()), AtomicU32::new(0))).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        // The embedded Kinesis dates what is put into a new child up to a second ahead.
        let at_s = now.as_secs() + 2;
        std::thread::sleep(Duration::from_secs(at_s) - now);
        let once = self.service.passed.set(Passed { at_s, by_s, gone });
        once.map_err(|_| anyhow::anyhow!("hours have passed already"))
    }

    /// Since when, by the service's clock, the hours are over, in milliseconds since 1970; 0 before they passed.
    pub fn over_ms(&self) -> u64 {
        self.service.passed.get().map_or(0, |passed| (passed.at_s + passed.by_s) * 1_000)
    }
}

async fn answer(State(service): State<Arc<Service>>, headers: HeaderMap, body: Bytes) -> Response {
    match service.answer(headers, &body).await {
        Ok(answer) => answer,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

impl Service {
    async fn answer(&self, mut headers: HeaderMap, body: &[u8]) -> Result<Response> {
        let passed = self.passed.get();
        let target = headers.get("x-amz-target").context("a request has a target")?.to_str()?.to_owned();
        let call = target.rsplit('.').next().unwrap_or_default();
        let mut request: Value = serde_json::from_slice(body)?;
        let (status, reply) = match change_request(passed, call, &mut request) {
            Some(error) => (StatusCode::BAD_REQUEST, json!({"__type": error, "message": "hours have passed"})),
            None => {
                [header::HOST, header::CONTENT_LENGTH].iter().for_each(|name| drop(headers.remove(name)));
                let asked = self.client.post(&self.kinesis).headers(headers).body(request.to_string()).send().await?;
                let (status, text) = (asked.status(), asked.bytes().await?);
                let mut reply = if text.is_empty() { Value::Null } else { serde_json::from_slice(&text)? };
                change_reply(passed, call, &request, &mut reply);
                (status, reply)
            }
        };
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + passed.map_or(0, |passed| passed.by_s);
        let date = DateTime::from_secs(now_s.cast_signed()).fmt(DateTimeFormat::HttpDate)?;
        let reply = if reply.is_null() { String::new() } else { reply.to_string() };
        let answer = Response::builder().status(status).header(header::DATE, date);
        Ok(answer.header(header::CONTENT_TYPE, "application/x-amz-json-1.1").body(Body::from(reply))?)
    }
}

/// What iterators begin with, so that one can tell which are from before.
fn age(passed: Option<&Passed>) -> &'static str {
    if passed.is_some() { "later:" } else { "sooner:" }
}

/// Makes of a request what it is for the embedded server, or names the error with which the later one would refuse it.
fn change_request(passed: Option<&Passed>, call: &str, request: &mut Value) -> Option<&'static str> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match (call, passed) {
        ("GetRecords", _) => {
            let iterator = text(&request["ShardIterator"]);
            let Some(iterator) = iterator.strip_prefix(age(passed)) else { return Some("ExpiredIteratorException") };
            request["ShardIterator"] = iterator.into();
        }
        ("GetShardIterator", Some(passed)) => {
            if let Some(asked) = passed.gone.get(&(text(&request["StreamName"]), text(&request["ShardId"]))) {
                let is_busy = asked.fetch_add(1, Ordering::Relaxed) < BUSY_ANSWERS;
                return Some(if is_busy {
                    "ProvisionedThroughputExceededException"
                } else {
                    "ResourceNotFoundException"
                });
            }
            if let Some(timestamp_s) = request["Timestamp"].as_f64() {
                let (at_s, by_s) = (passed.at_s as f64, passed.by_s as f64);
                // Nothing arrived while the hours passed.
                request["Timestamp"] = timestamp_s.min(at_s).max(timestamp_s - by_s).into();
            }
        }
        _ => {}
    }
    None
}

/// Makes of the embedded server's reply what the later one says.
fn change_reply(passed: Option<&Passed>, call: &str, request: &Value, reply: &mut Value) {
    for name in ["ShardIterator", "NextShardIterator"] {
        if let Some(iterator) = reply[name].as_str() {
            reply[name] = format!("{}{iterator}", age(passed)).into();
        }
    }
    let Some(passed) = passed else { return };
    if let ("GetRecords", Some(Value::Array(records))) = (call, reply.get_mut("Records")) {
        let arrived_s = |record: &Value| record["ApproximateArrivalTimestamp"].as_f64().unwrap_or_default();
        let is_later = |record: &Value| arrived_s(record) >= passed.at_s as f64;
        records.retain(|record| passed.by_s <= RETENTION_S || is_later(record));
        for record in records.iter_mut().filter(|record| is_later(record)) {
            record["ApproximateArrivalTimestamp"] = (arrived_s(record) + passed.by_s as f64).into();
        }
    }
    if let ("ListShards", Some(Value::Array(shards))) = (call, reply.get_mut("Shards")) {
        let stream = request["StreamName"].as_str().unwrap_or_default();
        let is_gone = |shard: &Value| {
            let id = shard["ShardId"].as_str().unwrap_or_default();
            passed.gone.contains_key(&(stream.to_owned(), id.to_owned()))
        };
        shards.retain(|shard| !is_gone(shard));
    }
}
