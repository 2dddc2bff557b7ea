//! The changelog on a real table: one author for a number, whatever is lost; trimming; claims; idle positions.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use pelton_aws::{Connections, DynamoChangelog, DynamoTable};
use pelton_core::commit::{CommitKind, StoredCommit};
use pelton_core::id::{CommitId, CommitNumber, Epoch, HostId, Incarnation, ShardId, ShardKey, StreamIndex, TaskId};
use pelton_core::position::{Position, PositionEntry};
use pelton_core::slice::HashRange;
use pelton_core::snapshot::Manifest;
use pelton_engine::ports::{Changelog, IdlePositions, PortError, PutOutcome};

use crate::faults::{Fault, Faults, faulty};
use crate::servers::{connections, table};

const TASK: TaskId = TaskId(17);

pub fn commit(number: u64, kind: CommitKind, author: u8) -> StoredCommit {
    let head = Bytes::from(format!("head of {number} by {author}"));
    StoredCommit { number: CommitNumber(number), id: CommitId([author; 16]), kind, head, parts: Vec::new() }
}

pub fn manifest(at: u64, floor: u64) -> Manifest {
    Manifest {
        id: CommitId([at as u8; 16]),
        at: CommitNumber(at),
        at_id: CommitId([1; 16]),
        at_epoch: Epoch(1),
        last_step_id: CommitId([2; 16]),
        taken_ms: 0,
        floor: CommitNumber(floor),
        parts: 9,
        entries: 1_000,
        state_bytes: 123_456,
    }
}

/// A changelog with faults in between, and the clients without.
pub async fn faulty_changelog() -> Result<(DynamoChangelog, Faults, DynamoTable, Connections)> {
    let plain = connections().await;
    let table = table(&plain).await?;
    let (through, faults) = faulty(&plain);
    let behind = DynamoTable::open(through.dynamodb, table.name()).await?;
    Ok((DynamoChangelog::new(behind, Incarnation([9; 16])), faults, table, plain))
}

#[tokio::test]
async fn a_number_has_one_author_whatever_is_lost() -> Result<()> {
    let (log, faults, ..) = faulty_changelog().await?;
    let put = |number, author| {
        let log = &log;
        async move { log.put(TASK, Epoch(3), &commit(number, CommitKind::Step, author)).await }
    };
    assert!(log.tail(TASK).await?.is_none() && log.read(TASK, CommitNumber(1)).await?.is_none());
    assert_eq!(put(1, 1).await?, PutOutcome::Applied);
    assert_eq!(put(1, 2).await?, PutOutcome::Exists);

    // One lost reply: the SDK's second attempt finds our own commit.
    faults.next("PutItem", [Fault::LoseReply]);
    assert_eq!(put(2, 1).await?, PutOutcome::Exists);
    // Two: nobody knows, until it is put again and read.
    faults.next("PutItem", [Fault::LoseReply, Fault::LoseReply]);
    assert!(matches!(put(3, 1).await, Err(PortError::Retry(_))));
    assert_eq!(put(3, 1).await?, PutOutcome::Exists);
    assert_eq!(log.read(TASK, CommitNumber(3)).await?.context("it is there")?.id, CommitId([1; 16]));

    let tail = log.tail(TASK).await?.context("a tail")?;
    assert_eq!((tail.number, tail.is_fence, tail.epoch), (CommitNumber(3), false, Epoch(3)));
    let read = log.read_from(TASK, CommitNumber(2)).await?;
    assert_eq!(read.iter().map(|item| item.number.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(read[0].head, "head of 2 by 1");
    assert!(log.read_from(TASK, CommitNumber(4)).await?.is_empty());
    faults.assert_played();
    Ok(())
}

#[tokio::test]
async fn errors_say_whether_to_try_again() -> Result<()> {
    let (log, faults, table, _) = faulty_changelog().await?;
    for (code, status, attempts, again) in [
        ("ProvisionedThroughputExceededException", 400, 2, true),
        ("RequestLimitExceeded", 400, 2, true),
        ("ThrottlingException", 400, 2, true),
        ("InternalServerError", 500, 2, true),
        ("AccessDeniedException", 400, 1, false),
        ("ResourceNotFoundException", 400, 1, false),
        ("ValidationException", 400, 1, false),
        ("ItemCollectionSizeLimitExceededException", 400, 1, false),
    ] {
        faults.next("PutItem", vec![Fault::error(status, code); attempts]);
        let error = log.put(TASK, Epoch(1), &commit(1, CommitKind::Step, 1)).await.err().context(code)?;
        assert_eq!(matches!(error, PortError::Retry(_)), again, "{code}: {error}");
        let text = error.to_string();
        for named in [table.name(), "log/00000000000000000001", code] {
            assert!(text.contains(named), "{text}");
        }
        faults.assert_played();
    }
    Ok(())
}

#[tokio::test]
async fn trimming_keeps_fences_the_newest_and_all_above_the_floor() -> Result<()> {
    let (log, faults, ..) = faulty_changelog().await?;
    for (number, kind) in [(1, CommitKind::Fence), (6, CommitKind::Fence)] {
        log.put(TASK, Epoch(1), &commit(number, kind, 1)).await?;
    }
    for number in [2, 3, 4, 5, 7] {
        log.put(TASK, Epoch(1), &commit(number, CommitKind::Step, 1)).await?;
    }
    let id = CommitId([3; 16]);
    for number in [3, 5, 7] {
        for index in 0..9 {
            let part = Bytes::from(format!("{number}.{index}"));
            log.put_part(TASK, CommitNumber(number), id, index, part).await?;
        }
    }
    log.put_manifest(TASK, &manifest(3, 3)).await?;
    log.put_manifest(TASK, &manifest(5, 5)).await?;

    let holds = || async {
        let items = log.read_from(TASK, CommitNumber(0)).await?;
        let numbers = items.iter().map(|item| item.number.0.to_string()).collect::<Vec<_>>().join(" ");
        let mut parts = Vec::new();
        for number in [3, 5, 7] {
            let mut left = 0;
            for index in 0..9 {
                let part = log.read_part(TASK, CommitNumber(number), id, index).await?;
                assert!(part.as_ref().is_none_or(|part| *part == format!("{number}.{index}")));
                left += part.iter().len();
            }
            parts.push(left);
        }
        let floors: Vec<u64> = log.manifests(TASK).await?.iter().map(|manifest| manifest.floor.0).collect();
        Ok::<_, anyhow::Error>(format!("{numbers}, parts {parts:?}, floors {floors:?}"))
    };
    assert_eq!(holds().await?, "1 2 3 4 5 6 7, parts [9, 9, 9], floors [3, 5]");
    // What is left undone is asked for again.
    faults.next("BatchWriteItem", [Fault::Undone, Fault::Undone]);
    log.trim(TASK, CommitNumber(5)).await?;
    faults.assert_played();
    assert_eq!(holds().await?, "1 5 6 7, parts [0, 9, 9], floors [5]");

    let deletes = faults.requests("BatchWriteItem").len();
    log.trim(TASK, CommitNumber(5)).await?;
    log.trim(TaskId(18), CommitNumber(5)).await?;
    assert_eq!(faults.requests("BatchWriteItem").len(), deletes, "nothing is left to delete");

    log.trim(TASK, CommitNumber(100)).await?;
    assert_eq!(holds().await?, "1 6 7, parts [0, 0, 9], floors []", "the newest stays, with its parts");
    Ok(())
}

#[tokio::test]
async fn each_claim_has_a_greater_epoch() -> Result<()> {
    let (log, faults, ..) = faulty_changelog().await?;
    assert_eq!(log.claim(TASK, HostId([1; 16])).await?, Epoch(1));
    faults.next("UpdateItem", [Fault::LoseReply]);
    assert_eq!(log.claim(TASK, HostId([2; 16])).await?, Epoch(3), "the one whose reply was lost counts too");
    assert_eq!(log.claim(TaskId(18), HostId([2; 16])).await?, Epoch(1));
    faults.assert_played();
    Ok(())
}

pub fn idle(task: u16, shards: usize) -> IdlePositions {
    let shard =
        |index| ShardKey { stream: StreamIndex(0), shard: ShardId::from(format!("shardId-{index:012}").as_str()) };
    let entry = PositionEntry { position: Position::AtTimestamp(77), unread_from_ms: 77, range: HashRange::ALL };
    let entries = (0..shards).map(|index| (shard(index), entry)).collect();
    IdlePositions { task: TaskId(task), step_id: CommitId([task as u8; 16]), entries }
}

#[tokio::test]
async fn idle_positions_are_split_and_replaced() -> Result<()> {
    let (log, faults, ..) = faulty_changelog().await?;
    let (host, other) = (HostId([1; 16]), HostId([2; 16]));
    let few = vec![idle(7, 1)];
    // One task whose positions alone are more than an item takes, and many others.
    let many: Vec<_> = [idle(0, 6_000)].into_iter().chain((10..150).map(|task| idle(task, 40))).collect();
    log.put_idle(other, &few).await?;
    log.put_idle(host, &many).await?;
    let puts = faults.requests("PutItem");
    assert!(puts.len() > 2, "{} items", puts.len());
    // Base64 makes a third more of the data.
    assert!(puts.iter().all(|body| body.len() < 300_000 * 4 / 3 + 1_000));

    let mut found = log.idle().await?;
    found.sort_by_key(|idle| idle.task);
    let expected: Vec<_> = few.iter().chain(&many[1..]).cloned().collect();
    assert_eq!(found, expected, "each task's positions are kept whole, or not at all");
    log.put_idle(host, &[idle(3, 2)]).await?;
    assert_eq!(log.idle().await?, [idle(3, 2), idle(7, 1)], "surplus items are deleted, the other host's are not");
    log.put_idle(host, &[]).await?;
    let [left] = &log.idle().await?[..] else { bail!("one host is left") };
    assert_eq!(*left, idle(7, 1));
    Ok(())
}
