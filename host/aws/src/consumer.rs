//! The registered consumer of a job in each of its input streams: found, or made, when the first shard needs it. Nobody
//! removes it: another host of the job may read with it.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::ConsumerStatus;
use pelton_core::id::StreamIndex;
use pelton_core::job::JobMeta;
use pelton_engine::ports::PortError;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{code, port_error};

/// How often a consumer that is being made is looked at.
const POLL: Duration = Duration::from_millis(500);

/// The times that fan-out keeps.
#[derive(Clone, Copy, Debug)]
pub struct FanOutTimes {
    /// A connection on which nothing comes for so long is dead. Kinesis sends something about every five seconds.
    pub silence_max: Duration,
    /// A shard takes no second subscription of a consumer sooner than this.
    pub reopen_min: Duration,
    /// A consumer is ready in this, or counts as refused for now.
    pub registration_max: Duration,
    /// A consumer that was refused is not asked for again before this.
    pub refusal_holds: Duration,
}

impl FanOutTimes {
    /// Those of Kinesis.
    pub const KINESIS: Self = Self {
        silence_max: Duration::from_secs(20),
        reopen_min: Duration::from_secs(5),
        registration_max: Duration::from_secs(10),
        refusal_holds: Duration::from_secs(30),
    };
    /// For servers without such limits.
    pub const UNLIMITED: Self =
        Self { reopen_min: Duration::ZERO, refusal_holds: Duration::from_millis(500), ..Self::KINESIS };
}

#[derive(Debug)]
enum Registration {
    Unknown,
    Active(String),
    Refused { why: String, until: Instant },
}

/// A job's consumers, one a stream.
#[derive(Debug)]
pub(crate) struct Consumers {
    name: String,
    times: FanOutTimes,
    streams: Vec<Stream>,
}

#[derive(Debug)]
struct Stream {
    name: String,
    arn: String,
    // Held while one shard asks, so that the others wait for its answer.
    registration: Mutex<Registration>,
}

impl Consumers {
    /// The consumers of a job: all are called `pelton-` and its name.
    pub fn new(meta: &JobMeta, times: FanOutTimes) -> Self {
        let stream = |input: &pelton_core::job::Input| Stream {
            name: input.name.clone(),
            arn: input.arn.clone(),
            registration: Mutex::new(Registration::Unknown),
        };
        Self { name: format!("pelton-{}", meta.name), times, streams: meta.inputs.iter().map(stream).collect() }
    }

    /// The ARN of a stream's consumer, or why there is none.
    pub async fn arn(&self, client: &Client, stream: StreamIndex) -> Result<String, String> {
        let stream = &self.streams[usize::from(stream.0)];
        let mut registration = stream.registration.lock().await;
        match &*registration {
            Registration::Active(arn) => return Ok(arn.clone()),
            Registration::Refused { why, until } if Instant::now() < *until => return Err(why.clone()),
            Registration::Refused { .. } | Registration::Unknown => {}
        }
        let found = self.register(client, stream).await;
        *registration = match &found {
            Ok(arn) => Registration::Active(arn.clone()),
            Err(why) => Registration::Refused { why: why.clone(), until: Instant::now() + self.times.refusal_holds },
        };
        found
    }

    /// The consumer may be gone: it is looked for again when it is needed.
    pub async fn forget(&self, stream: StreamIndex) {
        *self.streams[usize::from(stream.0)].registration.lock().await = Registration::Unknown;
    }

    async fn register(&self, client: &Client, stream: &Stream) -> Result<String, String> {
        let deadline = Instant::now() + self.times.registration_max;
        loop {
            let waits_for = match self.describe(client, stream).await {
                Ok(Some((ConsumerStatus::Active, arn))) => return Ok(arn),
                Ok(Some((status, _))) => format!("consumer {} of stream {} is {status}", self.name, stream.name),
                Ok(None) => match self.create(client, stream).await {
                    Ok(()) => format!("consumer {} of stream {} is being made", self.name, stream.name),
                    Err(PortError::Retry(text)) => text,
                    Err(PortError::Stop(text)) => return Err(text),
                },
                Err(PortError::Retry(text)) => text,
                Err(PortError::Stop(text)) => return Err(text),
            };
            if Instant::now() >= deadline {
                return Err(waits_for);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn describe(&self, client: &Client, stream: &Stream) -> Result<Option<(ConsumerStatus, String)>, PortError> {
        let what = format!("looking for consumer {} of stream {}", self.name, stream.name);
        let request = client.describe_stream_consumer().stream_arn(&stream.arn).consumer_name(&self.name);
        match request.send().await {
            Ok(reply) => {
                let consumer = reply.consumer_description;
                Ok(consumer.map(|consumer| (consumer.consumer_status, consumer.consumer_arn)))
            }
            Err(error) if code(&error) == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(advised(port_error(&what, &error), code(&error))),
        }
    }

    async fn create(&self, client: &Client, stream: &Stream) -> Result<(), PortError> {
        let what = format!("registering consumer {} of stream {}", self.name, stream.name);
        let request = client.register_stream_consumer().stream_arn(&stream.arn).consumer_name(&self.name);
        match request.send().await {
            Ok(_) => {
                tracing::info!("stream {}: registered the fan-out consumer {}", stream.name, self.name);
                Ok(())
            }
            // Another host was faster.
            Err(error) if code(&error) == Some("ResourceInUseException") => Ok(()),
            Err(error) => Err(advised(port_error(&what, &error), code(&error))),
        }
    }
}

/// Adds what to do about it.
fn advised(error: PortError, code: Option<&str>) -> PortError {
    match (error, code) {
        (PortError::Retry(text) | PortError::Stop(text), Some("LimitExceededException")) => {
            PortError::Stop(format!("{text}; a stream has 20 consumers at most: deregister one that nobody needs"))
        }
        (PortError::Stop(text), Some("AccessDeniedException")) => PortError::Stop(format!(
            "{text}; allow kinesis:DescribeStreamConsumer, RegisterStreamConsumer and SubscribeToShard"
        )),
        (error, _) => error,
    }
}
