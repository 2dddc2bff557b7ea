//! Streams through the ordinary AWS SDK: made, filled, split and merged.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ScalingType, Shard, StreamStatus};

/// A record to put: partition key and data.
pub type Entry = (String, Vec<u8>);

/// Records in one call.
const CALL_RECORDS: usize = 500;

/// A client of a Kinesis on this machine.
pub fn client(endpoint: &str) -> Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(endpoint)
        .build();
    Client::from_conf(config)
}

/// Makes a stream and waits until it takes records.
///
/// # Errors
/// When Kinesis refuses.
pub async fn create(client: &Client, stream: &str, shards: i32) -> Result<()> {
    client.create_stream().stream_name(stream).shard_count(shards).send().await?;
    active(client, stream).await
}

/// Waits until a stream is done with what it is doing.
///
/// # Errors
/// When Kinesis refuses, or that takes longer than 20 s.
pub async fn active(client: &Client, stream: &str) -> Result<()> {
    for _ in 0..400 {
        let summary = client.describe_stream_summary().stream_name(stream).send().await?;
        let status = summary.stream_description_summary().map(|summary| summary.stream_status().clone());
        if status == Some(StreamStatus::Active) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("stream {stream} does not become active")
}

/// Puts records in their order: what a call did not take is put again before anything later of the same key.
///
/// # Errors
/// When Kinesis refuses.
pub async fn put(client: &Client, stream: &str, records: &[Entry]) -> Result<()> {
    put_into(client, stream, records).await.map(drop)
}

/// As [`put`], and says which shards took them.
///
/// # Errors
/// When Kinesis refuses.
pub async fn put_into(client: &Client, stream: &str, records: &[Entry]) -> Result<BTreeSet<String>> {
    let mut shards = BTreeSet::new();
    for chunk in records.chunks(CALL_RECORDS) {
        let mut pending: Vec<&Entry> = chunk.iter().collect();
        while !pending.is_empty() {
            let entry = |(key, data): &&Entry| {
                let entry = PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data.clone()));
                entry.build().context("an entry has key and data")
            };
            let entries = pending.iter().map(entry).collect::<Result<Vec<_>>>()?;
            let reply = client.put_records().stream_name(stream).set_records(Some(entries)).send().await?;
            shards.extend(reply.records().iter().filter_map(|result| result.shard_id().map(str::to_owned)));
            let failed = pending.iter().zip(reply.records()).filter(|(_, result)| result.error_code().is_some());
            pending = failed.map(|(entry, _)| *entry).collect();
            if !pending.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    Ok(shards)
}

/// The shards that take records now, by their first hash key.
///
/// # Errors
/// When Kinesis refuses.
pub async fn open_shards(client: &Client, stream: &str) -> Result<Vec<Shard>> {
    let mut shards = shards(client, stream).await?;
    shards.retain(is_open);
    shards.sort_by_key(|shard| range(shard).0);
    Ok(shards)
}

/// Every shard, as it is listed.
///
/// # Errors
/// When Kinesis refuses.
pub async fn shards(client: &Client, stream: &str) -> Result<Vec<Shard>> {
    Ok(client.list_shards().stream_name(stream).send().await?.shards.unwrap_or_default())
}

/// Whether a shard takes records.
pub fn is_open(shard: &Shard) -> bool {
    shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_none())
}

/// First and last hash key of a shard.
pub fn range(shard: &Shard) -> (u128, u128) {
    let range = shard.hash_key_range();
    let key = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or_default();
    (key(range.map(|range| range.starting_hash_key())), key(range.map(|range| range.ending_hash_key())))
}

/// Splits the open shard at this place among them, at a hash key inside it.
///
/// # Errors
/// When Kinesis refuses.
pub async fn split(client: &Client, stream: &str, place: usize) -> Result<()> {
    let shards = open_shards(client, stream).await?;
    let (start, end) = range(&shards[place % shards.len()]);
    // Not the middle, so that the new border lies inside some task's slice.
    split_at(client, stream, start + (end - start) / 2 + 12_345).await
}

/// Splits the open shard that takes this hash key, so that a shard begins with it.
///
/// # Errors
/// When Kinesis refuses, as it does where one begins with it already.
pub async fn split_at(client: &Client, stream: &str, at: u128) -> Result<()> {
    let shards = open_shards(client, stream).await?;
    let shard = shards.iter().rfind(|shard| range(shard).0 <= at).context("some shard takes each hash key")?;
    let call = client.split_shard().stream_name(stream).shard_to_split(shard.shard_id());
    call.new_starting_hash_key(at.to_string()).send().await?;
    active(client, stream).await
}

/// Splits and merges until a stream has so many open shards of equal ranges, as UpdateShardCount does.
///
/// # Errors
/// When Kinesis refuses.
pub async fn scale(client: &Client, stream: &str, count: u128) -> Result<()> {
    let borders: BTreeSet<u128> = (1..count).map(|index| u128::MAX / count * index).collect();
    let begun: BTreeSet<u128> = open_shards(client, stream).await?.iter().map(|shard| range(shard).0).collect();
    for border in borders.difference(&begun) {
        split_at(client, stream, *border).await?;
    }
    loop {
        let shards = open_shards(client, stream).await?;
        let mut pairs = shards.iter().zip(shards.iter().skip(1));
        let Some(place) = pairs.position(|(_, next)| !borders.contains(&range(next).0)) else { return Ok(()) };
        merge(client, stream, place).await?;
    }
}

/// Has Kinesis itself change how many shards a stream has.
///
/// # Errors
/// When Kinesis refuses.
pub async fn update_count(client: &Client, stream: &str, count: u128) -> Result<()> {
    let request = client.update_shard_count().stream_name(stream).target_shard_count(i32::try_from(count)?);
    request.scaling_type(ScalingType::UniformScaling).send().await?;
    active(client, stream).await
}

/// Merges the open shard at this place among them with the next one.
///
/// # Errors
/// When Kinesis refuses, or there is only one.
pub async fn merge(client: &Client, stream: &str, place: usize) -> Result<()> {
    let shards = open_shards(client, stream).await?;
    if shards.len() < 2 {
        bail!("stream {stream} has a single open shard, and merging takes two");
    }
    let place = place % (shards.len() - 1);
    let call = client.merge_shards().stream_name(stream).shard_to_merge(shards[place].shard_id());
    call.adjacent_shard_to_merge(shards[place + 1].shard_id()).send().await?;
    active(client, stream).await
}

/// Every record of a stream, shard by shard, parents before children: partition key and data.
///
/// # Errors
/// When Kinesis refuses.
pub async fn read_all(client: &Client, stream: &str) -> Result<Vec<Entry>> {
    let shards = client.list_shards().stream_name(stream).send().await?;
    let mut records = Vec::new();
    for shard in shards.shards() {
        let request = client.get_shard_iterator().stream_name(stream).shard_id(shard.shard_id());
        let reply = request.shard_iterator_type(aws_sdk_kinesis::types::ShardIteratorType::TrimHorizon).send().await?;
        let mut iterator = reply.shard_iterator().map(str::to_owned);
        while let Some(from) = iterator.take() {
            let reply = client.get_records().shard_iterator(from).send().await?;
            let found = reply.records();
            records.extend(found.iter().map(|record| {
                (record.partition_key().unwrap_or_default().to_owned(), record.data().clone().into_inner())
            }));
            if !found.is_empty() {
                iterator = reply.next_shard_iterator().map(str::to_owned);
            }
        }
    }
    Ok(records)
}
