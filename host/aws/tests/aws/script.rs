//! A Kinesis that pushes what a script says: consumers, subscriptions, and the frames of their event streams.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt as _;
use pelton_aws::{AwsSettings, Connections, connect};
use serde_json::{Value, json};

/// What a subscription pushes.
#[derive(Clone, Debug)]
pub enum Frame {
    /// Records by their sequence numbers, then where to go on and the children.
    Event(&'static [u64], Option<u64>, &'static [&'static str]),
    /// An error in mid-stream.
    Exception(&'static str),
    /// Nothing, for ever.
    Silence,
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// An error.
    Error(u16, &'static str),
    /// A subscription that pushes this, and then runs out.
    Push(Vec<Frame>),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub operation: String,
    pub body: Value,
    pub at: Instant,
}

/// The script, and what was asked so far.
#[derive(Clone, Debug, Default)]
pub struct Script {
    answers: Arc<Mutex<VecDeque<(&'static str, Answer)>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Script {
    /// Serves on a port of this machine. A consumer is always found, unless the script says otherwise.
    pub async fn serve(&self) -> Result<Connections> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let app = Router::new().route("/", post(answer)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let settings =
            AwsSettings { region: None, kinesis_endpoint: Some(endpoint.clone()), dynamodb_endpoint: Some(endpoint) };
        Ok(connect(&settings).await)
    }

    /// The next requests of an operation are answered so.
    pub fn next(&self, operation: &'static str, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.answers).extend(answers.into_iter().map(|answer| (operation, answer)));
    }

    /// The requests of an operation so far.
    pub fn asked(&self, operation: &str) -> Vec<Asked> {
        lock(&self.asked).iter().filter(|asked| asked.operation == operation).cloned().collect()
    }

    /// Type and sequence number of where each subscription was asked to begin.
    pub fn positions(&self) -> Vec<String> {
        let asked = self.asked("SubscribeToShard").into_iter();
        asked
            .map(|asked| {
                let position = &asked.body["StartingPosition"];
                let number = position["SequenceNumber"].as_str().or(position["Timestamp"].as_f64().map(|_| "time"));
                format!("{} {}", position["Type"].as_str().unwrap_or("none"), number.unwrap_or("-"))
            })
            .collect()
    }
}

async fn answer(State(script): State<Script>, headers: HeaderMap, body: String) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let asked = serde_json::from_str(&body).unwrap_or_default();
    lock(&script.asked).push(Asked { operation: operation.clone(), body: asked, at: Instant::now() });
    let answer = {
        let mut answers = lock(&script.answers);
        let at = answers.iter().position(|(name, _)| *name == operation);
        at.and_then(|at| answers.remove(at)).map(|(_, answer)| answer)
    };
    match answer {
        Some(Answer::Error(status, code)) => {
            let status = StatusCode::from_u16(status).expect("a status has three digits");
            (status, json!({"__type": code, "message": "as the script has it"}).to_string()).into_response()
        }
        Some(Answer::Push(frames)) => push(frames),
        None if operation == "SubscribeToShard" => push(vec![Frame::Silence]),
        None => {
            let consumer = json!({
                "ConsumerARN": "arn:consumer", "ConsumerName": "pelton-orders", "ConsumerStatus": "ACTIVE",
                "ConsumerCreationTimestamp": 1.0, "StreamARN": "arn:stream",
            });
            json!({"ConsumerDescription": consumer, "Consumer": consumer}).to_string().into_response()
        }
    }
}

fn push(frames: Vec<Frame>) -> Response {
    let first = frame("event", ":event-type", "initial-response", json!({}));
    let frames = futures::stream::iter(frames).then(|next| async move {
        match next {
            Frame::Event(records, next, children) => {
                frame("event", ":event-type", "SubscribeToShardEvent", event(records, next, children))
            }
            Frame::Exception(code) => frame("exception", ":exception-type", code, json!({"message": "scripted"})),
            Frame::Silence => std::future::pending().await,
        }
    });
    let bytes = futures::stream::once(async { first }).chain(frames).map(Ok::<_, std::io::Error>);
    ([("content-type", "application/vnd.amazon.eventstream")], Body::from_stream(bytes)).into_response()
}

fn event(records: &[u64], next: Option<u64>, children: &[&str]) -> Value {
    let record = |number: &u64| {
        json!({
            "SequenceNumber": number.to_string(), "PartitionKey": format!("key {number}"), "Data": "eA==",
            "ApproximateArrivalTimestamp": 1_700_000_000.5,
        })
    };
    let child = |id: &&str| {
        json!({
            "ShardId": id, "ParentShards": ["shardId-000000000000"],
            "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
        })
    };
    let mut event = json!({
        "Records": records.iter().map(record).collect::<Vec<_>>(),
        "ContinuationSequenceNumber": next.map(|next| next.to_string()),
        "MillisBehindLatest": 7,
    });
    if !children.is_empty() {
        event["ChildShards"] = children.iter().map(child).collect();
    }
    event
}

fn frame(message: &'static str, kind: &'static str, name: &'static str, payload: Value) -> Vec<u8> {
    let text = |name: &'static str, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
    let message = Message::new(payload.to_string().into_bytes())
        .add_header(text(":message-type", message))
        .add_header(text(kind, name))
        .add_header(text(":content-type", "application/json"));
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).expect("a message of the script can be framed");
    bytes
}
