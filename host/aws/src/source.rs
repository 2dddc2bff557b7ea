//! Input streams: shards listed, iterators taken, records got or subscribed to.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{ShardIteratorType, StreamDescriptionSummary};
use bytes::Bytes;
use pelton_core::id::{ShardId, ShardKey, StreamIndex};
use pelton_core::job::JobMeta;
use pelton_core::position::{Position, RecordPlace, WHOLE};
use pelton_core::record::Record;
use pelton_core::sequence::SequenceNumber;
use pelton_core::shard::Shard;
use pelton_core::slice::{HashKey, HashRange};
use pelton_engine::ports::{Fetched, PortError, ShardIterator, Source, SourceError, Subscription};

use crate::connect::Connections;
use crate::consumer::{Consumers, FanOutTimes};
use crate::error::{code, port_error};
use crate::mutant::{Mutant, wrong};
use crate::subscription::{Opened, subscription};

/// Shards in one listing's page; the most Kinesis gives.
const LISTING_PAGE: i32 = 10_000;
/// Pages of one listing: far more than any stream has.
const LISTING_PAGES_MAX: usize = 100;

/// A job's input streams.
#[derive(Debug)]
pub struct KinesisSource(Arc<Inputs>);

/// What reading them takes.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub client: Client,
    subscribers: Vec<Client>,
    names: Vec<String>,
    pub consumers: Consumers,
    pub times: FanOutTimes,
    pub opened: Opened,
}

impl KinesisSource {
    /// The inputs of a job.
    pub fn new(connections: &Connections, meta: &JobMeta, times: FanOutTimes) -> Self {
        assert!(!connections.subscribers.is_empty(), "subscriptions need a client");
        Self(Arc::new(Inputs {
            client: connections.kinesis.clone(),
            subscribers: connections.subscribers.clone(),
            names: meta.inputs.iter().map(|input| input.name.clone()).collect(),
            consumers: Consumers::new(meta, times),
            times,
            opened: Opened::default(),
        }))
    }
}

impl Inputs {
    pub fn name(&self, stream: StreamIndex) -> &str {
        &self.names[usize::from(stream.0)]
    }

    /// The client that subscribes to a shard: the same for each of its subscriptions.
    pub fn subscriber(&self, shard: &ShardId) -> &Client {
        let number = shard.0.bytes().fold(0usize, |number, byte| number.wrapping_mul(31).wrapping_add(byte.into()));
        &self.subscribers[number % self.subscribers.len()]
    }
}

#[async_trait]
impl Source for KinesisSource {
    async fn list_shards(&self, stream: StreamIndex) -> Result<Vec<Shard>, SourceError> {
        // Throttling here is a passing failure like any other: a listing is asked for again anyway.
        list_shards(&self.0.client, self.0.name(stream)).await.map_err(SourceError::Port)
    }

    async fn retention_ms(&self, stream: StreamIndex) -> Result<u64, SourceError> {
        let name = self.0.name(stream);
        let what = format!("asking how long stream {name} keeps records");
        let reply = self.0.client.describe_stream_summary().stream_name(name).send().await;
        let reply = reply.map_err(|error| SourceError::Port(port_error(&what, &error)))?;
        let none = || SourceError::Port(PortError::Retry(format!("{what}: the reply does not say")));
        reply.stream_description_summary.as_ref().and_then(retention_ms).ok_or_else(none)
    }

    async fn iterator(&self, shard: &ShardKey, position: Position) -> Result<ShardIterator, SourceError> {
        let (kind, sequence, timestamp) = starting(shard, position);
        let request = self.0.client.get_shard_iterator().stream_name(self.0.name(shard.stream));
        let request = request.shard_id(&*shard.shard.0).shard_iterator_type(kind);
        let request = request.set_starting_sequence_number(sequence).set_timestamp(timestamp);
        let what = format!("taking an iterator of {} in stream {}", shard.shard, self.0.name(shard.stream));
        let reply = request.send().await.map_err(|error| classed(&what, shard, &error))?;
        let none = || PortError::Retry(format!("{what}: the reply has none"));
        Ok(ShardIterator(reply.shard_iterator.ok_or_else(none)?))
    }

    async fn records(&self, shard: &ShardKey, from: &ShardIterator, limit: u32) -> Result<Fetched, SourceError> {
        let request = self.0.client.get_records().shard_iterator(&from.0);
        let what = format!("reading {} of stream {}", shard.shard, self.0.name(shard.stream));
        let reply = request.limit(limit as i32).send().await.map_err(|error| classed(&what, shard, &error));
        if wrong(Mutant::ExpiredAsEnd) && matches!(reply, Err(SourceError::Expired)) {
            return Ok(Fetched { records: Vec::new(), next: None, behind_ms: None });
        }
        let reply = reply?;
        let again = || wrong(Mutant::ShardEndIgnored).then(|| from.clone());
        let records = reply.records.into_iter().map(|record| own(&what, record)).collect::<Result<_, _>>()?;
        Ok(Fetched {
            records,
            next: reply.next_shard_iterator.map(ShardIterator).or_else(again),
            behind_ms: reply.millis_behind_latest.and_then(|ms| u64::try_from(ms).ok()),
        })
    }

    fn subscribe(&self, shard: &ShardKey, position: Position) -> Subscription {
        subscription(self.0.clone(), shard, position)
    }
}

/// How Kinesis is told to begin behind a position.
///
/// # Panics
/// For a position at the shard's end, which has no next record.
pub(crate) fn starting(shard: &ShardKey, position: Position) -> (ShardIteratorType, Option<String>, Option<DateTime>) {
    match position {
        Position::TrimHorizon => (ShardIteratorType::TrimHorizon, None, None),
        Position::AtTimestamp(ms) => {
            let timestamp = DateTime::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
            (ShardIteratorType::AtTimestamp, None, Some(timestamp))
        }
        // More may follow at the same sequence number unless all of it is passed: it is read again.
        Position::After(place) => {
            let kind = match place.sub_sequence {
                WHOLE => ShardIteratorType::AfterSequenceNumber,
                _ if wrong(Mutant::AggregateRestSkipped) => ShardIteratorType::AfterSequenceNumber,
                _ => ShardIteratorType::AtSequenceNumber,
            };
            (kind, Some(place.sequence.to_string()), None)
        }
        Position::ShardEnd => panic!("nothing follows the end of {shard}"),
    }
}

pub(crate) fn own(what: &str, record: aws_sdk_kinesis::types::Record) -> Result<Record, PortError> {
    let sequence = record.sequence_number.parse::<SequenceNumber>();
    let sequence = sequence.map_err(|error| PortError::Stop(format!("{what}: {error}")))?;
    let arrived = record.approximate_arrival_timestamp.and_then(|at| u64::try_from(at.to_millis().ok()?).ok());
    // Gaps are told by it, so that a stand-in would make one up or hide one.
    let arrived_ms =
        arrived.ok_or_else(|| PortError::Stop(format!("{what}: record {sequence} has no arrival time")))?;
    Ok(Record {
        place: RecordPlace { sequence, sub_sequence: 0 },
        arrived_ms,
        partition_key: record
            .partition_key
            .ok_or_else(|| PortError::Stop(format!("{what}: record {sequence} has no partition key")))?,
        data: Bytes::from(record.data.into_inner()),
        output: None,
    })
}

fn classed<E, R>(what: &str, shard: &ShardKey, error: &SdkError<E, R>) -> SourceError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match code(error) {
        Some("ExpiredIteratorException") => SourceError::Expired,
        Some("ProvisionedThroughputExceededException") if wrong(Mutant::ThrottledAsGone) => {
            SourceError::Gone(shard.clone())
        }
        Some("ProvisionedThroughputExceededException" | "LimitExceededException" | "KMSThrottlingException") => {
            SourceError::Throttled
        }
        Some("ResourceNotFoundException") => SourceError::Gone(shard.clone()),
        _ => SourceError::Port(port_error(what, error)),
    }
}

/// The shards of a stream.
///
/// # Errors
/// As the service answers, or when it lists a shard without a range.
/// How long a stream keeps records, in milliseconds.
pub(crate) fn retention_ms(summary: &StreamDescriptionSummary) -> Option<u64> {
    u64::try_from(summary.retention_period_hours).ok().map(|hours| hours * 3_600_000)
}

pub(crate) async fn list_shards(client: &Client, name: &str) -> Result<Vec<Shard>, PortError> {
    let what = format!("listing the shards of stream {name}");
    let mut shards = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..LISTING_PAGES_MAX {
        let request = client.list_shards().max_results(LISTING_PAGE);
        let request = match token {
            // Kinesis takes either a stream or the token of a page before.
            Some(token) => request.next_token(token),
            None => request.stream_name(name),
        };
        let reply = request.send().await.map_err(|error| port_error(&what, &error));
        if wrong(Mutant::ListingCutShort) && reply.is_err() && !shards.is_empty() {
            return Ok(shards);
        }
        let reply = reply?;
        for shard in reply.shards.unwrap_or_default() {
            shards.push(described(&what, &shard)?);
        }
        token = reply.next_token;
        if token.is_none() || wrong(Mutant::ListingPagesDropped) {
            return Ok(shards);
        }
    }
    Err(PortError::Stop(format!("{what}: more than {LISTING_PAGES_MAX} pages")))
}

fn described(what: &str, shard: &aws_sdk_kinesis::types::Shard) -> Result<Shard, PortError> {
    let incomplete = || PortError::Stop(format!("{what}: shard {} has no range", shard.shard_id));
    let range = shard.hash_key_range.as_ref().ok_or_else(incomplete)?;
    let key = |text: &str| text.parse().map(HashKey).map_err(|_| incomplete());
    let parents = [&shard.parent_shard_id, &shard.adjacent_parent_shard_id];
    Ok(Shard {
        id: ShardId::from(shard.shard_id.as_str()),
        range: HashRange { start: key(&range.starting_hash_key)?, end: key(&range.ending_hash_key)? },
        parents: parents.into_iter().flatten().map(|parent| ShardId::from(parent.as_str())).collect(),
        closed: shard.sequence_number_range.as_ref().is_some_and(|range| range.ending_sequence_number.is_some()),
    })
}
