//! Jobs by name: created once, and checked against what the configuration says ever after.

use std::fmt;
use std::sync::Arc;

use aws_sdk_kinesis::types::StreamStatus;
use aws_smithy_types::date_time::{DateTime, Format};
use futures::future::try_join_all;
use pelton_core::id::{Digest, Incarnation};
use pelton_core::job::JobMeta;
use pelton_core::policy::{Aggregates, OutOfRange, Policies};
use pelton_core::shard::Shard;
use pelton_core::slice::TaskCount;
use pelton_engine::ports::{Clock as _, PortError, PutOutcome};

use crate::clock::ServiceClock;
use crate::connect::Connections;
use crate::error::{code, persist, port_error};
use crate::item::{binary, number};
use crate::job_error::JobError;
use crate::job_wire::{InputWire, ListedWire, MetaWire, from_wire};
use crate::layout::{self, META};
use crate::manifest::{framed, unframed};
use crate::mutant::{Mutant, wrong};
use crate::source::{list_shards, retention_ms};
use crate::table::DynamoTable;

/// Version of everything a job stores. A host that reads a higher one refuses the job.
const FORMAT: u8 = 1;

/// A job as the configuration has it.
#[derive(Clone, Debug)]
pub struct JobRequest {
    /// Its name.
    pub name: String,
    /// How many tasks.
    pub tasks: TaskCount,
    /// Names of its input streams.
    pub inputs: Vec<String>,
    /// Names of its output streams, which must exist.
    pub outputs: Vec<String>,
    /// Where a new job begins.
    pub start: StartRequest,
    /// The component of a new job's first deployment; none is needed of one that is created.
    pub component: Option<Digest>,
    /// What becomes of records that are not simply their task's.
    pub policies: Policies,
}

/// Where a new job begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartRequest {
    /// With the oldest record kept.
    TrimHorizon,
    /// With what arrives from now on.
    Latest,
    /// With what arrived at or after this time, in milliseconds since 1970.
    At(u64),
}

impl StartRequest {
    /// Whether it can have become what was kept at a job's creation.
    fn came_to(self, start_ms: Option<u64>) -> bool {
        match self {
            Self::TrimHorizon => start_ms.is_none(),
            Self::Latest => start_ms.is_some(),
            Self::At(ms) => start_ms == Some(ms),
        }
    }
}

impl fmt::Display for StartRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrimHorizon => f.write_str("\"trim-horizon\""),
            Self::Latest => f.write_str("\"latest\""),
            Self::At(ms) => match i64::try_from(*ms).ok().map(DateTime::from_millis).map(|at| at.fmt(Format::DateTime))
            {
                Some(Ok(text)) => write!(f, "{text:?}"),
                _ => write!(f, "{ms} ms since 1970"),
            },
        }
    }
}

/// A job that may run.
#[derive(Clone, Debug)]
pub struct OpenedJob {
    /// What it is from its creation on.
    pub meta: JobMeta,
    /// How long each input keeps records, in milliseconds.
    pub retention_ms: Vec<u64>,
    /// The component of its first deployment.
    pub component: Digest,
    /// Whether it was created just now.
    pub created: bool,
}

/// A job that was created in another table than the one in which it is found.
#[derive(Clone, Debug)]
pub struct LostJob {
    /// What it is from its creation on, under the incarnation that it had there.
    pub meta: JobMeta,
    wire: MetaWire,
}

/// The jobs of a table.
#[derive(Debug)]
pub struct JobTable {
    table: DynamoTable,
    kinesis: aws_sdk_kinesis::Client,
    clock: Arc<ServiceClock>,
}

/// A stream as it is now.
struct Stream {
    name: String,
    arn: String,
    created_ms: u64,
    retention_ms: u64,
}

impl JobTable {
    /// The jobs of a table.
    pub fn new(table: DynamoTable, connections: &Connections) -> Self {
        Self { table, kinesis: connections.kinesis.clone(), clock: connections.clock.clone() }
    }

    /// Whether there is a job of this name.
    ///
    /// # Errors
    /// When the table cannot be read, or holds what this version does not know.
    pub async fn is_created(&self, name: &str) -> Result<bool, JobError> {
        let standing = persist(|| self.read(name)).await;
        standing.map(|wire| wire.is_some()).map_err(|error| JobError::Port { job: name.into(), error })
    }

    /// Opens a job, created when there is none of its name.
    ///
    /// # Errors
    /// When it does not match what it was created as, a stream is missing, or a service fails. Nothing is changed then.
    pub async fn open_job(&self, request: &JobRequest) -> Result<OpenedJob, JobError> {
        let mut streams = Vec::new();
        for name in &request.inputs {
            streams.push(self.stream(&request.name, name).await?);
        }
        for name in &request.outputs {
            self.stream(&request.name, name).await?;
        }
        let port = |error| JobError::Port { job: request.name.clone(), error };
        let (wire, created) = match persist(|| self.read(&request.name)).await.map_err(port)? {
            Some(wire) => (wire, false),
            None => self.create(request, &streams).await?,
        };
        self.check(request, &streams, &wire)?;
        let component = wire.component.clone().try_into().map(Digest);
        let meta = from_wire(&request.name, wire);
        let (Some(meta), Ok(component)) = (meta, component) else {
            return Err(port(self.damaged(&request.name)));
        };
        let retention_ms = streams.iter().map(|stream| stream.retention_ms).collect();
        Ok(OpenedJob { meta, retention_ms, component, created })
    }

    async fn stream(&self, job: &str, name: &str) -> Result<Stream, JobError> {
        let port = |error| JobError::Port { job: job.into(), error };
        let what = format!("describing stream {name}");
        let describe = || async {
            match self.kinesis.describe_stream_summary().stream_name(name).send().await {
                Ok(reply) => Ok(Some(reply)),
                Err(error) if code(&error) == Some("ResourceNotFoundException") => Ok(None),
                Err(error) => Err(port_error(&what, &error)),
            }
        };
        let Some(reply) = persist(describe).await.map_err(port)? else {
            return Err(JobError::NoStream { job: job.into(), stream: name.into() });
        };
        let incomplete = |lacks: &str| port(PortError::Stop(format!("{what}: the reply has no {lacks}")));
        let summary = reply.stream_description_summary.ok_or_else(|| incomplete("description"))?;
        if !matches!(summary.stream_status, StreamStatus::Active | StreamStatus::Updating) {
            let status = summary.stream_status.to_string();
            return Err(JobError::StreamNotReady { job: job.into(), stream: name.into(), status });
        }
        let created_ms = summary.stream_creation_timestamp.to_millis().ok().and_then(|ms| u64::try_from(ms).ok());
        let retention_ms = retention_ms(&summary);
        Ok(Stream {
            name: name.into(),
            arn: summary.stream_arn,
            created_ms: created_ms.ok_or_else(|| incomplete("creation time"))?,
            retention_ms: retention_ms.ok_or_else(|| incomplete("retention"))?,
        })
    }

    /// A stream as an input of a job that is being created.
    async fn input(&self, stream: &Stream, start: StartRequest) -> Result<InputWire, PortError> {
        let shards = persist(|| list_shards(&self.kinesis, &stream.name)).await?;
        let newest = shards.iter().map(|shard| shard.id.clone()).max();
        // A shard that is closed already holds nothing that arrives from now on.
        let may_hold = |shard: &&Shard| start != StartRequest::Latest || !shard.closed;
        let listed = shards.iter().filter(may_hold).map(ListedWire::from_shard).collect();
        let newest = newest.ok_or_else(|| PortError::Retry(format!("stream {} lists no shards", stream.name)))?;
        Ok(InputWire {
            name: stream.name.clone(),
            arn: stream.arn.clone(),
            created_ms: stream.created_ms,
            newest_shard: newest.to_string(),
            listed,
        })
    }

    async fn read(&self, name: &str) -> Result<Option<MetaWire>, PortError> {
        let Some(mut item) = self.table.get(&layout::job(name), META).await? else { return Ok(None) };
        let format = item.number("format")?;
        if format != u64::from(FORMAT) {
            return Err(item.wrong(format!(
                "job {name} is kept in format {format}, and this version reads {FORMAT}; run the pelton that wrote it, or a newer one"
            )));
        }
        let data = item.bytes("data")?;
        let mut wire: MetaWire = unframed(FORMAT, &data).map_err(|what| item.wrong(what))?;
        item.end()?;
        // Jobs from before there was a choice had every odd record stop its task, so that none was decided upon.
        for (policy, default) in [
            (&mut wire.out_of_range, OutOfRange::default().to_string()),
            (&mut wire.aggregates, Aggregates::default().to_string()),
        ] {
            if policy.is_empty() {
                *policy = default;
            }
        }
        Ok(Some(wire))
    }

    /// Creates a job, unless another host does so first. Returns what stands then, and whether we put it.
    async fn create(&self, request: &JobRequest, streams: &[Stream]) -> Result<(MetaWire, bool), JobError> {
        let port = |error| JobError::Port { job: request.name.clone(), error };
        let gone = || port(PortError::Retry("the job was there and is gone".into()));
        let component = request.component.ok_or_else(gone)?;
        // Before the shards are listed, so that one that is not among them has records from after the start alone.
        let created_ms = self.clock.now_ms();
        let start_ms = match request.start {
            StartRequest::TrimHorizon => None,
            // The services tell whole seconds, and some servers keep arrival times so: a record of this second counts.
            StartRequest::Latest => Some(created_ms - created_ms % 1_000),
            StartRequest::At(asked_ms) if asked_ms > created_ms => {
                return Err(JobError::FutureStart { job: request.name.clone(), asked_ms, now_ms: created_ms });
            }
            StartRequest::At(ms) => Some(ms),
        };
        let wire = MetaWire {
            incarnation: pelton_engine::random().map_err(port)?.into(),
            tasks: request.tasks.get(),
            inputs: try_join_all(streams.iter().map(|stream| self.input(stream, request.start))).await.map_err(port)?,
            start_ms,
            created_ms,
            table_id: self.table.id().into(),
            component: component.0.into(),
            out_of_range: request.policies.out_of_range.to_string(),
            aggregates: request.policies.aggregates.to_string(),
        };
        let pk = layout::job(&request.name);
        let attributes = || vec![("format", number(FORMAT.into())), ("data", binary(framed(FORMAT, &wire)))];
        match persist(|| self.table.put_new(&pk, META, attributes())).await.map_err(port)? {
            PutOutcome::Applied => Ok((wire, true)),
            PutOutcome::Exists => {
                let gone = || PortError::Retry("it was created and is gone".to_owned());
                let standing = persist(|| self.read(&request.name)).await.and_then(|wire| wire.ok_or_else(gone));
                let standing = standing.map_err(port)?;
                // Our own put may have been applied by a request whose reply was lost.
                let ours = standing.incarnation == wire.incarnation && !wrong(Mutant::OwnJobAsOthers);
                Ok((standing, ours))
            }
        }
    }

    /// A job that was created in another table than the one in which it is found.
    ///
    /// # Errors
    /// When there is none of the name, or it was created here.
    pub async fn lost(&self, name: &str) -> Result<LostJob, JobError> {
        let (job, table) = (name.to_owned(), self.table.name.clone());
        let port = |error| JobError::Port { job: name.into(), error };
        let wire = persist(|| self.read(name)).await.map_err(port)?;
        let Some(wire) = wire else { return Err(JobError::NoJob { job, table }) };
        if wire.table_id == self.table.id() {
            return Err(JobError::NotLost { job, table });
        }
        let meta = from_wire(name, wire.clone()).ok_or_else(|| port(self.damaged(name)))?;
        Ok(LostJob { meta, wire })
    }

    /// Has a lost job go on in this table as another incarnation, whose changelogs must begin with what was found.
    ///
    /// # Errors
    /// When somebody else did so meanwhile, or the table cannot be written.
    pub async fn recovered(&self, lost: LostJob, incarnation: Incarnation) -> Result<(), JobError> {
        let LostJob { meta, wire: before } = lost;
        let wire = MetaWire { incarnation: incarnation.0.into(), table_id: self.table.id().into(), ..before.clone() };
        let (pk, data) = (layout::job(&meta.name), |wire: &MetaWire| binary(framed(FORMAT, wire)));
        let attributes = || vec![("format", number(FORMAT.into())), ("data", data(&wire))];
        let port = |error| JobError::Port { job: meta.name.clone(), error };
        let replaced = persist(|| self.table.replace(&pk, META, data(&before), attributes())).await.map_err(port)?;
        let standing = match replaced {
            PutOutcome::Applied => return Ok(()),
            PutOutcome::Exists => persist(|| self.read(&meta.name)).await.map_err(port)?,
        };
        let ours = standing.is_some_and(|standing| standing.incarnation == wire.incarnation);
        if ours || wrong(Mutant::OthersRecoveryAsOurs) {
            Ok(())
        } else {
            Err(JobError::RecoveredElsewhere { job: meta.name.clone() })
        }
    }

    fn damaged(&self, name: &str) -> PortError {
        PortError::Stop(format!("table {}: the meta item of job {name} is damaged", self.table.name))
    }

    fn check(&self, request: &JobRequest, streams: &[Stream], wire: &MetaWire) -> Result<(), JobError> {
        let job = request.name.clone();
        if wire.table_id != self.table.id() {
            return Err(JobError::Table { job, known: wire.table_id.clone(), found: self.table.id().into() });
        }
        if wire.tasks != request.tasks.get() {
            return Err(JobError::TaskCount { job, known: wire.tasks, asked: request.tasks.get() });
        }
        let policies = request.policies;
        let asked =
            [("out-of-range", policies.out_of_range.to_string()), ("aggregates", policies.aggregates.to_string())];
        for ((setting, asked), known) in asked.into_iter().zip([&wire.out_of_range, &wire.aggregates]) {
            if *known != asked {
                return Err(JobError::Policy { job, setting, known: known.clone(), asked });
            }
        }
        if !request.start.came_to(wire.start_ms) {
            let known = wire.start_ms.map_or(StartRequest::TrimHorizon, StartRequest::At).to_string();
            return Err(JobError::Start { job, known, asked: request.start.to_string() });
        }
        let known: Vec<String> = wire.inputs.iter().map(|input| input.name.clone()).collect();
        if known != request.inputs {
            return Err(JobError::Inputs { job, known, asked: request.inputs.clone() });
        }
        for (known, found) in wire.inputs.iter().zip(streams) {
            if known.arn != found.arn {
                return Err(JobError::StreamElsewhere { job, known: known.arn.clone(), found: found.arn.clone() });
            }
            if known.created_ms != found.created_ms {
                return Err(JobError::StreamRecreated {
                    job,
                    stream: known.name.clone(),
                    known_ms: known.created_ms,
                    found_ms: found.created_ms,
                });
            }
        }
        Ok(())
    }
}
