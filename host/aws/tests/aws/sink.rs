//! Outputs on a real stream: packed or plain, each package answered for, and none out of order within its key.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aws_sdk_kinesis::types::ShardIteratorType;
use bytes::Bytes;
use pelton_aws::{Connections, KinesisSink, OutputFormat, OutputStream};
use pelton_core::aggregate::{ID_TAG, unpack};
use pelton_core::id::{CommitNumber, Incarnation, TaskId};
use pelton_core::output::{OutputId, Package};
use pelton_engine::ports::{PortError, Sink};

use crate::faults::{Fault, faulty};
use crate::servers::{connections, create_stream, fresh};

/// A package as `output/key:data+data`.
pub fn package(text: &str) -> Package {
    let (output, rest) = text.split_once('/').expect("an output");
    let (key, data) = rest.split_once(':').expect("a key");
    let id = |index| OutputId {
        incarnation: Incarnation([9; 16]),
        task: TaskId(3),
        commit: CommitNumber(8),
        index,
        rewind: None,
    };
    let entries = data.split('+').enumerate();
    let entries = entries.map(|(index, data)| (id(index as u32), Bytes::from(data.to_owned()))).collect();
    Package { output: output.into(), partition_key: key.into(), entries }
}

/// `+` for a package that was acknowledged, `r` and `s` for those to be sent again and those that need a change first.
pub fn show(results: &[Result<(), PortError>]) -> String {
    let mark = |result: &Result<(), PortError>| match result {
        Ok(()) => '+',
        Err(PortError::Retry(_)) => 'r',
        Err(PortError::Stop(_)) => 's',
    };
    results.iter().map(mark).collect()
}

/// What a stream of one shard holds, in order: key and data, aggregates with their ids.
pub async fn holds(connections: &Connections, stream: &str) -> Result<String> {
    let iterator = connections.kinesis.get_shard_iterator().stream_name(stream).shard_id("shardId-000000000000");
    let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?;
    let reply = connections.kinesis.get_records().set_shard_iterator(iterator.shard_iterator).send().await?;
    let mut texts = Vec::new();
    for record in reply.records {
        let (key, data) = (record.partition_key.context("a key")?, record.data.into_inner());
        let Some(aggregate) = unpack(&data.clone().into()) else {
            texts.push(format!("{key}:{}", String::from_utf8_lossy(&data)));
            continue;
        };
        assert_eq!(aggregate.partition_key_table, std::slice::from_ref(&key));
        let record = |record: &pelton_core::aggregate::UserRecord| {
            let id = record.tags.iter().find(|tag| tag.key == ID_TAG).and_then(|tag| tag.value.as_deref());
            let index = id.and_then(|id| id.strip_prefix("09090909090909090909090909090909/3/8/")).unwrap_or("?");
            format!("{}#{index}", String::from_utf8_lossy(&record.data))
        };
        texts.push(format!("{key}:[{}]", aggregate.records.iter().map(record).collect::<Vec<_>>().join(" ")));
    }
    Ok(texts.join(" "))
}

/// One of two records of a call is refused.
fn second_refused() -> Fault {
    let taken = r#"{"SequenceNumber":"1","ShardId":"shardId-000000000000"}"#;
    let refused = r#"{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"slow down"}"#;
    Fault::Answer(200, format!(r#"{{"FailedRecordCount":1,"Records":[{taken},{refused}]}}"#))
}

#[tokio::test]
async fn each_package_is_answered_for() -> Result<()> {
    let plain = connections().await;
    let (through, faults) = faulty(&plain);
    let (packed, raw) = (fresh("packed"), fresh("raw"));
    create_stream(&plain, &packed, 1).await?;
    create_stream(&plain, &raw, 1).await?;
    let outputs = [(&packed, "kpl", OutputFormat::Kpl), (&raw, "raw", OutputFormat::Raw)];
    let outputs: BTreeMap<_, _> = outputs
        .into_iter()
        .map(|(stream, name, format)| (name.to_owned(), OutputStream { stream: stream.clone(), format }))
        .collect();
    let sink = KinesisSink::new(through.kinesis, outputs);
    let publish = |texts: &str| {
        let packages: Vec<Package> = texts.split(' ').map(package).collect();
        let sink = &sink;
        async move { show(&sink.publish(&packages).await) }
    };

    assert_eq!(publish("kpl/a:1+2 raw/b:3+4 nowhere/c:5 raw/d:6 kpl/e:7").await, "++s++");
    assert_eq!(holds(&plain, &packed).await?, "a:[1#0 2#1] e:[7#0]");
    assert_eq!(holds(&plain, &raw).await?, "b:3 d:6 b:4", "the second of a key goes after the first");

    // The server sees neither of two records, of which it is said to have taken the first.
    faults.next("PutRecords", [second_refused()]);
    assert_eq!(publish("kpl/a:8 kpl/b:9").await, "+r");
    // A lane that failed goes no further, the other does: 12 is not sent, 11 is.
    faults.next("PutRecords", [second_refused()]);
    assert_eq!(publish("raw/a:10+11 raw/b:12+13").await, "+r");
    assert_eq!(holds(&plain, &raw).await?, "b:3 d:6 b:4 a:11");

    // A call refused, a reply lost for good, and an answer that does not fit.
    faults.next("PutRecords", [Fault::error(400, "AccessDeniedException")]);
    assert_eq!(publish("kpl/a:14").await, "s");
    faults.next("PutRecords", [Fault::LoseReply, Fault::LoseReply]);
    assert_eq!(publish("kpl/a:15").await, "r");
    faults.next("PutRecords", [Fault::Answer(200, r#"{"FailedRecordCount":0,"Records":[]}"#.into())]);
    assert_eq!(publish("kpl/a:16 kpl/b:17").await, "rr");
    faults.assert_played();
    Ok(())
}

#[tokio::test]
async fn calls_keep_the_bounds_of_kinesis() -> Result<()> {
    let plain = connections().await;
    let (through, faults) = faulty(&plain);
    let stream = fresh("stream");
    create_stream(&plain, &stream, 1).await?;
    let output = OutputStream { stream, format: OutputFormat::Raw };
    let sink = KinesisSink::new(through.kinesis, [("raw".to_owned(), output)].into());

    // Nine of 0.9 MiB: four a call. One over 1 MiB is refused alone.
    let heavy = |key: usize, bytes: usize| package(&format!("raw/{key}:{}", "x".repeat(bytes)));
    let mut packages: Vec<Package> = (0..9).map(|key| heavy(key, 900 * 1024)).collect();
    packages.insert(4, heavy(100, 1024 * 1024));
    let results = sink.publish(&packages).await;
    assert_eq!(show(&results), "++++s+++++");
    let refused = results[4].as_ref().err().context("too large")?.to_string();
    assert!(refused.contains("output raw") && refused.contains("\"100\""), "{refused}");
    assert_eq!(faults.requests("PutRecords").len(), 3);

    let light: Vec<Package> = (0..501).map(|key| package(&format!("raw/{key}:x"))).collect();
    assert_eq!(show(&sink.publish(&light).await), "+".repeat(501));
    let calls = faults.requests("PutRecords").split_off(3);
    let sizes: Vec<usize> = calls.iter().map(|body| body.matches("PartitionKey").count()).collect();
    assert_eq!(sizes, [500, 1]);
    Ok(())
}
