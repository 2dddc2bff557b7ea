//! Every request of every port, throttled: one that is served at the second attempt is as if nothing had been, one that is not
//! is told as passing, and never as final or as an answer.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use pelton_aws::{DynamoTable, KinesisSink, OutputFormat, OutputStream};
use pelton_core::commit::CommitKind;
use pelton_core::id::{CommitId, CommitNumber, Epoch, HostId, TaskId};
use pelton_core::position::Position;
use pelton_engine::ports::{Changelog, PortError, Sink, Source, SourceError};

use crate::changelog::{commit, faulty_changelog, idle, manifest};
use crate::faults::{Fault, faulty};
use crate::jobs::{open, request};
use crate::servers::{connections, create_stream, fresh, table};
use crate::sink::{holds, package, show};
use crate::source::{shard, source};

const TASK: TaskId = TaskId(8);
const ID: CommitId = CommitId([5; 16]);
const HOST: HostId = HostId([1; 16]);

/// What a call comes to, but for what changes with each.
async fn ask(log: &impl Changelog, call: &str) -> Result<String, PortError> {
    Ok(match call {
        "claim" => log.claim(TASK, HOST).await.map(|_| "claimed".to_owned())?,
        "tail" => format!("{:?}", log.tail(TASK).await?),
        "read" => format!("{:?}", log.read(TASK, CommitNumber(2)).await?),
        "read from" => format!("{:?}", log.read_from(TASK, CommitNumber(1)).await?),
        "put part" => format!("{:?}", log.put_part(TASK, CommitNumber(2), ID, 0, Bytes::from("part")).await?),
        "read part" => format!("{:?}", log.read_part(TASK, CommitNumber(2), ID, 0).await?),
        "manifests" => format!("{:?}", log.manifests(TASK).await?),
        "put manifest" => format!("{:?}", log.put_manifest(TASK, &manifest(2, 1)).await?),
        "trim" => format!("{:?}", log.trim(TASK, CommitNumber(1)).await?),
        "put idle" => format!("{:?}", log.put_idle(HOST, &[idle(3, 2)]).await?),
        "idle" => format!("{:?}", log.idle().await?),
        "forget idle" => format!("{:?}", log.forget_idle_of_others(HOST).await?),
        other => panic!("{other} is no call"),
    })
}

#[tokio::test]
async fn calls_of_the_changelog_wait_for_their_turn() -> Result<()> {
    let (log, faults, ..) = faulty_changelog().await?;
    for number in 1..=2 {
        log.put(TASK, Epoch(1), &commit(number, CommitKind::Step, 1)).await?;
    }
    for (call, operation) in [
        ("claim", "UpdateItem"),
        ("put part", "PutItem"),
        ("put manifest", "PutItem"),
        ("put idle", "PutItem"),
        ("put idle", "Query"),
        ("tail", "Query"),
        ("read", "GetItem"),
        ("read from", "Query"),
        ("read part", "GetItem"),
        ("manifests", "Query"),
        ("idle", "Query"),
        ("forget idle", "Query"),
        ("trim", "Query"),
    ] {
        let served = ask(&log, call).await.with_context(|| call.to_owned())?;
        faults.next(operation, [Fault::throttled()]);
        assert_eq!(ask(&log, call).await.ok().as_ref(), Some(&served), "{call}");
        faults.next(operation, [Fault::throttled(), Fault::throttled()]);
        let error = ask(&log, call).await.err().with_context(|| format!("{call} was not served"))?;
        assert!(matches!(&error, PortError::Retry(text) if text.contains("Provisioned")), "{call}: {error}");
        faults.assert_played();
        assert_eq!(ask(&log, call).await.ok(), Some(served), "{call}");
    }
    // Deletes, of which there must be some.
    faults.next("BatchWriteItem", [Fault::throttled(), Fault::throttled()]);
    assert!(matches!(log.trim(TASK, CommitNumber(2)).await, Err(PortError::Retry(_))));
    log.trim(TASK, CommitNumber(2)).await?;
    assert_eq!(log.read_from(TASK, CommitNumber(0)).await?.len(), 1);
    faults.assert_played();
    Ok(())
}

#[tokio::test]
async fn shards_that_are_read_or_listed_too_often_are_neither_gone_nor_at_their_end() -> Result<()> {
    let (source, faults, _) = source().await?;
    for code in ["ProvisionedThroughputExceededException", "LimitExceededException"] {
        let twice = || [Fault::error(400, code), Fault::error(400, code)];
        faults.next("GetShardIterator", twice());
        let iterator = source.iterator(&shard(0), Position::TrimHorizon).await;
        assert!(matches!(iterator, Err(SourceError::Throttled)), "{code}: {iterator:?}");
        let iterator = source.iterator(&shard(0), Position::TrimHorizon).await?;
        faults.next("GetRecords", twice());
        let records = source.records(&shard(0), &iterator, 10).await;
        assert!(matches!(records, Err(SourceError::Throttled)), "{code}: {records:?}");
        assert_eq!(source.records(&shard(0), &iterator, 10).await?.records.len(), 5);
        faults.next("ListShards", twice());
        let listed = source.list_shards(shard(0).stream).await;
        assert!(matches!(listed, Err(SourceError::Port(PortError::Retry(_)))), "{code}: {listed:?}");
        assert_eq!(source.list_shards(shard(0).stream).await?.len(), 1);
        faults.assert_played();
    }
    Ok(())
}

#[tokio::test]
async fn outputs_that_are_too_many_are_sent_again_and_none_overtakes() -> Result<()> {
    let plain = connections().await;
    let (through, faults) = faulty(&plain);
    let stream = fresh("stream");
    create_stream(&plain, &stream, 1).await?;
    let output = OutputStream { stream: stream.clone(), format: OutputFormat::Raw };
    let sink = KinesisSink::new(through.kinesis, [("raw".to_owned(), output)].into());
    let packages = [package("raw/a:1+2"), package("raw/b:3")];
    faults.next("PutRecords", [Fault::throttled(), Fault::throttled()]);
    assert_eq!(show(&sink.publish(&packages).await), "rr");
    assert_eq!(holds(&plain, &stream).await?, "", "what is behind a record that was refused is not sent");
    faults.next("PutRecords", [Fault::throttled()]);
    assert_eq!(show(&sink.publish(&packages).await), "++");
    assert_eq!(holds(&plain, &stream).await?, "a:1 b:3 a:2");
    faults.assert_played();
    Ok(())
}

#[tokio::test]
async fn a_host_starts_though_the_services_are_busy() -> Result<()> {
    let plain = connections().await;
    let table = table(&plain).await?;
    let stream = fresh("stream");
    create_stream(&plain, &stream, 2).await?;
    let (through, faults) = faulty(&plain);
    let busy = |operation: &str| faults.next(operation, vec![Fault::throttled(); 4]);
    busy("DescribeTable");
    let behind = DynamoTable::open(through.dynamodb.clone(), table.name()).await?;
    assert_eq!(behind.id(), table.id());
    ["DescribeStreamSummary", "ListShards", "GetItem", "PutItem"].into_iter().for_each(busy);
    let opened = open(&through, &behind, &request(&[&stream])).await?;
    assert!(opened.created && opened.meta.inputs[0].listed.len() == 2);
    // A table that is being made.
    ["DescribeTable", "CreateTable"].into_iter().for_each(busy);
    DynamoTable::open(through.dynamodb.clone(), &fresh("table")).await?;
    faults.assert_played();
    Ok(())
}
