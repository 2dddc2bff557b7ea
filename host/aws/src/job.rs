//! Jobs by name: created once, and checked against what the configuration says ever after.

use std::sync::Arc;

use aws_sdk_kinesis::types::StreamStatus;
use bytes::Bytes;
use pelton_core::id::{Digest, Incarnation, ShardId};
use pelton_core::job::{Input, JobMeta, Start};
use pelton_core::slice::TaskCount;
use pelton_engine::ports::{Clock as _, PortError};

use crate::clock::ServiceClock;
use crate::connect::Connections;
use crate::error::{code, port_error};
use crate::item::{Item, binary, number, text};
use crate::layout::{self, META, PK, SK};
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

/// Why a job may not run. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// There is no such stream.
    #[error("job {job}: there is no stream {stream}; create it, or mend the name in the configuration")]
    NoStream {
        /// Which job.
        job: String,
        /// Which stream.
        stream: String,
    },
    /// A stream was deleted and made again.
    #[error(
        "job {job}: stream {stream} was created at {found_ms} ms, but the job began with one created at {known_ms} ms: \
         it was deleted and made again under its name, so the job's positions mean nothing in it; give the job another name"
    )]
    StreamRecreated {
        /// Which job.
        job: String,
        /// Which stream.
        stream: String,
        /// Milliseconds since 1970.
        known_ms: u64,
        /// Milliseconds since 1970.
        found_ms: u64,
    },
    /// Another number of tasks.
    #[error(
        "job {job} has {known} tasks, and the configuration says {asked}: the number never changes; set tasks = {known}, or give the job another name"
    )]
    TaskCount {
        /// Which job.
        job: String,
        /// At its creation.
        known: u32,
        /// In the configuration.
        asked: u32,
    },
    /// Other inputs.
    #[error(
        "job {job} was created with inputs {known:?}, and the configuration says {asked:?}; give the job another name"
    )]
    Inputs {
        /// Which job.
        job: String,
        /// At its creation.
        known: Vec<String>,
        /// In the configuration.
        asked: Vec<String>,
    },
    /// The table is not the one in which the job was created.
    #[error(
        "job {job} was created in table {known}, and this is {found}: it was restored from a backup or made again; its changelog may lack commits whose outputs went out, so it does not run here"
    )]
    Table {
        /// Which job.
        job: String,
        /// At its creation.
        known: String,
        /// Now.
        found: String,
    },
    /// A service failed.
    #[error("job {job}: {error}")]
    Port {
        /// Which job.
        job: String,
        /// What it said.
        error: PortError,
    },
}

/// The jobs of a table.
#[derive(Debug)]
pub struct JobTable {
    table: DynamoTable,
    kinesis: aws_sdk_kinesis::Client,
    clock: Arc<ServiceClock>,
}

struct Stream {
    input: Input,
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
        let (wire, created) = match self.read(&request.name).await.map_err(port)? {
            Some(wire) => (wire, false),
            None => self.create(request, &streams).await.map_err(port)?,
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
        let reply = match self.kinesis.describe_stream_summary().stream_name(name).send().await {
            Ok(reply) => reply,
            Err(error) if code(&error) == Some("ResourceNotFoundException") => {
                return Err(JobError::NoStream { job: job.into(), stream: name.into() });
            }
            Err(error) => return Err(port(port_error(&what, &error))),
        };
        let none = || port(PortError::Stop(format!("{what}: the reply is empty")));
        let summary = reply.stream_description_summary.ok_or_else(none)?;
        if matches!(summary.stream_status, StreamStatus::Creating | StreamStatus::Deleting) {
            return Err(port(PortError::Stop(format!("stream {name} is {}", summary.stream_status))));
        }
        let created_ms = summary.stream_creation_timestamp.to_millis().ok().and_then(|ms| u64::try_from(ms).ok());
        let shards = list_shards(&self.kinesis, &summary.stream_arn, name).await.map_err(port)?;
        let newest = shards.into_iter().map(|shard| shard.id).max();
        let input = Input {
            name: name.into(),
            arn: summary.stream_arn,
            created_ms: created_ms.unwrap_or_default(),
            newest_shard: newest.unwrap_or_else(|| ShardId::from("")),
        };
        Ok(Stream { input, retention_ms: u64::try_from(summary.retention_period_hours).unwrap_or(24) * 3_600_000 })
    }

    async fn read(&self, name: &str) -> Result<Option<MetaWire>, PortError> {
        let what = format!("reading job {name} from table {}", self.table.name);
        let request = self.table.client.get_item().table_name(&self.table.name).consistent_read(true);
        let reply = request.key(PK, text(layout::job(name))).key(SK, text(META)).send().await;
        let Some(item) = reply.map_err(|error| port_error(&what, &error))?.item else { return Ok(None) };
        let mut item = Item::new(&self.table.name, item)?;
        let format = item.number("format")?;
        if format > u64::from(FORMAT) {
            return Err(
                item.wrong(format!("the job is kept in format {format}, newer than {FORMAT}; run a newer pelton"))
            );
        }
        let data: Bytes = item.bytes("data")?;
        let wire = unframed(FORMAT, &data).map_err(|what| item.wrong(what))?;
        item.end()?;
        Ok(Some(wire))
    }

    async fn create(&self, request: &JobRequest, streams: &[Stream]) -> Result<(MetaWire, bool), PortError> {
        let created_ms = self.clock.now_ms();
        let input = |stream: &Stream| InputWire {
            name: stream.input.name.clone(),
            arn: stream.input.arn.clone(),
            created_ms: stream.input.created_ms,
            newest_shard: stream.input.newest_shard.to_string(),
        };
        let wire = MetaWire {
            incarnation: pelton_engine::random()?.into(),
            tasks: request.tasks.get(),
            inputs: streams.iter().map(input).collect(),
            start_ms: match request.start {
                StartRequest::TrimHorizon => None,
                StartRequest::Latest => Some(created_ms),
                StartRequest::At(ms) => Some(ms),
            },
            created_ms,
            table_id: self.table.id().into(),
            component: request.component.0.into(),
        };
        let put = self
            .table
            .client
            .put_item()
            .table_name(&self.table.name)
            .item(PK, text(layout::job(&request.name)))
            .item(SK, text(META))
            .item("format", number(FORMAT.into()))
            .item("data", binary(framed(FORMAT, &wire)))
            .condition_expression("attribute_not_exists(pk)");
        match put.send().await {
            Ok(_) => Ok((wire, true)),
            // Another host created it, or our own reply was lost.
            Err(error) if code(&error) == Some("ConditionalCheckFailedException") => {
                let none = || PortError::Retry(format!("job {} was created and is gone", request.name));
                Ok((self.read(&request.name).await?.ok_or_else(none)?, false))
            }
            Err(error) => Err(port_error(&format!("creating job {}", request.name), &error)),
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
        let known: Vec<String> = wire.inputs.iter().map(|input| input.name.clone()).collect();
        let same_arns = wire.inputs.iter().zip(streams).all(|(known, found)| known.arn == found.input.arn);
        if known != request.inputs || !same_arns {
            return Err(JobError::Inputs { job, known, asked: request.inputs.clone() });
        }
        for (known, found) in wire.inputs.iter().zip(streams) {
            if known.created_ms != found.input.created_ms {
                return Err(JobError::StreamRecreated {
                    job,
                    stream: known.name.clone(),
                    known_ms: known.created_ms,
                    found_ms: found.input.created_ms,
                });
            }
        }
        Ok(())
    }
}

fn from_wire(name: &str, wire: MetaWire) -> Option<JobMeta> {
    let input = |input: InputWire| Input {
        name: input.name,
        arn: input.arn,
        created_ms: input.created_ms,
        newest_shard: ShardId::from(input.newest_shard.as_str()),
    };
    Some(JobMeta {
        name: name.into(),
        incarnation: Incarnation(wire.incarnation.try_into().ok()?),
        tasks: TaskCount::new(wire.tasks)?,
        inputs: wire.inputs.into_iter().map(input).collect(),
        start: wire.start_ms.map_or(Start::TrimHorizon, Start::At),
        created_ms: wire.created_ms,
    })
}
