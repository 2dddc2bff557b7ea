//! Input streams on a real Kinesis API: where iterators begin, what a record carries, and how errors are classed.

use anyhow::{Context as _, Result};
use aws_sdk_kinesis::primitives::Blob;
use pelton_aws::{FanOutTimes, KinesisSource};
use pelton_core::id::{Incarnation, ShardId, ShardKey, StreamIndex};
use pelton_core::job::{Input, JobMeta, Start};
use pelton_core::policy::Policies;
use pelton_core::position::{Position, RecordPlace, WHOLE};
use pelton_core::slice::{HashKey, HashRange, TaskCount};
use pelton_engine::ports::{PortError, Source, SourceError};

use crate::faults::{Fault, Faults, faulty};
use crate::servers::{LIMIT, connections, create_stream, fresh};

/// A source over a new stream of one shard that holds records `0` to `4`, and faults in between.
pub async fn source() -> Result<(KinesisSource, Faults, String)> {
    let plain = connections().await;
    let stream = fresh("stream");
    create_stream(&plain, &stream, 1).await?;
    for data in 0..5 {
        let put = plain.kinesis.put_record().stream_name(&stream).partition_key(format!("key {data}"));
        put.data(Blob::new(data.to_string())).send().await?;
    }
    let (through, faults) = faulty(&plain);
    let input = Input {
        name: stream.clone(),
        arn: format!("arn:aws:kinesis:us-east-1:000000000000:stream/{stream}"),
        created_ms: 0,
        newest_shard: ShardId::from("shardId-000000000000"),
        listed: [(ShardId::from("shardId-000000000000"), HashRange::ALL)].into(),
    };
    let meta = JobMeta {
        policies: Policies::default(),
        name: "orders".into(),
        incarnation: Incarnation([9; 16]),
        tasks: TaskCount::new(1).context("one is a number of tasks")?,
        inputs: vec![input],
        start: Start::TrimHorizon,
        created_ms: 0,
    };
    Ok((KinesisSource::new(&through, &meta, FanOutTimes::UNLIMITED), faults, stream))
}

pub fn shard(index: u32) -> ShardKey {
    ShardKey { stream: StreamIndex(0), shard: ShardId::from(format!("shardId-{index:012}").as_str()) }
}

#[tokio::test]
async fn how_long_a_stream_keeps_records_can_change() -> Result<()> {
    const HOUR_MS: u64 = 3_600_000;
    let (source, _, stream) = source().await?;
    assert_eq!(source.retention_ms(StreamIndex(0)).await?, 24 * HOUR_MS);
    let longer = connections().await.kinesis.increase_stream_retention_period().stream_name(&stream);
    longer.retention_period_hours(48).send().await?;
    assert_eq!(source.retention_ms(StreamIndex(0)).await?, 48 * HOUR_MS);
    Ok(())
}

#[tokio::test]
async fn an_iterator_begins_behind_its_position() -> Result<()> {
    let (source, ..) = source().await?;
    let [listed] = &source.list_shards(StreamIndex(0)).await?[..] else { anyhow::bail!("there is one shard") };
    assert_eq!((&listed.id, listed.range, listed.closed), (&shard(0).shard, HashRange::ALL, false));
    assert_eq!(listed.range.end, HashKey(u128::MAX));

    let read = |position| {
        let source = &source;
        async move {
            let iterator = source.iterator(&shard(0), position).await?;
            source.records(&shard(0), &iterator, 10_000).await
        }
    };
    let all = read(Position::TrimHorizon).await?.records;
    let data: Vec<&[u8]> = all.iter().map(|record| &record.data[..]).collect();
    assert_eq!(data, [b"0", b"1", b"2", b"3", b"4"]);
    assert_eq!(all[3].partition_key, "key 3");
    assert!(all[3].arrived_ms > 1_600_000_000_000, "milliseconds, not seconds");

    let after = |sub_sequence| Position::After(RecordPlace { sub_sequence, ..all[2].place });
    assert_eq!(read(after(WHOLE)).await?.records, all[3..]);
    assert_eq!(read(after(0)).await?.records, all[2..], "more of an aggregate may follow");
    assert_eq!(read(Position::after_all_of(all[4].place.sequence)).await?.records, []);
    assert_eq!(read(Position::AtTimestamp(all[0].arrived_ms)).await?.records, all);
    assert!(read(Position::TrimHorizon).await?.next.is_some(), "an open shard has no end");
    Ok(())
}

#[tokio::test]
async fn errors_are_classed_by_what_to_do() -> Result<()> {
    let (source, faults, stream) = source().await?;
    let iterator = source.iterator(&shard(0), Position::TrimHorizon).await?;
    let class = |error: &SourceError| match error {
        SourceError::Expired => "expired",
        SourceError::Throttled => "throttled",
        SourceError::Gone(_) => "gone",
        SourceError::Refused(_) => "refused",
        SourceError::Port(PortError::Retry(_)) => "retry",
        SourceError::Port(PortError::Stop(_)) => "stop",
    };
    for (code, status, attempts, wanted) in [
        ("ExpiredIteratorException", 400, 1, "expired"),
        ("ProvisionedThroughputExceededException", 400, 2, "throttled"),
        ("LimitExceededException", 400, 2, "throttled"),
        ("KMSThrottlingException", 400, 1, "throttled"),
        ("ResourceNotFoundException", 400, 1, "gone"),
        ("InternalFailure", 500, 2, "retry"),
        ("AccessDeniedException", 400, 1, "stop"),
        ("ValidationException", 400, 1, "stop"),
        ("KMSDisabledException", 400, 1, "stop"),
    ] {
        faults.next("GetRecords", vec![Fault::error(status, code); attempts]);
        let error = source.records(&shard(0), &iterator, 10).await.err().context(code)?;
        assert_eq!(class(&error), wanted, "{code}: {error}");
        if let SourceError::Port(error) = &error {
            let text = error.to_string();
            assert!(text.contains(&stream) && text.contains("shardId-000000000000"), "{text}");
        }
        faults.assert_played();
    }
    faults.next("GetRecords", [Fault::LoseReply, Fault::LoseReply]);
    assert_eq!(source.records(&shard(0), &iterator, 10).await.err().as_ref().map(class), Some("retry"));
    // As the server itself has it: a shard it does not know, and a sequence number that is not of this stream.
    let gone = source.iterator(&shard(7), Position::TrimHorizon).await.err().context("there is no shard 7")?;
    assert!(matches!(&gone, SourceError::Gone(key) if *key == shard(7)), "{gone}");
    let place = RecordPlace { sequence: "7".parse()?, sub_sequence: 0 };
    let error = source.iterator(&shard(0), Position::After(place)).await.err().context("not of this stream")?;
    assert_eq!(class(&error), "stop", "{error}");
    Ok(())
}

#[tokio::test]
async fn a_closed_shard_ends_after_its_last_record() -> Result<()> {
    let (source, _, stream) = source().await?;
    let half = (u128::MAX / 2).to_string();
    let split = connections().await.kinesis.split_shard().stream_name(&stream).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(half).send().await?;
    let closed = |shards: Vec<pelton_core::shard::Shard>| shards.iter().any(|shard| shard.closed);
    let began = std::time::Instant::now();
    while !closed(source.list_shards(StreamIndex(0)).await?) {
        anyhow::ensure!(began.elapsed() < LIMIT, "the shard is not closed");
    }
    let (mut next, mut data) = (Some(source.iterator(&shard(0), Position::TrimHorizon).await?), Vec::new());
    // Two records at a time; the server says that there are no more one reply late.
    for _ in 0..5 {
        let Some(from) = next.take() else { break };
        let fetched = source.records(&shard(0), &from, 2).await?;
        data.extend(fetched.records.iter().map(|record| record.data.to_vec()));
        next = fetched.next;
    }
    assert_eq!(data, [b"0", b"1", b"2", b"3", b"4"]);
    assert!(next.is_none(), "it has no end");
    Ok(())
}
