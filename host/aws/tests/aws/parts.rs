//! Answers that are a part of the whole: pages, and batches of which some is left undone. What a port says is always the
//! whole, or an error; and a trim that is cut short anywhere leaves nothing that is said to be whole and is not.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use pelton_aws::{DynamoChangelog, DynamoComponents, DynamoTable};
use pelton_core::commit::CommitKind;
use pelton_core::id::{CommitId, CommitNumber, Epoch, HostId, TaskId};
use pelton_core::snapshot::Manifest;
use pelton_engine::digest_of;
use pelton_engine::ports::{Changelog, ComponentStore, PortError, Source, SourceError};
use serde_json::{Value, json};

use crate::changelog::{commit, faulty_changelog, idle, manifest};
use crate::faults::{Fault, faulty};
use crate::source::{shard, source};

const TASK: TaskId = TaskId(2);

/// Commits 1 to `newest`, and a snapshot of nine parts at each of these.
async fn fill(log: &DynamoChangelog, newest: u64, snapshots: &[u64]) -> Result<()> {
    for number in 1..=newest {
        log.put(TASK, Epoch(1), &commit(number, CommitKind::Step, 1)).await?;
    }
    for at in snapshots {
        for index in 0..9 {
            log.put_part(TASK, CommitNumber(*at), CommitId([*at as u8; 16]), index, Bytes::from("part")).await?;
        }
        log.put_manifest(TASK, &manifest(*at, *at)).await?;
    }
    Ok(())
}

async fn numbers(log: &DynamoChangelog) -> Result<Vec<u64>> {
    let (mut numbers, mut from) = (Vec::new(), 0);
    loop {
        let page = log.read_from(TASK, CommitNumber(from)).await?;
        let Some(last) = page.last() else { return Ok(numbers) };
        from = last.number.0 + 1;
        numbers.extend(page.iter().map(|item| item.number.0));
    }
}

/// How many parts of a snapshot are there.
async fn parts(log: &DynamoChangelog, manifest: &Manifest) -> Result<u32> {
    let mut there = 0;
    for index in 0..manifest.parts {
        there += u32::from(log.read_part(TASK, manifest.at, manifest.id, index).await?.is_some());
    }
    Ok(there)
}

#[tokio::test]
async fn what_comes_in_pages_is_whole() -> Result<()> {
    let (log, faults, table, plain) = faulty_changelog().await?;
    let snapshots = [2, 3, 5, 7, 11];
    fill(&log, 12, &snapshots).await?;
    for host in 1..=3 {
        log.put_idle(HostId([host; 16]), &[idle(host.into(), 1)]).await?;
    }
    let (through, again) = faulty(&plain);
    let components =
        DynamoComponents::new(DynamoTable::open(through.dynamodb, table.name()).await?, plain.clock.clone());
    for bytes in ["one", "two", "three"] {
        components.put(digest_of(bytes.as_bytes()), Bytes::from(bytes)).await?;
    }

    faults.page(2);
    again.page(2);
    let found: Vec<u64> = log.manifests(TASK).await?.iter().map(|manifest| manifest.at.0).collect();
    assert_eq!(found, snapshots);
    assert_eq!(log.read_from(TASK, CommitNumber(4)).await?.len(), 2, "a page at a time");
    assert_eq!(numbers(&log).await?, Vec::from_iter(1..=12));
    assert_eq!(log.tail(TASK).await?.context("a tail")?.number, CommitNumber(12));
    assert_eq!(log.idle().await?.len(), 3);
    assert_eq!(components.list().await?.len(), 3);

    log.trim(TASK, CommitNumber(11)).await?;
    assert_eq!(numbers(&log).await?, [11, 12]);
    let [left] = &log.manifests(TASK).await?[..] else { bail!("one snapshot is left") };
    assert_eq!((left.at.0, parts(&log, left).await?), (11, 9));
    for at in &snapshots[..4] {
        assert_eq!(parts(&log, &manifest(*at, *at)).await?, 0, "parts of {at}");
    }
    log.forget_idle_of_others(HostId([2; 16])).await?;
    assert_eq!(log.idle().await?, [idle(2, 1)]);
    Ok(())
}

#[tokio::test]
async fn what_a_batch_leaves_undone_is_asked_for_again_and_nothing_else() -> Result<()> {
    let (log, faults, ..) = faulty_changelog().await?;
    fill(&log, 9, &[]).await?;
    faults.next("BatchWriteItem", [Fault::HalfDone, Fault::HalfDone, Fault::LoseReply]);
    log.trim(TASK, CommitNumber(9)).await?;
    assert_eq!(numbers(&log).await?, [9]);
    let asked = faults.requests("BatchWriteItem");
    let deletes: Vec<usize> = asked.iter().map(|body| body.matches("DeleteRequest").count()).collect();
    // The SDK asks a second time for what it got no answer to.
    assert_eq!(deletes, [8, 4, 2, 2]);
    faults.assert_played();

    // One that is never done is told as passing, and can be finished later.
    fill(&log, 0, &[3]).await?;
    log.put_manifest(TASK, &manifest(9, 9)).await?;
    faults.next("BatchWriteItem", vec![Fault::Undone; 8]);
    let error = log.trim(TASK, CommitNumber(9)).await.err().context("nothing was done")?;
    assert!(matches!(&error, PortError::Retry(text) if text.contains("left undone")), "{error}");
    faults.assert_played();
    log.trim(TASK, CommitNumber(9)).await?;
    assert_eq!(log.manifests(TASK).await?.len(), 1);
    assert_eq!(parts(&log, &manifest(3, 3)).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_trim_that_is_cut_short_leaves_no_snapshot_without_its_parts() -> Result<()> {
    let (log, faults, ..) = faulty_changelog().await?;
    let mut cut_short = 0;
    for served in 0.. {
        fill(&log, 9, &[3, 5, 7]).await?;
        let cut = std::iter::repeat_n(Fault::Pass, served).chain(vec![Fault::error(400, "AccessDeniedException"); 20]);
        faults.next("BatchWriteItem", cut);
        let trimmed = log.trim(TASK, CommitNumber(7)).await;
        faults.forget();
        for manifest in log.manifests(TASK).await? {
            assert_eq!(parts(&log, &manifest).await?, 9, "after {served} deletes, at {}", manifest.at);
        }
        log.trim(TASK, CommitNumber(7)).await?;
        assert_eq!(log.manifests(TASK).await?.len(), 1);
        assert_eq!(parts(&log, &manifest(3, 3)).await?, 0, "another trim finishes it");
        if trimmed.is_ok() {
            break;
        }
        cut_short += 1;
    }
    assert!(cut_short > 3, "it was cut short {cut_short} times");
    Ok(())
}

fn listed(index: u32, parent: Option<u32>) -> Value {
    let id = |index: u32| format!("shardId-{index:012}");
    json!({
        "ShardId": id(index), "ParentShardId": parent.map(id),
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
        "SequenceNumberRange": {"StartingSequenceNumber": "1"},
    })
}

#[tokio::test]
async fn a_listing_of_shards_is_whole_or_none() -> Result<()> {
    let (source, faults, stream) = source().await?;
    let page = |shards: &[Value], next: Option<&str>| {
        Fault::Answer(200, json!({"Shards": shards, "NextToken": next}).to_string())
    };
    let first = || page(&[listed(0, None), listed(1, None)], Some("one"));
    faults.next("ListShards", [first(), page(&[], Some("two")), page(&[listed(2, Some(1))], None)]);
    let shards = source.list_shards(shard(0).stream).await?;
    assert_eq!(shards.iter().map(|listed| listed.id.clone()).collect::<Vec<_>>(), [0, 1, 2].map(|at| shard(at).shard));
    assert_eq!(shards[2].parents, [shard(1).shard]);
    faults.assert_played();
    // Kinesis takes a stream, or the token of a page before, and refuses both.
    let asked = faults.requests("ListShards");
    let asked: Vec<(bool, bool)> =
        asked.iter().map(|body| (body.contains(&stream), body.contains("NextToken"))).collect();
    assert_eq!(asked, [(true, false), (false, true), (false, true)]);

    for rest in [
        vec![Fault::throttled(), Fault::throttled()],
        vec![Fault::LoseReply, Fault::LoseReply],
        vec![Fault::error(400, "ExpiredNextTokenException")],
        vec![Fault::error(500, "InternalFailure"), Fault::error(500, "InternalFailure")],
    ] {
        faults.next("ListShards", [vec![first()], rest.clone()].concat());
        let listed = source.list_shards(shard(0).stream).await;
        assert!(matches!(listed, Err(SourceError::Port(PortError::Retry(_)))), "{rest:?}: {listed:?}");
        faults.assert_played();
    }
    Ok(())
}
