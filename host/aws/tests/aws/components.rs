//! Components on a real table: whole or not there, never other bytes than their digest says, and there for as long as a job needs
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use pelton_aws::{Connections, DynamoComponents, DynamoTable};
use pelton_core::id::{Digest, Incarnation};
use pelton_engine::digest_of;
use pelton_engine::ports::{Clock, Collected, ComponentStore, PortError, PutOutcome};

use crate::faults::{Fault, Faults, faulty};
use crate::servers::{connections, table};

const JOB: Incarnation = Incarnation([3; 16]);
/// How long components are kept in these tests.
const DAY_MS: u64 = 86_400_000;

#[tokio::test]
async fn a_component_is_whole_or_not_there() -> Result<()> {
    let plain = connections().await;
    let table = table(&plain).await?;
    let (through, faults) = faulty(&plain);
    let open = DynamoTable::open(through.dynamodb, table.name()).await?;
    let components = DynamoComponents::new(open, plain.clock.clone());
    let bytes = some_bytes();
    let digest = digest_of(&bytes);

    // The last of three pieces is refused: what is there is not a component.
    faults.next("PutItem", [Fault::Pass, Fault::Pass, Fault::error(400, "AccessDeniedException")]);
    assert!(matches!(components.put(digest, bytes.clone()).await, Err(PortError::Stop(_))));
    assert_eq!(components.get(digest).await?, None);
    assert!(components.list().await?.is_empty());

    // Throttling is waited out.
    faults.next("PutItem", vec![Fault::error(400, "ProvisionedThroughputExceededException"); 4]);
    components.put(digest, bytes.clone()).await?;
    faults.assert_played();
    assert_eq!(components.get(digest).await?.as_ref(), Some(&bytes));
    assert_eq!(components.list().await?, [(digest, 1_000_000)]);
    let puts = faults.requests("PutItem").len();
    components.put(digest, bytes.clone()).await?;
    assert_eq!(faults.requests("PutItem").len(), puts + 1, "only the entry of the list is put again");

    assert!(matches!(components.put(digest, Bytes::from("other")).await, Err(PortError::Stop(_))));
    let data = AttributeValue::B(Blob::new(vec![0; 380_000]));
    let damage = plain.dynamodb.put_item().table_name(table.name()).item("data", data);
    let damage = damage.item("pk", AttributeValue::S(format!("component/{digest}")));
    damage.item("sk", AttributeValue::S("chunk/00000001".into())).send().await?;
    let error = components.get(digest).await.err().context("damaged")?;
    assert!(error.to_string().contains("damaged") && error.to_string().contains(&digest.to_string()), "{error}");
    Ok(())
}

/// Three pieces.
fn some_bytes() -> Bytes {
    (0..1_000_000u32).map(|index| (index.wrapping_mul(index) >> 7) as u8).collect()
}

/// A clock that a test sets.
#[derive(Default)]
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A table with one component, pushed at time 1.
struct Shelf {
    plain: Connections,
    table: DynamoTable,
    faults: Faults,
    clock: Arc<SetClock>,
    /// Whose requests meet the faults.
    components: DynamoComponents,
    /// Another host's.
    others: DynamoComponents,
    bytes: Bytes,
    digest: Digest,
}

impl Shelf {
    async fn new() -> Result<Self> {
        let plain = connections().await;
        let table = table(&plain).await?;
        let (through, faults) = faulty(&plain);
        let clock = Arc::new(SetClock::default());
        let open = DynamoTable::open(through.dynamodb, table.name()).await?;
        let components = DynamoComponents::new(open, clock.clone());
        let others = DynamoComponents::new(table.clone(), clock.clone());
        let (bytes, digest) = (some_bytes(), digest_of(&some_bytes()));
        let shelf = Self { plain, table, faults, clock, components, others, bytes, digest };
        shelf.at(1).others.put(shelf.digest, shelf.bytes.clone()).await?;
        Ok(shelf)
    }

    /// From now on it is this time.
    fn at(&self, now_ms: u64) -> &Self {
        self.clock.0.store(now_ms, Ordering::Relaxed);
        self
    }

    async fn collect(&self) -> Result<Collected> {
        Ok(self.components.collect(self.digest, DAY_MS).await?)
    }

    async fn keep(&self) -> Result<bool> {
        Ok(self.others.keep(self.digest, JOB).await?)
    }

    async fn push(&self) -> Result<()> {
        Ok(self.others.put(self.digest, self.bytes.clone()).await?)
    }

    /// Has the job's use end at a time.
    async fn release(&self, until_ms: u64) -> Result<()> {
        let used = self.others.uses(self.digest).await?;
        assert_eq!(self.others.release(self.digest, &used[0], until_ms).await?, PutOutcome::Applied);
        Ok(())
    }

    /// The sort keys of what the table has of the component.
    async fn keys(&self) -> Result<Vec<String>> {
        let pk = AttributeValue::S(format!("component/{}", self.digest));
        let query = self.plain.dynamodb.query().table_name(self.table.name()).consistent_read(true);
        let query = query.key_condition_expression("pk = :pk").expression_attribute_values(":pk", pk);
        let items = query.projection_expression("sk").send().await?.items.unwrap_or_default();
        items.iter().map(|item| Ok(item["sk"].as_s().ok().context("a sort key")?.clone())).collect()
    }

    /// Expects the component to be there whole, and listed.
    async fn is_there(&self) -> Result<()> {
        assert!(self.others.get(self.digest).await?.is_some_and(|bytes| bytes == self.bytes), "it is not there");
        assert_eq!(self.others.list().await?, [(self.digest, 1_000_000)]);
        Ok(())
    }

    /// Expects nothing of it but small items that say so.
    async fn is_gone(&self, left: &[&str]) -> Result<()> {
        assert!(self.others.get(self.digest).await?.is_none(), "it is there");
        assert!(self.others.list().await?.is_empty());
        assert_eq!(self.keys().await?, left);
        assert!(!self.keep().await?, "what is gone is kept for nobody");
        Ok(())
    }
}

#[tokio::test]
async fn what_a_job_needs_or_needed_of_late_is_not_collected() -> Result<()> {
    let shelf = Shelf::new().await?;
    assert_eq!(shelf.at(DAY_MS).collect().await?, Collected::Kept, "it was pushed less than a day ago");
    shelf.push().await?;
    assert_eq!(shelf.at(DAY_MS + 1).collect().await?, Collected::Kept, "and once more");
    assert!(shelf.keep().await?);
    assert_eq!(
        shelf.at(1_000 * DAY_MS).collect().await?,
        Collected::Kept,
        "a job needs it, whose hosts may be stopped"
    );
    shelf.release(1_001 * DAY_MS).await?;
    assert_eq!(shelf.at(1_001 * DAY_MS - 1).collect().await?, Collected::Kept, "it may be gone back to");
    shelf.is_there().await?;
    assert!(shelf.keep().await?);
    shelf.release(1_001 * DAY_MS).await?;
    assert_eq!(shelf.at(1_001 * DAY_MS).collect().await?, Collected::Kept, "it was deployed less than a day ago");
    assert_eq!(shelf.at(1_002 * DAY_MS).collect().await?, Collected::Gone);
    let job = format!("used/{JOB}");
    shelf.is_gone(&["head", &job]).await?;
    assert_eq!(shelf.collect().await?, Collected::Gone);
    shelf.is_gone(&["head", &job]).await
}

#[tokio::test]
async fn a_deletion_that_comes_late_does_nothing() -> Result<()> {
    let shelf = Shelf::new().await?;
    // Nobody uses it, and what says that it is gone is under way for long.
    shelf.faults.next("UpdateItem", [Fault::Held, Fault::error(400, "AccessDeniedException")]);
    assert!(shelf.at(2 * DAY_MS).collect().await.is_err());
    assert!(shelf.keep().await?);
    shelf.faults.release().await;
    shelf.is_there().await?;

    // The same where it is only pushed again.
    shelf.release(1).await?;
    shelf.faults.next("UpdateItem", [Fault::Held, Fault::error(400, "AccessDeniedException")]);
    assert!(shelf.at(4 * DAY_MS).collect().await.is_err());
    shelf.push().await?;
    shelf.faults.release().await;
    shelf.is_there().await?;

    // A reply that is lost changes nothing about it.
    shelf.faults.next("UpdateItem", [Fault::LoseReply]);
    assert_eq!(shelf.at(6 * DAY_MS).collect().await?, Collected::Kept, "as far as it knows");
    assert_eq!(shelf.collect().await?, Collected::Gone);
    shelf.is_gone(&["head", &format!("used/{JOB}")]).await
}

#[tokio::test]
async fn a_deletion_that_is_cut_short_is_finished_and_a_push_revives() -> Result<()> {
    let refused = || Fault::error(400, "AccessDeniedException");
    let shelf = Shelf::new().await?;
    // Before any piece, with two of three deleted, and before the entry of the list.
    shelf.faults.next("BatchWriteItem", [refused(), Fault::HalfDone, refused()]);
    assert!(shelf.at(2 * DAY_MS).collect().await.is_err());
    assert!(shelf.others.get(shelf.digest).await?.is_none(), "it is gone at once");
    assert!(!shelf.keep().await?);
    assert!(shelf.collect().await.is_err());
    assert_eq!(shelf.keys().await?, ["chunk/00000002", "head"]);
    shelf.faults.next("DeleteItem", [refused()]);
    assert!(shelf.collect().await.is_err());
    assert_eq!(shelf.others.list().await?.len(), 1, "by this the next round finds it");
    assert_eq!(shelf.collect().await?, Collected::Gone);
    shelf.is_gone(&["head"]).await?;

    // It is pushed again, and collected, and pushed again while what deletes it is under way.
    for now_ms in [3 * DAY_MS, 5 * DAY_MS] {
        shelf.at(now_ms).push().await?;
        shelf.is_there().await?;
        assert_eq!(shelf.keys().await?.len(), 4, "three pieces and the head");
        shelf.faults.next("BatchWriteItem", [Fault::Held, refused()]);
        assert!(shelf.at(now_ms + DAY_MS).collect().await.is_err());
    }
    shelf.push().await?;
    shelf.faults.release().await;
    shelf.is_there().await?;
    assert_eq!(shelf.keys().await?.len(), 4, "nothing is left of those before");
    assert!(shelf.keep().await?);
    Ok(())
}

#[tokio::test]
async fn a_use_that_was_begun_anew_is_not_ended() -> Result<()> {
    let shelf = Shelf::new().await?;
    assert!(shelf.keep().await?);
    let known = shelf.others.uses(shelf.digest).await?;
    assert_eq!((known.len(), known[0].job, known[0].until_ms), (1, JOB, None));
    assert!(shelf.keep().await?);
    assert_eq!(shelf.others.release(shelf.digest, &known[0], 5).await?, PutOutcome::Exists);
    shelf.release(7).await?;
    assert_eq!(shelf.others.uses(shelf.digest).await?[0].until_ms, Some(7));
    let ended = shelf.others.uses(shelf.digest).await?;
    assert_eq!(shelf.others.release(shelf.digest, &ended[0], 9).await?, PutOutcome::Exists, "it ends once");

    // Another incarnation takes over what is used and no more, and what was before is forgotten.
    let next = Incarnation([4; 16]);
    shelf.others.carry_over(JOB, next).await?;
    assert_eq!(shelf.others.uses(shelf.digest).await?.len(), 1);
    assert!(shelf.keep().await?);
    shelf.others.carry_over(JOB, next).await?;
    shelf.at(9).others.forget(JOB).await?;
    let used = shelf.others.uses(shelf.digest).await?;
    assert_eq!(used.iter().map(|used| (used.job, used.until_ms)).collect::<Vec<_>>(), [(JOB, Some(9)), (next, None)]);
    Ok(())
}

#[tokio::test]
async fn one_of_before_components_were_collected_is_kept_a_day_from_when_it_is_seen() -> Result<()> {
    let shelf = Shelf::new().await?;
    let number = |number: &str| AttributeValue::N(number.to_owned());
    let put = |pk: &str, sk: &str| {
        let put = shelf.plain.dynamodb.put_item().table_name(shelf.table.name()).item("size", number("1000000"));
        put.item("pk", AttributeValue::S(pk.to_owned())).item("sk", AttributeValue::S(sk.to_owned()))
    };
    put(&format!("component/{}", shelf.digest), "head").item("chunks", number("3")).send().await?;
    put("components", &shelf.digest.to_string()).send().await?;
    shelf.is_there().await?;
    assert_eq!(shelf.at(100 * DAY_MS).collect().await?, Collected::Kept);
    shelf.is_there().await?;
    assert_eq!(shelf.at(101 * DAY_MS - 1).collect().await?, Collected::Kept);
    assert_eq!(shelf.at(101 * DAY_MS).collect().await?, Collected::Gone);
    shelf.is_gone(&["head"]).await
}
