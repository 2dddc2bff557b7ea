//! Jobs by name: created once, and checked against what the configuration says ever after.

use std::sync::Arc;

use aws_sdk_kinesis::types::StreamStatus;
use futures::future::try_join_all;
use pelton_core::id::{Digest, Incarnation, ShardId};
use pelton_core::job::{Input, JobMeta, Start};
use pelton_core::policy::{Aggregates, OutOfRange, Policies};
use pelton_core::shard::Shard;
use pelton_core::slice::{HashKey, HashRange, TaskCount};
use pelton_engine::ports::{Clock as _, PortError, PutOutcome};

use crate::clock::ServiceClock;
use crate::connect::Connections;
use crate::error::{code, persist, port_error};
use crate::item::{binary, number};
use crate::job_error::JobError;
use crate::layout::{self, META};
use crate::manifest::{framed, unframed};
use crate::source::list_shards;
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
    /// The component of a new job's first deployment.
    pub component: Digest,
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

#[derive(Clone, PartialEq, prost::Message)]
struct MetaWire {
    #[prost(bytes = "vec", tag = "1")]
    incarnation: Vec<u8>,
    #[prost(uint32, tag = "2")]
    tasks: u32,
    #[prost(message, repeated, tag = "3")]
    inputs: Vec<InputWire>,
    /// None: the trim horizon.
    #[prost(uint64, optional, tag = "4")]
    start_ms: Option<u64>,
    #[prost(uint64, tag = "5")]
    created_ms: u64,
    #[prost(string, tag = "6")]
    table_id: String,
    #[prost(bytes = "vec", tag = "7")]
    component: Vec<u8>,
    /// As configuration names them.
    #[prost(string, tag = "8")]
    out_of_range: String,
    #[prost(string, tag = "9")]
    aggregates: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InputWire {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    arn: String,
    #[prost(uint64, tag = "3")]
    created_ms: u64,
    #[prost(string, tag = "4")]
    newest_shard: String,
    /// Shards listed at the job's creation that may hold records of it.
    #[prost(message, repeated, tag = "5")]
    listed: Vec<ListedWire>,
}

/// A shard and its range, both ends inclusive, each 16 bytes big-endian.
#[derive(Clone, PartialEq, prost::Message)]
struct ListedWire {
    #[prost(string, tag = "1")]
    shard: String,
    #[prost(bytes = "vec", tag = "2")]
    start: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    end: Vec<u8>,
}

impl JobTable {
    /// The jobs of a table.
    pub fn new(table: DynamoTable, connections: &Connections) -> Self {
        Self { table, kinesis: connections.kinesis.clone(), clock: connections.clock.clone() }
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
            let what = format!("table {}: the meta item of job {} is damaged", self.table.name, request.name);
            return Err(port(PortError::Stop(what)));
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
        let retention_h = u64::try_from(summary.retention_period_hours).ok();
        Ok(Stream {
            name: name.into(),
            arn: summary.stream_arn,
            created_ms: created_ms.ok_or_else(|| incomplete("creation time"))?,
            retention_ms: retention_h.ok_or_else(|| incomplete("retention"))? * 3_600_000,
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
            component: request.component.0.into(),
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
                let ours = standing.incarnation == wire.incarnation;
                Ok((standing, ours))
            }
        }
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

impl ListedWire {
    fn from_shard(shard: &Shard) -> Self {
        let HashRange { start, end } = shard.range;
        let [start, end] = [start, end].map(|key| key.0.to_be_bytes().to_vec());
        Self { shard: shard.id.to_string(), start, end }
    }

    fn shard(self) -> Option<(ShardId, HashRange)> {
        let key = |bytes: Vec<u8>| Some(HashKey(u128::from_be_bytes(bytes.try_into().ok()?)));
        Some((ShardId::from(self.shard.as_str()), HashRange { start: key(self.start)?, end: key(self.end)? }))
    }
}

fn from_wire(name: &str, wire: MetaWire) -> Option<JobMeta> {
    let input = |input: InputWire| {
        Some(Input {
            name: input.name,
            arn: input.arn,
            created_ms: input.created_ms,
            newest_shard: ShardId::from(input.newest_shard.as_str()),
            listed: input.listed.into_iter().map(ListedWire::shard).collect::<Option<_>>()?,
        })
    };
    Some(JobMeta {
        name: name.into(),
        incarnation: Incarnation(wire.incarnation.try_into().ok()?),
        tasks: TaskCount::new(wire.tasks)?,
        inputs: wire.inputs.into_iter().map(input).collect::<Option<_>>()?,
        start: wire.start_ms.map_or(Start::TrimHorizon, Start::At),
        created_ms: wire.created_ms,
        policies: Policies {
            out_of_range: named(OutOfRange::NAMES, &wire.out_of_range)?,
            aggregates: named(Aggregates::NAMES, &wire.aggregates)?,
        },
    })
}

fn named<T: Copy>(names: &[(&str, T)], name: &str) -> Option<T> {
    names.iter().find(|(known, _)| *known == name).map(|(_, choice)| *choice)
}
