//! Faults between the SDK and the servers: an HTTP client that, for the operations named in its script, loses the reply of a
//! request that was served, or answers in the server's place.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_smithy_http_client::Builder;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use pelton_aws::Connections;

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
}

impl Fault {
    /// An error of the service.
    pub fn error(status: u16, code: &str) -> Self {
        Self::Answer(status, format!(r#"{{"__type":"{code}","message":"as the script has it"}}"#))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The script, and what was requested so far.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    script: Arc<Mutex<VecDeque<(String, Fault)>>>,
    requests: Arc<Mutex<Vec<(String, String)>>>,
}

impl Faults {
    /// The next requests of an operation meet these faults, in order.
    pub fn next(&self, operation: &str, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.script).extend(faults.into_iter().map(|fault| (operation.to_owned(), fault)));
    }

    /// The bodies of an operation's requests so far.
    pub fn requests(&self, operation: &str) -> Vec<String> {
        let requests = lock(&self.requests);
        requests.iter().filter(|(name, _)| name == operation).map(|(_, body)| body.clone()).collect()
    }

    /// The script was played to its end.
    pub fn assert_played(&self) {
        let rest = lock(&self.script);
        assert!(rest.is_empty(), "never happened: {rest:?}");
    }

    fn take(&self, operation: &str) -> Fault {
        let mut script = lock(&self.script);
        let at = script.iter().position(|(name, _)| name == operation);
        at.and_then(|at| script.remove(at)).map_or(Fault::Pass, |(_, fault)| fault)
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

impl HttpConnector for FaultyConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        lock(&self.faults.requests).push((operation.clone(), body.clone()));
        let answer = |status: u16, body: String| {
            let status = status.try_into().expect("a status has three digits");
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body))))
        };
        match self.faults.take(&operation) {
            Fault::Pass => self.inner.call(request),
            Fault::LoseReply => {
                let served = self.inner.call(request);
                HttpConnectorFuture::new(async move {
                    served.await?;
                    Err(ConnectorError::io("the reply is lost".into()))
                })
            }
            Fault::Answer(status, body) => answer(status, body),
            Fault::Undone => answer(200, body.replacen("RequestItems", "UnprocessedItems", 1)),
        }
    }
}
