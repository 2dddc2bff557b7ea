//! A host in this process: its data folder taken, its table open, its API up, its jobs started one after another, and
//! all of it stopped in order. Everything is wired here and nowhere else.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::join_all;
use pelton_api::model::job::digest_text;
use pelton_api::{Context, HostInfo, Shelf};
use pelton_aws::{
    Connections, DynamoChangelog, DynamoComponents, DynamoDeployments, DynamoTable, FanOutTimes, JobRequest, JobTable,
    KinesisSink, KinesisSource,
};
use pelton_core::cause::StopCause;
use pelton_core::feed::Pace;
use pelton_core::id::{Digest, HostId};
use pelton_core::task::PhaseName;
use pelton_engine::ports::{ComponentStore as _, Deployments as _};
use pelton_engine::{DeploymentContent, GuestRuntime, Host, Job, JobSpec, Ports, Room, TASKS_MAX, digest_of};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::commands::compile_component::compiler;
use crate::config::{Config, JobConfig};
use crate::exit::usage;
use crate::lock::DataLock;
use crate::open_files;
use crate::watch::Watched;

/// How often a starting host is looked at for news.
const NEWS_POLL: Duration = Duration::from_millis(10);
/// How long open requests may go on once everything else has stopped.
const REQUESTS_LIMIT: Duration = Duration::from_secs(2);
/// How many tasks with work left undone are told one by one.
const UNDONE_TOLD_MAX: usize = 20;

/// A host that is up.
pub struct Running {
    config: Config,
    connections: Connections,
    table: DynamoTable,
    guests: Arc<GuestRuntime>,
    host: Host,
    id: HostId,
    context: Arc<Context>,
    jobs: Vec<Arc<Job>>,
    server: JoinHandle<()>,
    close: watch::Sender<bool>,
    url: String,
    began: Instant,
    folded: Arc<AtomicBool>,
    // The data folder is ours until the last job is gone.
    _lock: DataLock,
}

impl Running {
    /// Takes the data folder, opens the table and answers requests; runs no job yet. The process began at a time.
    ///
    /// # Errors
    /// When the folder or the address is taken, or the table cannot be opened.
    pub async fn open(config: Config, began: Instant) -> anyhow::Result<Self> {
        let tasks = config.jobs.values().fold(0u32, |sum, job| sum.saturating_add(job.tasks.get()));
        if tasks > TASKS_MAX {
            let file = config.file.display();
            return Err(usage(format!("the jobs of {file} have {tasks} tasks; a host runs {TASKS_MAX} at most")));
        }
        let lock = DataLock::take(&config.host.data_dir)?;
        open_files::allow(tasks);
        let listen = config.host.listen;
        let listener = TcpListener::bind(listen).await;
        let listener =
            listener.with_context(|| format!("listening on {listen}; set [host] listen to another address"))?;
        let url = format!("http://{}", listener.local_addr()?);
        let connections = pelton_aws::connect(&config.aws.settings).await;
        let table = DynamoTable::open(connections.dynamodb.clone(), &config.aws.table).await?;
        let guests = GuestRuntime::new(&config.host.data_dir.join("compiled"), Room::for_tasks(tasks), compiler()?)?;
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let host = Host::new(threads, config.host.data_dir.clone()).context("starting the guest threads")?;
        let id = HostId(pelton_engine::random()?);
        let info = HostInfo {
            name: config.host.name.clone(),
            id: id.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            jobs: config.jobs.keys().cloned().collect(),
        };
        let shelf = Shelf {
            store: Arc::new(DynamoComponents::new(table.clone(), connections.clock.clone())),
            guests: guests.clone(),
        };
        let context = Arc::new(Context::new(info, shelf, config.host.access.clone(), host.events().clone()));
        let close = watch::Sender::new(false);
        let server = tokio::spawn(serve(listener, context.clone(), close.subscribe()));
        tracing::info!("host {} ({id}) answers at {url}", config.host.name);
        let jobs = Vec::new();
        Ok(Self {
            config,
            connections,
            table,
            guests,
            host,
            id,
            context,
            jobs,
            server,
            close,
            url,
            began,
            folded: Arc::default(),
            _lock: lock,
        })
    }

    /// Where the API answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether no job was started, so that none has to be stopped.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Starts every job of the configuration. The jobs started before one that fails run on.
    ///
    /// # Errors
    /// When a job cannot be opened or its component not be run.
    pub async fn start_jobs(&mut self) -> anyhow::Result<()> {
        for (name, config) in &self.config.jobs {
            let job = self.start_job(name, config).await?;
            self.context.add_job(job.clone());
            tokio::spawn(tell_first_fold(job.clone(), self.began, self.folded.clone()));
            self.jobs.push(job);
        }
        Ok(())
    }

    async fn start_job(&self, name: &str, config: &JobConfig) -> anyhow::Result<Arc<Job>> {
        let jobs = JobTable::new(self.table.clone(), &self.connections);
        let components = DynamoComponents::new(self.table.clone(), self.connections.clock.clone());
        let is_created = jobs.is_created(name).await?;
        let component = match self.first_component(name, config, (!is_created).then_some(&components)).await {
            Ok(component) => Some(component),
            // What it runs is in the table, whatever became of the file.
            Err(error) if is_created => {
                tracing::warn!("{error:#}; the job runs what the table has");
                None
            }
            Err(error) => return Err(error),
        };
        let opened = jobs.open_job(&request(name, config, component)).await?;
        let began = if opened.created { "was created" } else { "goes on" };
        tracing::info!("job {name} ({}) {began} with {} tasks", opened.meta.incarnation, opened.meta.tasks.get());
        // Servers on this machine have not the limits of Kinesis.
        let (pace, fan_out_times) = match self.kinesis_is_local() {
            true => (Pace::UNLIMITED, FanOutTimes::UNLIMITED),
            false => (Pace::KINESIS, FanOutTimes::KINESIS),
        };
        let deployments =
            DynamoDeployments::new(self.table.clone(), opened.meta.incarnation, self.connections.clock.clone());
        let rollout = deployments.rollout().await.with_context(|| format!("starting job {name}"))?;
        let first = match component {
            Some(kept) if !is_created => kept,
            // What it was created with could not begin, or has yet to on another host: it begins with what the file has now.
            Some(_) if rollout.is_none() => self.first_component(name, config, Some(&components)).await?,
            Some(_) | None => opened.component,
        };
        let ports = Ports {
            source: Arc::new(KinesisSource::new(&self.connections, &opened.meta, fan_out_times)),
            sink: Arc::new(KinesisSink::new(self.connections.kinesis.clone(), config.outputs.clone())),
            changelog: Arc::new(DynamoChangelog::new(self.table.clone(), opened.meta.incarnation)),
            components: Arc::new(components),
            deployments: Arc::new(deployments),
            clock: self.connections.clock.clone(),
        };
        let spec = JobSpec {
            meta: opened.meta,
            host: self.id,
            retention_ms: opened.retention_ms,
            pace,
            first: DeploymentContent {
                component: first,
                config: config.config.clone(),
                limits: config.limits,
                grants: config.grants.clone(),
            },
            outputs: config.outputs.keys().cloned().collect(),
            settings: config.settings.clone(),
        };
        let job = self.host.start_job(spec, ports, self.guests.clone()).await;
        let job = job.with_context(|| format!("starting job {name}"))?;
        let runs = job.rollout();
        if component.is_some_and(|component| component != runs.component) {
            let (current, component) = (runs.rollout.current, digest_text(runs.component));
            let file = config.component.display();
            tracing::info!(
                "job {name} runs deployment {current}, {component}; {file} is another component, which `pelton deploy \
                 {name}` puts in its place"
            );
        }
        Ok(job)
    }

    /// The component that a job's first deployment is made of, as its file has it now; made sure that it runs, and kept, where it is to be.
    async fn first_component(
        &self,
        name: &str,
        config: &JobConfig,
        keep_in: Option<&DynamoComponents>,
    ) -> anyhow::Result<Digest> {
        let file = config.component.display();
        let bytes = std::fs::read(&config.component);
        let bytes = Bytes::from(bytes.with_context(|| format!("job {name}: reading component {file}"))?);
        let digest = digest_of(&bytes);
        if let Some(components) = keep_in {
            self.check(bytes.clone()).await.with_context(|| format!("job {name}: component {file}"))?;
            components.put(digest, bytes).await.with_context(|| format!("job {name}: keeping component {file}"))?;
        }
        Ok(digest)
    }

    /// Makes sure that a component can be run, off the threads that serve requests.
    async fn check(&self, bytes: Bytes) -> anyhow::Result<()> {
        let guests = self.guests.clone();
        tokio::task::spawn_blocking(move || guests.load(digest_of(&bytes), &bytes)).await??;
        Ok(())
    }

    fn kinesis_is_local(&self) -> bool {
        let endpoint = self.config.aws.settings.kinesis_endpoint.as_deref();
        let url = endpoint.and_then(|endpoint| reqwest::Url::parse(endpoint).ok());
        let host = url.as_ref().and_then(|url| url.host_str()).map(|host| host.trim_matches(['[', ']']));
        host.is_some_and(|host| {
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        })
    }

    /// Looks after the components of every job, and deploys those that change.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + 'static {
        let components: Arc<dyn pelton_engine::ports::ComponentStore> =
            Arc::new(DynamoComponents::new(self.table.clone(), self.connections.clock.clone()));
        let watched = self.jobs.iter().filter_map(|job| {
            let config = self.config.jobs.get(&job.spec().meta.name)?.clone();
            Some(Watched::new(job.clone(), config, self.guests.clone(), components.clone()).keep())
        });
        let watched: Vec<_> = watched.collect();
        async move { drop(join_all(watched).await) }
    }

    /// Tells when every task is ready, counted from the start of the process.
    pub fn tell_ready(&self) -> impl Future<Output = ()> + Send + 'static {
        let (jobs, began) = (self.jobs.clone(), self.began);
        async move {
            while !jobs.iter().all(|job| is_ready(job)) {
                tokio::time::sleep(NEWS_POLL).await;
            }
            tracing::info!("ready {} ms after start", began.elapsed().as_millis());
        }
    }

    /// Stops reading, commits and publishes what is folded. Returns what is left undone after the limit.
    pub async fn stop(self) -> Vec<String> {
        self.context.stopping();
        let drained = join_all(self.jobs.iter().map(|job| job.stop()));
        let in_time = tokio::time::timeout(self.config.host.stop_limit, drained).await.is_ok();
        let undone: Vec<String> = self.jobs.iter().flat_map(|job| undone(job)).collect();
        self.host.events().close();
        self.close.send_replace(true);
        if tokio::time::timeout(REQUESTS_LIMIT, self.server).await.is_err() {
            tracing::debug!("requests were cut off");
        }
        if in_time || !undone.is_empty() {
            return undone;
        }
        vec!["what was applied to the local state is not yet on disk; it is in the changelog".into()]
    }
}

/// The job of a configuration, to be created of a component where it has to be.
fn request(name: &str, config: &JobConfig, component: Option<Digest>) -> JobRequest {
    JobRequest {
        name: name.to_owned(),
        tasks: config.tasks,
        inputs: config.inputs.clone(),
        outputs: config.outputs.values().map(|output| output.stream.clone()).collect(),
        start: config.start,
        component,
        policies: config.policies,
    }
}

async fn serve(listener: TcpListener, context: Arc<Context>, mut close: watch::Receiver<bool>) {
    let closed = async move { drop(close.wait_for(|close| *close).await) };
    let router = pelton_api::router(context);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(closed).await {
        tracing::error!("the HTTP API ended: {error}");
    }
}

/// Tells when the first record of this process is folded, whichever job it is of.
async fn tell_first_fold(job: Arc<Job>, began: Instant, folded: Arc<AtomicBool>) {
    while job.first_fold_ms().is_none() {
        if folded.load(Ordering::Relaxed) {
            return;
        }
        tokio::time::sleep(NEWS_POLL).await;
    }
    if !folded.swap(true, Ordering::Relaxed) {
        tracing::info!("first record folded {} ms after start", began.elapsed().as_millis());
    }
}

fn is_ready(job: &Job) -> bool {
    job.tasks().iter().all(|task| match task.phase {
        PhaseName::Claiming | PhaseName::Restoring => false,
        PhaseName::Running | PhaseName::Rewinding | PhaseName::Draining | PhaseName::Stopped => true,
    })
}

/// What the tasks of a job that was told to stop leave undone.
fn undone(job: &Job) -> Vec<String> {
    let name = &job.spec().meta.name;
    let asked = StopCause::Asked.to_string();
    let left = job.tasks().into_iter().filter_map(|task| {
        let pending = task.outputs_pending;
        let cause = task.cause.filter(|cause| *cause != asked);
        match (task.phase, cause) {
            (PhaseName::Stopped, None) => None,
            (PhaseName::Stopped, Some(cause)) => Some(format!("task {} of job {name} had stopped: {cause}", task.task)),
            (_, cause) => {
                let cause = cause.map_or(String::new(), |cause| format!(": {cause}"));
                Some(format!(
                    "task {} of job {name} is not drained; its newest durable commit is {}, and {pending} outputs are \
                     unpublished{cause}",
                    task.task, task.commit
                ))
            }
        }
    });
    let mut left: Vec<String> = left.collect();
    if left.len() > UNDONE_TOLD_MAX {
        let more = left.len() - UNDONE_TOLD_MAX;
        left.truncate(UNDONE_TOLD_MAX);
        left.push(format!("and {more} more tasks of job {name}"));
    }
    left
}
