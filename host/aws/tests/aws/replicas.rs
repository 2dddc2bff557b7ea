//! A replica of the table that fell behind: whoever asks for no consistency reads an old answer. Everything that decides
//! something asks for it; what does not, finds later what it missed.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use pelton_aws::{DynamoChangelog, DynamoComponents, DynamoTable};
use pelton_core::commit::CommitKind;
use pelton_core::id::{CommitId, CommitNumber, Epoch, HostId, Incarnation, TaskId};
use pelton_engine::digest_of;
use pelton_engine::ports::{Changelog, Collected, ComponentStore};

use crate::changelog::{commit, idle, manifest};
use crate::faults::{Faults, faulty};
use crate::jobs::{open, request};
use crate::servers::{connections, create_stream, fresh, table};

const TASK: TaskId = TaskId(6);
const ID: CommitId = CommitId([5; 16]);

/// From now on replicas know what the table holds now, and nothing later.
async fn fall_behind(faults: &Faults, client: &aws_sdk_dynamodb::Client, table: &DynamoTable) -> Result<()> {
    let replica = DynamoTable::open(client.clone(), &fresh("replica")).await?;
    let known = client.scan().table_name(table.name()).consistent_read(true).send().await?;
    ensure!(known.last_evaluated_key.is_none(), "one page is enough");
    for item in known.items.unwrap_or_default() {
        client.put_item().table_name(replica.name()).set_item(Some(item)).send().await?;
    }
    faults.lag(table.name(), replica.name());
    Ok(())
}

async fn fill(log: &DynamoChangelog, numbers: std::ops::RangeInclusive<u64>) -> Result<()> {
    for number in numbers {
        log.put(TASK, Epoch(1), &commit(number, CommitKind::Step, 1)).await?;
        log.put_part(TASK, CommitNumber(number), ID, 0, Bytes::from("part")).await?;
        log.put_manifest(TASK, &manifest(number, number)).await?;
    }
    Ok(())
}

async fn numbers(log: &DynamoChangelog) -> Result<Vec<u64>> {
    Ok(log.read_from(TASK, CommitNumber(0)).await?.iter().map(|item| item.number.0).collect())
}

#[tokio::test]
async fn what_decides_is_never_read_from_a_replica() -> Result<()> {
    let plain = connections().await;
    let (table, stream) = (table(&plain).await?, fresh("stream"));
    create_stream(&plain, &stream, 1).await?;
    let (through, faults) = faulty(&plain);
    let behind = DynamoTable::open(through.dynamodb.clone(), table.name()).await?;
    let log = DynamoChangelog::new(behind.clone(), Incarnation([9; 16]));
    let components = DynamoComponents::new(behind.clone(), plain.clock.clone());
    let (host, other) = (HostId([1; 16]), HostId([2; 16]));
    fill(&log, 1..=2).await?;
    fall_behind(&faults, &plain.dynamodb, &table).await?;
    fill(&log, 3..=4).await?;

    assert_eq!(log.tail(TASK).await?.context("a tail")?.number, CommitNumber(4), "the newest commit");
    assert!(log.read(TASK, CommitNumber(4)).await?.is_some(), "whose commit took a number");
    assert_eq!(numbers(&log).await?, [1, 2, 3, 4], "what is restored");
    assert!(log.read_part(TASK, CommitNumber(4), ID, 0).await?.is_some(), "a part of it");
    assert_eq!(log.manifests(TASK).await?.len(), 4, "the newest snapshot");

    // More chunks than one, whose surplus must be seen to be deleted; and another host's.
    let many: Vec<_> = (0..150).map(|task| idle(task, 40)).collect();
    log.put_idle(host, &many).await?;
    log.put_idle(other, &[idle(200, 1)]).await?;
    assert_eq!(log.idle().await?.len(), 151, "how far idle tasks were");
    log.put_idle(host, &[idle(3, 1)]).await?;
    log.forget_idle_of_others(host).await?;
    assert_eq!(log.idle().await?, [idle(3, 1)]);

    let bytes = Bytes::from("a component");
    components.put(digest_of(&bytes), bytes.clone()).await?;
    assert_eq!(components.get(digest_of(&bytes)).await?, Some(bytes));
    assert_eq!(components.list().await?.len(), 1);
    assert!(components.keep(digest_of(b"a component"), Incarnation([9; 16])).await?, "that it is there");
    assert_eq!(components.uses(digest_of(b"a component")).await?.len(), 1);
    assert_eq!(components.collect(digest_of(b"a component"), 0).await?, Collected::Kept, "that it is used");
    let wanted = request(&[&stream]);
    let created = open(&through, &behind, &wanted).await?;
    let found = open(&through, &behind, &wanted).await?;
    assert!(created.created && !found.created && created.meta == found.meta);

    let stale: Vec<_> = faults.reads().into_iter().filter(|(_, is_consistent)| !is_consistent).collect();
    assert!(stale.is_empty(), "{stale:?}");
    Ok(())
}

#[tokio::test]
async fn a_trim_that_reads_from_a_replica_is_finished_by_the_next() -> Result<()> {
    let plain = connections().await;
    let table = table(&plain).await?;
    let (through, faults) = faulty(&plain);
    let behind = DynamoTable::open(through.dynamodb, table.name()).await?;
    let log = DynamoChangelog::new(behind, Incarnation([9; 16]));
    fill(&log, 1..=2).await?;
    fall_behind(&faults, &plain.dynamodb, &table).await?;
    fill(&log, 3..=5).await?;

    // Whatever it does not know of, the newest commit and the manifests are asked of the table.
    log.trim(TASK, CommitNumber(9)).await?;
    assert_eq!(numbers(&log).await?, [3, 4, 5]);
    assert_eq!(log.manifests(TASK).await?.iter().map(|manifest| manifest.at.0).collect::<Vec<_>>(), [5]);
    // The same old answer again: deleting what is gone does nothing.
    log.trim(TASK, CommitNumber(9)).await?;
    assert_eq!(numbers(&log).await?, [3, 4, 5]);
    faults.catch_up();
    log.trim(TASK, CommitNumber(9)).await?;
    assert_eq!(numbers(&log).await?, [5]);
    for number in 1..=4 {
        assert_eq!(log.read_part(TASK, CommitNumber(number), ID, 0).await?, None, "{number}");
    }
    assert!(log.read_part(TASK, CommitNumber(5), ID, 0).await?.is_some());
    // Only what is deleted by keys that never come again is read so.
    let stale = faults.reads().into_iter().filter(|(_, is_consistent)| !is_consistent);
    for (read, _) in stale {
        assert!(read.contains("pk, sk") && (read.contains("log/") || read.contains("/part/")), "{read}");
    }
    Ok(())
}
