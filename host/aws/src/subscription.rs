//! A shard's subscription, renewed for ever: one that ran out, broke or fell silent is opened again where the last event said
//! to go on. It passes over nothing, gives no record twice, and leaves whatever does not pass to polling to judge.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::config::{Builder, StalledStreamProtectionConfig};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream};
use futures::StreamExt as _;
use pelton_core::id::ShardKey;
use pelton_core::limits::backoff_ms;
use pelton_core::position::Position;
use pelton_core::sequence::SequenceNumber;
use pelton_engine::ports::{Fetched, PortError, ShardIterator, SourceError, Subscription};
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{code, is_final, port_error};
use crate::mutant::{Mutant, wrong};
use crate::source::{Inputs, own, starting};

/// So many failures in a row without an event, and fan-out counts as refused.
const STRIKES_MAX: u32 = 5;

/// When each shard was last subscribed to, by whichever subscription.
pub(crate) type Opened = Mutex<BTreeMap<ShardKey, Instant>>;

/// Where the next subscription begins.
enum Start {
    /// Behind a position.
    Behind(Position),
    /// At a number that an event gave.
    At(String),
}

struct Subscriber {
    inputs: Arc<Inputs>,
    shard: ShardKey,
    start: Start,
    /// The last record given.
    given: Option<SequenceNumber>,
    open: Option<SubscribeToShardOutput>,
    /// Whether the open subscription brought anything.
    heard: bool,
    /// Failures since an event came.
    strikes: u32,
    /// No new subscription before this.
    pause_until: Instant,
}

/// What a shard pushes from a position on.
pub(crate) fn subscription(inputs: Arc<Inputs>, shard: &ShardKey, position: Position) -> Subscription {
    let subscriber = Subscriber {
        inputs,
        shard: shard.clone(),
        start: Start::Behind(position),
        given: None,
        open: None,
        heard: false,
        strikes: 0,
        pause_until: Instant::now(),
    };
    let replies = futures::stream::unfold(subscriber, |mut subscriber| async {
        let reply = subscriber.next().await;
        Some((reply, subscriber))
    });
    Subscription(replies.boxed())
}

impl Subscriber {
    async fn next(&mut self) -> Result<Fetched, SourceError> {
        let silence_max = self.inputs.times.silence_max;
        loop {
            let Some(open) = &mut self.open else {
                self.subscribe().await?;
                continue;
            };
            match timeout(silence_max, open.event_stream.recv()).await {
                Ok(Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)))) => return self.event(event),
                // A kind of event that Kinesis has not yet.
                Ok(Ok(Some(_))) => {}
                // It ran out, as each does after five minutes.
                Ok(Ok(None)) if self.heard => self.open = None,
                Ok(Ok(None)) => return Err(self.strike(format!("{}: it ended without an event", self.what()))),
                Ok(Err(error)) => {
                    let code = pushed_code(&error);
                    let text = match code {
                        Some(code) => format!("{}: {code}", self.what()),
                        None => port_error(&self.what(), &error).to_string(),
                    };
                    return Err(self.broken(code, text).await);
                }
                Err(_) => {
                    let silence_ms = silence_max.as_millis();
                    return Err(self.strike(format!("{}: nothing came for {silence_ms} ms", self.what())));
                }
            }
        }
    }

    fn what(&self) -> String {
        format!("the subscription to {} of stream {}", self.shard.shard, self.inputs.name(self.shard.stream))
    }

    async fn subscribe(&mut self) -> Result<(), SourceError> {
        let (inputs, times) = (self.inputs.clone(), self.inputs.times);
        let arn = inputs.consumers.arn(&inputs.client, self.shard.stream).await.map_err(SourceError::Refused)?;
        let opened = lock(&inputs.opened).get(&self.shard).copied();
        sleep_until(opened.map_or(self.pause_until, |opened| self.pause_until.max(opened + times.reopen_min))).await;
        let request = inputs.subscriber(&self.shard.shard).subscribe_to_shard();
        let request = request.consumer_arn(arn).shard_id(&*self.shard.shard.0).starting_position(self.position()?);
        // Silence is watched here, by what Kinesis promises and not by bytes a second.
        let unwatched = Builder::new().stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let request = request.customize().config_override(unwatched);
        match timeout(times.silence_max, request.send()).await {
            Ok(Ok(open)) => {
                lock(&inputs.opened).insert(self.shard.clone(), Instant::now());
                (self.open, self.heard) = (Some(open), false);
                Ok(())
            }
            Ok(Err(error)) if code(&error) == Some("ResourceInUseException") => {
                // The last life of this host may hold it still; a shard is given over after this time.
                let text = port_error(&self.what(), &error).to_string();
                let error = self.strike(text);
                self.pause_until = self.pause_until.max(Instant::now() + times.reopen_min);
                Err(error)
            }
            Ok(Err(error)) => {
                let text = port_error(&self.what(), &error).to_string();
                Err(self.broken(code(&error), text).await)
            }
            Err(_) => Err(self.strike(format!("{}: it was not answered", self.what()))),
        }
    }

    fn position(&self) -> Result<StartingPosition, SourceError> {
        let builder = StartingPosition::builder();
        let position = match &self.start {
            Start::Behind(position) => {
                let (kind, sequence, timestamp) = starting(&self.shard, *position);
                builder.r#type(kind).set_sequence_number(sequence).set_timestamp(timestamp)
            }
            // Whether what stands there was given already, we know ourselves.
            Start::At(sequence) => builder.r#type(ShardIteratorType::AtSequenceNumber).sequence_number(sequence),
        };
        position.build().map_err(|error| SourceError::Refused(format!("{}: {error}", self.what())))
    }

    fn event(&mut self, event: SubscribeToShardEvent) -> Result<Fetched, SourceError> {
        let what = self.what();
        (self.strikes, self.heard) = (0, true);
        // Kinesis names the children with the last records and has no place to go on; others name them as soon as the shard is
        // closed, and have records yet.
        let last = event.records.is_empty() && !event.child_shards().is_empty();
        let end = last || event.continuation_sequence_number.is_empty();
        let records = event.records.into_iter().map(|record| own(&what, record)).collect::<Result<Vec<_>, _>>();
        let mut records = records.map_err(|error| SourceError::Refused(error.to_string()))?;
        let is_new = |given: SequenceNumber, sequence| sequence > given || wrong(Mutant::SubscriptionRepeats);
        records.retain(|record| self.given.is_none_or(|given| is_new(given, record.place.sequence)));
        self.given = records.last().map(|record| record.place.sequence).or(self.given);
        let next = (!end).then_some(event.continuation_sequence_number);
        if let Some(next) = next.as_ref().filter(|_| !wrong(Mutant::SubscriptionRestarts)) {
            self.start = Start::At(next.clone());
        }
        let behind_ms = u64::try_from(event.millis_behind_latest).ok();
        Ok(Fetched { records, next: next.map(ShardIterator), behind_ms })
    }

    /// What an error of Kinesis comes to.
    async fn broken(&mut self, code: Option<&str>, text: String) -> SourceError {
        match code {
            // Whoever subscribed after us has the shard from now on.
            Some("ResourceInUseException") => self.refused(format!("{text}; another host reads it by this consumer")),
            // Perhaps it is the consumer that is gone, and not the shard.
            Some("ResourceNotFoundException") => {
                self.inputs.consumers.forget(self.shard.stream).await;
                self.refused(text)
            }
            Some(code) if is_final(code) => self.refused(text),
            Some(_) | None => self.strike(text),
        }
    }

    fn refused(&mut self, text: String) -> SourceError {
        self.open = None;
        SourceError::Refused(text)
    }

    /// Something that passes: another subscription is opened after a pause, unless too many came to nothing.
    fn strike(&mut self, text: String) -> SourceError {
        self.open = None;
        self.strikes += 1;
        if self.strikes >= STRIKES_MAX {
            return SourceError::Refused(text);
        }
        self.pause_until = Instant::now() + Duration::from_millis(backoff_ms(self.strikes));
        SourceError::Port(PortError::Retry(text))
    }
}

/// The service's name for an error in mid-stream, which the SDK leaves out of those it knows.
fn pushed_code<R>(error: &SdkError<SubscribeToShardEventStreamError, R>) -> Option<&str> {
    use SubscribeToShardEventStreamError as E;
    Some(match error.as_service_error()? {
        E::ResourceNotFoundException(_) => "ResourceNotFoundException",
        E::ResourceInUseException(_) => "ResourceInUseException",
        E::KmsDisabledException(_) => "KMSDisabledException",
        E::KmsInvalidStateException(_) => "KMSInvalidStateException",
        E::KmsAccessDeniedException(_) => "KMSAccessDeniedException",
        E::KmsNotFoundException(_) => "KMSNotFoundException",
        E::KmsOptInRequired(_) => "KMSOptInRequired",
        E::KmsThrottlingException(_) => "KMSThrottlingException",
        E::InternalFailureException(_) => "InternalFailureException",
        // Kinds that this SDK does not know.
        other => return other.code(),
    })
}

fn lock(opened: &Opened) -> MutexGuard<'_, BTreeMap<ShardKey, Instant>> {
    opened.lock().unwrap_or_else(PoisonError::into_inner)
}
