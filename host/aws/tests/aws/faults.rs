//! Faults between the SDK and the servers: an HTTP client that, for the operations named in its script, loses the reply of a
//! request that was served, has one served late or in part, or answers in the server's place. Beside the script it can make
//! pages short, and answer reads that ask for no consistency from a replica that fell behind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use pelton_aws::Connections;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// An impatient client gives up an attempt after this.
const PATIENCE: Duration = Duration::from_secs(2);

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is served as ever.
    Pass,
    /// It is served, and the reply is lost.
    LoseReply,
    /// It is not served, and answered with a status and a body.
    Answer(u16, String),
    /// A BatchWriteItem of which nothing is done, and all is said to be undone.
    Undone,
    /// A BatchWriteItem of which the first half is done, and the rest said to be undone.
    HalfDone,
    /// It is served, and the reply comes after anybody waits for it.
    SlowReply,
    /// The client gives it up while it is under way. It is served when [`Faults::release`] is called.
    Held,
}

impl Fault {
    /// An error of the service.
    pub fn error(status: u16, code: &str) -> Self {
        Self::Answer(status, format!(r#"{{"__type":"{code}","message":"as the script has it"}}"#))
    }

    /// What both services say to whoever asks for too much.
    pub fn throttled() -> Self {
        Self::error(400, "ProvisionedThroughputExceededException")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The script, and what was requested so far.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Play>);

#[derive(Debug, Default)]
struct Play {
    script: Mutex<VecDeque<(String, Fault)>>,
    requests: Mutex<Vec<(String, String)>>,
    /// Items of a page of a Query that has no limit of its own.
    page: Mutex<Option<u32>>,
    /// Tables by name, each with the one that stands in for a replica of it.
    replicas: Mutex<BTreeMap<String, String>>,
    released: watch::Sender<bool>,
    held: Mutex<Vec<JoinHandle<()>>>,
}

impl Faults {
    /// The next requests of an operation meet these faults, in order.
    pub fn next(&self, operation: &str, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.0.script).extend(faults.into_iter().map(|fault| (operation.to_owned(), fault)));
    }

    /// From now on a page of a Query has so many items.
    pub fn page(&self, items: u32) {
        *lock(&self.0.page) = Some(items);
    }

    /// From now on reads of a table that ask for no consistency are answered from another one.
    pub fn lag(&self, table: &str, replica: &str) {
        lock(&self.0.replicas).insert(table.to_owned(), replica.to_owned());
    }

    /// Replicas know everything again.
    pub fn catch_up(&self) {
        lock(&self.0.replicas).clear();
    }

    /// Has what was held served, and returns when it was.
    pub async fn release(&self) {
        self.0.released.send_replace(true);
        let held = std::mem::take(&mut *lock(&self.0.held));
        assert!(!held.is_empty(), "nothing was held");
        for request in held {
            request.await.expect("the server answers");
        }
        self.0.released.send_replace(false);
    }

    /// The bodies of an operation's requests so far.
    pub fn requests(&self, operation: &str) -> Vec<String> {
        let requests = lock(&self.0.requests);
        requests.iter().filter(|(name, _)| name == operation).map(|(_, body)| body.clone()).collect()
    }

    /// Every read of items so far, and whether it asked for consistency.
    pub fn reads(&self) -> Vec<(String, bool)> {
        let reads = ["GetItem", "Query", "BatchGetItem", "Scan"];
        let requests = lock(&self.0.requests);
        let read = requests.iter().filter(|(name, _)| reads.contains(&&**name));
        read.map(|(name, body)| (format!("{name} {body}"), body.contains(r#""ConsistentRead":true"#))).collect()
    }

    /// What the script has left is left out.
    pub fn forget(&self) {
        lock(&self.0.script).clear();
    }

    /// The script was played to its end.
    pub fn assert_played(&self) {
        let rest = lock(&self.0.script);
        assert!(rest.is_empty(), "never happened: {rest:?}");
    }

    fn take(&self, operation: &str) -> Fault {
        let mut script = lock(&self.0.script);
        let at = script.iter().position(|(name, _)| name == operation);
        at.and_then(|at| script.remove(at)).map_or(Fault::Pass, |(_, fault)| fault)
    }

    /// The request that is made instead of one, if another is.
    fn changed(&self, operation: &str, body: &str) -> Option<String> {
        if !["GetItem", "Query"].contains(&operation) {
            return None;
        }
        let asked: Value = serde_json::from_str(body).ok()?;
        let mut made = asked.clone();
        if let Some(items) = *lock(&self.0.page)
            && operation == "Query"
            && asked["Limit"].is_null()
        {
            made["Limit"] = items.into();
        }
        let table = asked["TableName"].as_str().unwrap_or_default();
        if let Some(replica) = lock(&self.0.replicas).get(table)
            && asked["ConsistentRead"] != true
        {
            made["TableName"] = replica.as_str().into();
        }
        (made != asked).then(|| made.to_string())
    }
}

/// The same clients, with faults in between. They try twice, as ever, but without a pause.
pub fn faulty(connections: &Connections) -> (Connections, Faults) {
    let faults = Faults::default();
    let client = FaultyClient { inner: Builder::new().build_http(), faults: faults.clone() };
    let retries = RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(1));
    let kinesis = connections.kinesis.config().to_builder().http_client(client.clone()).retry_config(retries.clone());
    let dynamodb = connections.dynamodb.config().to_builder().http_client(client).retry_config(retries);
    let kinesis = aws_sdk_kinesis::Client::from_conf(kinesis.build());
    let connections = Connections {
        subscribers: vec![kinesis.clone()],
        kinesis,
        dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
        clock: connections.clock.clone(),
    };
    (connections, faults)
}

/// The same clients, but they give up soon.
pub fn impatient(connections: &Connections) -> Connections {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(PATIENCE).build();
    let kinesis = connections.kinesis.config().to_builder().timeout_config(timeouts.clone());
    let dynamodb = connections.dynamodb.config().to_builder().timeout_config(timeouts);
    Connections {
        kinesis: aws_sdk_kinesis::Client::from_conf(kinesis.build()),
        dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
        ..connections.clone()
    }
}

#[derive(Clone, Debug)]
struct FaultyClient {
    inner: SharedHttpClient,
    faults: Faults,
}

impl HttpClient for FaultyClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(FaultyConnector { inner, faults: self.faults.clone() })
    }
}

#[derive(Debug)]
struct FaultyConnector {
    inner: SharedHttpConnector,
    faults: Faults,
}

impl FaultyConnector {
    /// Serves it when it is released.
    fn hold(&self, request: HttpRequest) {
        let (mut released, inner) = (self.faults.0.released.subscribe(), self.inner.clone());
        let served = tokio::spawn(async move {
            released.wait_for(|released| *released).await.expect("the script outlives what it holds");
            // Nobody hears the reply.
            let _ = inner.call(request).await;
        });
        lock(&self.faults.0.held).push(served);
    }

    /// Has the first half of a BatchWriteItem done.
    fn halve(&self, mut request: HttpRequest, body: &str) -> HttpConnectorFuture {
        let mut first: Value = serde_json::from_str(body).expect("a request is JSON");
        let mut rest = json!({});
        for (table, writes) in first["RequestItems"].as_object_mut().expect("a batch is of tables") {
            let writes = writes.as_array_mut().expect("a table has writes");
            rest[table] = writes.split_off(writes.len().div_ceil(2)).into();
        }
        set_body(&mut request, first.to_string());
        let served = self.inner.call(request);
        HttpConnectorFuture::new(async move {
            served.await?;
            Ok(reply(200, json!({"UnprocessedItems": rest}).to_string()))
        })
    }
}

impl HttpConnector for FaultyConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        lock(&self.faults.0.requests).push((operation.clone(), body.clone()));
        if let Some(changed) = self.faults.changed(&operation, &body) {
            set_body(&mut request, changed);
        }
        match self.faults.take(&operation) {
            Fault::Pass => self.inner.call(request),
            Fault::LoseReply => {
                let served = self.inner.call(request);
                HttpConnectorFuture::new(async move {
                    served.await?;
                    Err(ConnectorError::io("the reply is lost".into()))
                })
            }
            Fault::SlowReply => {
                let served = self.inner.call(request);
                HttpConnectorFuture::new(async move {
                    served.await?;
                    std::future::pending().await
                })
            }
            Fault::Held => {
                self.hold(request);
                HttpConnectorFuture::ready(Err(ConnectorError::timeout("nothing came".into())))
            }
            Fault::HalfDone => self.halve(request, &body),
            Fault::Answer(status, body) => HttpConnectorFuture::ready(Ok(reply(status, body))),
            Fault::Undone => {
                let undone = body.replacen("RequestItems", "UnprocessedItems", 1);
                HttpConnectorFuture::ready(Ok(reply(200, undone)))
            }
        }
    }
}

fn reply(status: u16, body: String) -> HttpResponse {
    HttpResponse::new(status.try_into().expect("a status has three digits"), SdkBody::from(body))
}

fn set_body(request: &mut HttpRequest, body: String) {
    request.headers_mut().insert("content-length", body.len().to_string());
    *request.body_mut() = SdkBody::from(body);
}
