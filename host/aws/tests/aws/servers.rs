//! Kinesis and DynamoDB in this process, one of each for all tests, which keep apart by the names of streams and tables.

use std::future::{Future, pending};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use aws_sdk_kinesis::types::StreamStatus;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn};
use pelton_aws::{AwsSettings, Connections, DynamoTable, connect};
use tokio::task::unconstrained;

/// How long anything is waited for.
pub const LIMIT: Duration = Duration::from_secs(20);
/// PutRecords has 10 MiB at most, which base64 makes a third larger.
const KINESIS_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

static SETTINGS: LazyLock<AwsSettings> = LazyLock::new(|| AwsSettings {
    region: None,
    kinesis_endpoint: Some(serve(|listener| async {
        let options = ferrokinesis::store::StoreOptions {
            create_stream_ms: 5,
            delete_stream_ms: 5,
            update_stream_ms: 5,
            shard_limit: 1_000,
            ..Default::default()
        };
        let (app, _) = ferrokinesis::create_app(options);
        let app = app.layer(DefaultBodyLimit::max(KINESIS_BODY_BYTES_MAX));
        // A request that yielded while it holds a lock would have others block the one thread there is.
        let app = app.layer(from_fn(|request: Request, next: Next| unconstrained(next.run(request))));
        ferrokinesis::serve_plain_http(listener, app, pending()).await.map_err(|error| anyhow!(error))
    })),
    dynamodb_endpoint: Some(serve(|listener| async {
        let database = dynoxide::Database::memory()?;
        dynoxide::server::serve_with_shutdown(listener, database, pending()).await.map_err(|error| anyhow!(error))
    })),
});

/// Serves on a thread and a runtime of its own: the Kinesis server keeps its order only on a single thread.
fn serve<S: Future<Output = Result<()>>>(body: impl FnOnce(tokio::net::TcpListener) -> S + Send + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    listener.set_nonblocking(true).expect("a listener can be told not to block");
    let address = listener.local_addr().expect("a listener has an address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { body(tokio::net::TcpListener::from_std(listener)?).await })
    });
    format!("http://{address}")
}

/// Clients of the servers, made as the binary makes them.
pub async fn connections() -> Connections {
    connect(&SETTINGS).await
}

/// A name that no other test has.
pub fn fresh(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A table of its own.
pub async fn table(connections: &Connections) -> Result<DynamoTable> {
    Ok(DynamoTable::open(connections.dynamodb.clone(), &fresh("table")).await?)
}

/// Creates a stream and waits until it takes records.
pub async fn create_stream(connections: &Connections, name: &str, shards: i32) -> Result<()> {
    connections.kinesis.create_stream().stream_name(name).shard_count(shards).send().await?;
    let began = Instant::now();
    loop {
        let reply = connections.kinesis.describe_stream_summary().stream_name(name).send().await?;
        if reply.stream_description_summary.is_some_and(|stream| stream.stream_status == StreamStatus::Active) {
            return Ok(());
        }
        ensure!(began.elapsed() < LIMIT, "stream {name} does not become active");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Deletes a stream and waits until it is gone.
pub async fn delete_stream(connections: &Connections, name: &str) -> Result<()> {
    connections.kinesis.delete_stream().stream_name(name).send().await?;
    let began = Instant::now();
    while connections.kinesis.describe_stream_summary().stream_name(name).send().await.is_ok() {
        ensure!(began.elapsed() < LIMIT, "stream {name} is not deleted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
