//! Replies that are lost, come too late, or belong to a request that was given up and is served afterwards: what the caller
//! is told leaves open what it cannot know, and what stands is what a rule would have stand.

use anyhow::{Context as _, Result, ensure};
use pelton_aws::{DynamoChangelog, DynamoTable, KinesisSink, OutputFormat, OutputStream};
use pelton_core::commit::CommitKind;
use pelton_core::id::{CommitId, CommitNumber, Epoch, HostId, Incarnation, TaskId};
use pelton_core::position::Position;
use pelton_engine::ports::{Changelog, PortError, PutOutcome, Sink, Source, SourceError};

use crate::changelog::{commit, faulty_changelog};
use crate::faults::{Fault, faulty, impatient};
use crate::servers::{connections, create_stream, fresh, table};
use crate::sink::{holds, package, show};
use crate::source::{shard, source};

const TASK: TaskId = TaskId(5);

/// What a put comes to: applied, exists, or nobody knows.
async fn put(log: &DynamoChangelog, number: u64, author: u8) -> Result<&'static str> {
    Ok(match log.put(TASK, Epoch(1), &commit(number, CommitKind::Step, author)).await {
        Ok(PutOutcome::Applied) => "applied",
        Ok(PutOutcome::Exists) => "exists",
        Err(PortError::Retry(_)) => "unknown",
        Err(PortError::Stop(text)) => anyhow::bail!("a put that may have been applied is said to have failed: {text}"),
    })
}

/// Whose commit stands at a number: 0 where none does.
async fn author(log: &DynamoChangelog, number: u64) -> Result<u8> {
    let item = log.read(TASK, CommitNumber(number)).await?;
    Ok(item.map_or(0, |item| item.id.0[0]))
}

#[tokio::test]
async fn a_put_that_arrives_after_it_was_given_up_takes_no_number_that_is_taken() -> Result<()> {
    let (log, faults, ..) = faulty_changelog().await?;
    // Both attempts are under way when another owner takes the number.
    faults.next("PutItem", [Fault::Held, Fault::Held]);
    ensure!((put(&log, 1, 1).await?, author(&log, 1).await?) == ("unknown", 0));
    ensure!(put(&log, 1, 2).await? == "applied");
    faults.release().await;
    ensure!(author(&log, 1).await? == 2, "a commit that was acknowledged is overwritten");

    // The second attempt is there before the first.
    faults.next("PutItem", [Fault::Held]);
    ensure!(put(&log, 2, 1).await? == "applied");
    faults.release().await;
    ensure!(author(&log, 2).await? == 1);

    // It arrives in the end, after it was asked what stands there.
    faults.next("PutItem", [Fault::Held, Fault::Held]);
    ensure!((put(&log, 3, 1).await?, author(&log, 3).await?) == ("unknown", 0));
    faults.release().await;
    ensure!((put(&log, 3, 1).await?, author(&log, 3).await?) == ("exists", 1));
    faults.assert_played();
    Ok(())
}

#[tokio::test]
async fn a_claim_without_an_answer_may_count_and_the_next_one_is_greater() -> Result<()> {
    let (log, faults, ..) = faulty_changelog().await?;
    let claim = |host| log.claim(TASK, HostId([host; 16]));
    let before = claim(1).await?;
    faults.next("UpdateItem", [Fault::LoseReply, Fault::LoseReply]);
    assert!(matches!(claim(2).await, Err(PortError::Retry(_))));
    let after = claim(2).await?;
    assert!(after > Epoch(before.0 + 2), "both attempts may have been told to nobody, and {after} was");
    // A claim that comes after another host's takes nothing from it: epochs only ever rise.
    faults.next("UpdateItem", [Fault::Held, Fault::Held]);
    assert!(claim(1).await.is_err());
    let other = claim(3).await?;
    faults.release().await;
    assert!(other > after && claim(3).await? > Epoch(other.0 + 2));
    faults.assert_played();
    Ok(())
}

#[tokio::test]
async fn an_output_without_an_answer_is_sent_again_under_its_id() -> Result<()> {
    let plain = connections().await;
    let (through, faults) = faulty(&plain);
    let stream = fresh("stream");
    create_stream(&plain, &stream, 1).await?;
    let output = OutputStream { stream: stream.clone(), format: OutputFormat::Kpl };
    let sink = KinesisSink::new(through.kinesis, [("kpl".to_owned(), output)].into());
    let publish = async |text: &str| show(&sink.publish(&[package(text)]).await);
    faults.next("PutRecords", [Fault::LoseReply, Fault::LoseReply]);
    assert_eq!(publish("kpl/a:1").await, "r", "nobody knows whether it was put");
    assert_eq!(holds(&plain, &stream).await?, "a:[1#0] a:[1#0]");
    assert_eq!(publish("kpl/a:1").await, "+");
    assert_eq!(holds(&plain, &stream).await?, "a:[1#0] a:[1#0] a:[1#0]");
    faults.assert_played();
    Ok(())
}

#[tokio::test]
async fn a_reply_that_is_too_slow_is_no_answer() -> Result<()> {
    let plain = connections().await;
    let table = table(&plain).await?;
    let (through, faults) = faulty(&plain);
    let through = impatient(&through);
    let behind = DynamoTable::open(through.dynamodb.clone(), table.name()).await?;
    let log = DynamoChangelog::new(behind, Incarnation([9; 16]));
    let stream = fresh("stream");
    create_stream(&plain, &stream, 1).await?;
    let output = OutputStream { stream: stream.clone(), format: OutputFormat::Raw };
    let sink = KinesisSink::new(through.kinesis.clone(), [("raw".to_owned(), output)].into());

    for operation in ["PutItem", "UpdateItem", "PutRecords"] {
        faults.next(operation, [Fault::SlowReply, Fault::SlowReply]);
    }
    let package = [package("raw/a:1")];
    let claim = log.claim(TASK, HostId([1; 16]));
    let (put_once, claimed, sent) = tokio::join!(put(&log, 1, 1), claim, sink.publish(&package));
    assert_eq!(put_once?, "unknown");
    assert!(matches!(claimed, Err(PortError::Retry(_))), "{claimed:?}");
    assert_eq!(show(&sent), "r");
    faults.assert_played();
    // All of it was done.
    assert_eq!((put(&log, 1, 1).await?, author(&log, 1).await?), ("exists", 1));
    assert_eq!(log.claim(TASK, HostId([1; 16])).await?, Epoch(3));
    assert_eq!(holds(&plain, &stream).await?, "a:1 a:1");
    let tail = log.tail(TASK).await?.context("a tail")?;
    assert_eq!(tail.id, CommitId([1; 16]));
    Ok(())
}

#[tokio::test]
async fn records_whose_reply_was_lost_are_read_again() -> Result<()> {
    let (source, faults, _) = source().await?;
    faults.next("GetShardIterator", [Fault::LoseReply, Fault::LoseReply]);
    let error = source.iterator(&shard(0), Position::TrimHorizon).await.err().context("no iterator came")?;
    assert!(matches!(error, SourceError::Port(PortError::Retry(_))), "{error}");
    let iterator = source.iterator(&shard(0), Position::TrimHorizon).await?;
    faults.next("GetRecords", [Fault::Held, Fault::Held]);
    let error = source.records(&shard(0), &iterator, 10).await.err().context("no records came")?;
    assert!(matches!(error, SourceError::Port(PortError::Retry(_))), "{error}");
    faults.release().await;
    assert_eq!(source.records(&shard(0), &iterator, 10).await?.records.len(), 5, "an iterator serves twice");
    faults.next("ListShards", [Fault::LoseReply, Fault::LoseReply]);
    assert!(
        source.list_shards(shard(0).stream).await.is_err(),
        "a listing without an answer is not one without shards"
    );
    faults.assert_played();
    Ok(())
}
