//! Kinesis and DynamoDB in this process, reached over loopback by the ordinary AWS SDK. Each has a thread and a runtime
//! of its own: the Kinesis server keeps its order only on a single thread, and neither may hold up the host's.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn};
use ferrokinesis::persistence::{Persistence, WalEntry};
use ferrokinesis::store::{DurableStateOptions, StoreOptions};
use tokio::sync::{oneshot, watch};
use tokio::task::unconstrained;

/// Port of Kinesis when nothing is said.
pub const KINESIS_PORT: u16 = 4567;
/// Port of DynamoDB when nothing is said.
pub const DYNAMODB_PORT: u16 = 8000;
/// Largest request to Kinesis: PutRecords has 10 MiB at most, which base64 makes a third larger.
const KINESIS_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Open shards over all streams.
const SHARDS_MAX: u32 = 10_000;
/// How long a stream stays in a passing status: long enough to be one, and no longer.
const TRANSITION_MS: u64 = 20;
/// How often records older than their stream's retention are dropped.
const RETENTION_CHECK_S: u64 = 60;
/// How often the Kinesis server's log is folded into a snapshot. Each write adds the whole state to that log, so soon.
const SNAPSHOT_INTERVAL_S: u64 = 1;

/// Both servers, until they are stopped or dropped.
pub struct Servers {
    /// Where Kinesis answers.
    pub kinesis: SocketAddr,
    /// Where DynamoDB answers.
    pub dynamodb: SocketAddr,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Servers {
    /// Starts both, at free ports where a port is 0. With a folder they keep everything in it, else in memory.
    ///
    /// # Errors
    /// When a port is taken, or what the folder holds cannot be read.
    pub async fn start(kinesis_port: u16, dynamodb_port: u16, data: Option<&Path>) -> anyhow::Result<Self> {
        let kinesis = listen("Kinesis", "--kinesis-port", kinesis_port)?;
        let dynamodb = listen("DynamoDB", "--dynamodb-port", dynamodb_port)?;
        let database = open_database(data)?;
        data.map(|data| mend_streams(&data.join("kinesis"))).transpose()?;
        let options = kinesis_options(data);
        let stop = watch::Sender::new(false);
        let mut servers =
            Self { kinesis: kinesis.local_addr()?, dynamodb: dynamodb.local_addr()?, threads: Vec::new(), stop };
        let stopped = servers.stopped();
        servers.spawn("kinesis", move |started| serve_kinesis(kinesis, options, started, stopped)).await?;
        let stopped = servers.stopped();
        servers.spawn("dynamodb", move |started| serve_dynamodb(dynamodb, database, started, stopped)).await?;
        Ok(servers)
    }

    /// The address of Kinesis.
    pub fn kinesis_url(&self) -> String {
        format!("http://{}", self.kinesis)
    }

    /// The address of DynamoDB.
    pub fn dynamodb_url(&self) -> String {
        format!("http://{}", self.dynamodb)
    }

    /// Lets both finish what they were asked, and returns when they are gone.
    ///
    /// # Errors
    /// When one had failed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a server panicked"))?)
        });
        joined.await?
    }

    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.subscribe();
        // A sender that is gone means the same.
        async move { drop(stop.wait_for(|stop| *stop).await) }
    }

    /// Starts a server on a thread and a runtime of its own, and waits until it is up.
    async fn spawn<S: Future<Output = anyhow::Result<()>>>(
        &mut self,
        name: &str,
        serve: impl FnOnce(oneshot::Sender<()>) -> S + Send + 'static,
    ) -> anyhow::Result<()> {
        let (started, up) = oneshot::channel();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(serve(started))
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
        if up.await.is_ok() {
            self.threads.push(thread);
            return Ok(());
        }
        let failed = tokio::task::spawn_blocking(move || thread.join()).await?;
        failed.unwrap_or_else(|_| Err(anyhow!("it panicked"))).with_context(|| format!("starting {name}"))?;
        Err(anyhow!("{name} ended as it started"))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn listen(what: &str, flag: &str, port: u16) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
        format!("listening on 127.0.0.1:{port} for {what}; {flag} names another port, 0 any free one")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn kinesis_options(data: Option<&Path>) -> StoreOptions {
    StoreOptions {
        create_stream_ms: TRANSITION_MS,
        delete_stream_ms: TRANSITION_MS,
        update_stream_ms: TRANSITION_MS,
        shard_limit: SHARDS_MAX,
        retention_check_interval_secs: RETENTION_CHECK_S,
        durable: data.map(|data| DurableStateOptions {
            state_dir: data.join("kinesis"),
            snapshot_interval_secs: SNAPSHOT_INTERVAL_S,
            max_retained_bytes: None,
        }),
        ..StoreOptions::default()
    }
}

/// Folds the Kinesis server's log into its snapshot, which drops an entry that a kill cut short. The server skips such
/// an entry too, but would write the next one behind it, where it could never be read.
fn mend_streams(folder: &Path) -> anyhow::Result<()> {
    let what = || format!("reading the streams kept in {}", folder.display());
    let kept = Persistence::new(folder.to_owned()).with_context(what)?;
    let Some((snapshot, log)) = kept.load().with_context(what)? else { return Ok(()) };
    let newest = log.into_iter().last().map_or(snapshot, |WalEntry::Snapshot(newest)| newest);
    kept.write_snapshot(&newest).with_context(what)
}

fn open_database(data: Option<&Path>) -> anyhow::Result<dynoxide::Database> {
    let Some(data) = data else { return Ok(dynoxide::Database::memory()?) };
    let file = data.join("dynamodb.sqlite");
    std::fs::create_dir_all(data).with_context(|| format!("making the folder {}", data.display()))?;
    let path = file.to_str().with_context(|| format!("{} is not UTF-8", file.display()))?;
    dynoxide::Database::new(path).with_context(|| format!("opening {}", file.display()))
}

async fn serve_kinesis(
    listener: TcpListener,
    options: StoreOptions,
    started: oneshot::Sender<()>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (app, store) = ferrokinesis::create_app(options);
    store.check_ready().map_err(|error| anyhow!("reading the kept streams: {error:?}"))?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    // Nobody waiting any more means that the start was called off.
    let _ = started.send(());
    let app = app.layer(DefaultBodyLimit::max(KINESIS_BODY_BYTES_MAX));
    // A request that yielded while it holds a lock would have others block the one thread there is.
    let app = app.layer(from_fn(|request: Request, next: Next| unconstrained(next.run(request))));
    Ok(ferrokinesis::serve_plain_http(listener, app, stopped).await?)
}

async fn serve_dynamodb(
    listener: TcpListener,
    database: dynoxide::Database,
    started: oneshot::Sender<()>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    // As above.
    let _ = started.send(());
    dynoxide::server::serve_with_shutdown(listener, database, stopped).await.map_err(|error| anyhow!(error))
}
