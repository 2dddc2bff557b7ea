//! Components on a real table: whole or not there, and never other bytes than their digest says.

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use pelton_aws::{DynamoComponents, DynamoTable};
use pelton_engine::digest_of;
use pelton_engine::ports::{ComponentStore, PortError};

use crate::faults::{Fault, faulty};
use crate::servers::{connections, table};

#[tokio::test]
async fn a_component_is_whole_or_not_there() -> Result<()> {
    let plain = connections().await;
    let table = table(&plain).await?;
    let (through, faults) = faulty(&plain);
    let components = DynamoComponents::new(DynamoTable::open(through.dynamodb, table.name()).await?);
    let bytes: Bytes = (0..1_000_000u32).map(|index| (index.wrapping_mul(index) >> 7) as u8).collect();
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
