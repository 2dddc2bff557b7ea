//! What trimming deletes: the log below the floor but its fences, the snapshots a newer one has replaced, and parts of
//! either. Asked for again it finishes what was begun; with nothing to do it costs a few empty queries.

use futures::future::try_join_all;
use pelton_core::id::{CommitNumber, Incarnation, TaskId};
use pelton_engine::ports::PortError;

use crate::item::Item;
use crate::items::Query;
use crate::layout::{self, LAST, LOG, PART_SPREAD, SNAPSHOT};
use crate::manifest;
use crate::mutant::{Mutant, wrong};
use crate::table::DynamoTable;

/// Deletes what is below the floor, and never the newest item of the log nor anything of it.
pub(crate) async fn trim(
    table: &DynamoTable,
    incarnation: Incarnation,
    task: TaskId,
    floor: CommitNumber,
) -> Result<(), PortError> {
    let pk = layout::task(incarnation, task);
    let Some(newest) = newest(table, &pk).await? else { return Ok(()) };
    // The tail tells a claimer where to put its fence: without it, numbers would be used a second time.
    let floor = if wrong(Mutant::NewestTrimmed) { floor } else { floor.min(newest) };
    let Some(last) = floor.0.checked_sub(1).map(CommitNumber) else { return Ok(()) };

    let (from, to) = (layout::log(CommitNumber(0)), layout::log(last));
    // What a replica has not heard of yet is found by the next trim.
    let log = Query::rising(&pk, &from, &to).only("pk, sk, kind").stale();
    let doomed = |mut item: Item| Ok(item.number("kind")? != layout::KIND_FENCE || wrong(Mutant::FencesTrimmed));
    delete(table, &pk, log, doomed).await?;
    let to = layout::parts_below(floor);
    let spread = (0..PART_SPREAD).map(|index| {
        let to = &to;
        async move {
            let pk = layout::parts(incarnation, task, index);
            delete(table, &pk, Query::rising(&pk, "0", to).only("pk, sk").stale(), |_| Ok(true)).await
        }
    });
    let (manifests, parts) = (trim_manifests(table, &pk, floor), try_join_all(spread));
    if wrong(Mutant::PartsBeforeManifests) {
        parts.await?;
        return manifests.await;
    }
    // A manifest goes before any part of its snapshot, so that each that stands is whole.
    manifests.await?;
    parts.await.map(drop)
}

async fn trim_manifests(table: &DynamoTable, pk: &str, floor: CommitNumber) -> Result<(), PortError> {
    let to = format!("{SNAPSHOT}{LAST}");
    delete(table, pk, Query::rising(pk, SNAPSHOT, &to), |item| Ok(manifest::of_item(item)?.at < floor)).await
}

/// The number of the newest item of a log.
async fn newest(table: &DynamoTable, pk: &str) -> Result<Option<CommitNumber>, PortError> {
    let to = format!("{LOG}{LAST}");
    let page = table.query(Query::last(pk, LOG, &to).only("pk, sk"), None).await?;
    page.items.first().map(Item::log_number).transpose()
}

/// Deletes those items of a query that a test picks, page by page.
async fn delete(
    table: &DynamoTable,
    pk: &str,
    query: Query<'_>,
    doomed: impl Fn(Item) -> Result<bool, PortError>,
) -> Result<(), PortError> {
    let mut next = None;
    loop {
        let page = table.query(query, next).await?;
        let mut sks = Vec::new();
        for item in page.items {
            let sk = item.sk.clone();
            if doomed(item)? {
                sks.push(sk);
            }
        }
        table.delete(pk, &sks).await?;
        next = page.next;
        if next.is_none() {
            return Ok(());
        }
    }
}
