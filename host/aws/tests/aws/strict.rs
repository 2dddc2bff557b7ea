//! Stored items that are not as this version writes them are errors that name the item, never passed over; and tables that
//! are not Pelton's are refused.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use bytes::Bytes;
use pelton_aws::DynamoTable;
use pelton_core::commit::CommitKind;
use pelton_core::id::{CommitId, CommitNumber, Epoch, HostId, TaskId};
use pelton_engine::ports::{Changelog, IdlePositions, PortError};

use crate::changelog::{commit, faulty_changelog, manifest};
use crate::faults::{Fault, faulty};
use crate::servers::{connections, fresh};

const TASK: TaskId = TaskId(3);
const ID: CommitId = CommitId([5; 16]);

/// What the read of one kind of item comes to.
async fn read(log: &impl Changelog, what: &str) -> Result<(), PortError> {
    match what {
        "log" => {
            let errors = [
                log.read(TASK, CommitNumber(1)).await.err(),
                log.tail(TASK).await.err(),
                log.read_from(TASK, CommitNumber(1)).await.err(),
            ];
            assert!(errors.iter().all(Option::is_some) || errors.iter().all(Option::is_none), "{errors:?}");
            errors.into_iter().flatten().next().map_or(Ok(()), Err)
        }
        "manifest" => log.manifests(TASK).await.map(drop),
        "part" => log.read_part(TASK, CommitNumber(1), ID, 9).await.map(drop),
        "idle" => log.idle().await.map(drop),
        "row" => log.claim(TASK, HostId([1; 16])).await.map(drop),
        other => panic!("{other} is no kind of item"),
    }
}

#[tokio::test]
async fn what_this_version_would_not_write_is_an_error() -> Result<()> {
    let (log, _, table, plain) = faulty_changelog().await?;
    let inc = "09".repeat(16);
    let id = "05".repeat(16);
    log.claim(TASK, HostId([1; 16])).await?;
    log.put(TASK, Epoch(1), &commit(1, CommitKind::Step, 5)).await?;
    log.put_manifest(TASK, &manifest(5, 5)).await?;
    log.put_part(TASK, CommitNumber(1), ID, 9, Bytes::from("part")).await?;
    log.put_idle(HostId([5; 16]), &[IdlePositions { task: TASK, step_id: ID, entries: Vec::new() }]).await?;
    // An idle task without positions says nothing and is not kept, so that one is put by hand.
    let bytes = |bytes: &[u8]| AttributeValue::B(Blob::new(bytes));
    let number = |number: &str| AttributeValue::N(number.into());
    let idle = plain.dynamodb.put_item().table_name(table.name()).item("pk", AttributeValue::S(format!("{inc}/idle")));
    idle.item("sk", AttributeValue::S(format!("{id}/00000000"))).item("data", bytes(&[1])).send().await?;

    let keys = [
        ("log", format!("{inc}/00003"), "log/00000000000000000001".to_owned()),
        ("manifest", format!("{inc}/00003"), format!("snapshot/00000000000000000005/{id}")),
        ("part", format!("{inc}/00003/part/1"), format!("00000000000000000001/{id}/00000009")),
        ("idle", format!("{inc}/idle"), format!("{id}/00000000")),
        ("row", format!("{inc}/tasks"), "00003".to_owned()),
    ];
    let cases = [
        ("log manifest part idle row", "colour", Some(AttributeValue::S("red".into()))),
        ("log manifest part idle", "data", None),
        ("log manifest part idle", "data", Some(AttributeValue::S("text".into()))),
        // A format of a later version, and a field of one.
        ("manifest idle", "data", Some(bytes(&[2]))),
        ("manifest idle", "data", Some(bytes(&[1, 0xF8, 0x07, 0x01]))),
        ("log", "kind", Some(number("2"))),
        ("log", "epoch", Some(number("-1"))),
        ("log", "id", Some(bytes(&[1, 2, 3]))),
    ];
    for (what, pk, sk) in &keys {
        let key: HashMap<String, AttributeValue> =
            [("pk", pk), ("sk", sk)].map(|(name, key)| (name.to_owned(), AttributeValue::S(key.clone()))).into();
        let get = plain.dynamodb.get_item().table_name(table.name()).set_key(Some(key.clone())).send().await?;
        let item = get.item.with_context(|| format!("{what}: there is no item {pk} {sk}"))?;
        read(&log, what).await?;
        for (_, attribute, value) in cases.iter().filter(|(kinds, ..)| kinds.split(' ').any(|kind| kind == *what)) {
            let mut changed = item.clone();
            match value {
                Some(value) => drop(changed.insert((*attribute).to_owned(), value.clone())),
                None => drop(changed.remove(*attribute)),
            }
            plain.dynamodb.put_item().table_name(table.name()).set_item(Some(changed)).send().await?;
            let error = read(&log, what).await.err().with_context(|| format!("{what}: {attribute} {value:?}"))?;
            assert!(matches!(error, PortError::Stop(_)), "{error}");
            for named in [table.name(), pk, sk] {
                assert!(error.to_string().contains(named), "{error}");
            }
            plain.dynamodb.put_item().table_name(table.name()).set_item(Some(item.clone())).send().await?;
        }
        read(&log, what).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_table_is_made_once_and_others_are_refused() -> Result<()> {
    let plain = connections().await;
    let name = fresh("table");
    let open = |name: &str| {
        let (client, name) = (plain.dynamodb.clone(), name.to_owned());
        async move { DynamoTable::open(client, &name).await }
    };
    let (one, other) = tokio::try_join!(open(&name), open(&name))?;
    assert_eq!(one.id(), other.id());
    assert!(one.id().starts_with("arn:") && one.id().contains(&name), "{}", one.id());

    let foreign = fresh("table");
    let element = KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash).build()?;
    let attribute = AttributeDefinition::builder().attribute_name("leaseKey");
    let attribute = attribute.attribute_type(ScalarAttributeType::S).build()?;
    let create = plain.dynamodb.create_table().table_name(&foreign).billing_mode(BillingMode::PayPerRequest);
    create.key_schema(element).attribute_definitions(attribute).send().await?;
    let error = open(&foreign).await.err().context("its keys differ")?;
    assert!(error.to_string().contains("leaseKey") && error.to_string().contains(&foreign), "{error}");

    for (consistency, refused) in [("", true), (r#","MultiRegionConsistency":"STRONG""#, false)] {
        let keys = r#"[{"AttributeName":"pk","KeyType":"HASH"},{"AttributeName":"sk","KeyType":"RANGE"}]"#;
        let types = r#"[{"AttributeName":"pk","AttributeType":"S"},{"AttributeName":"sk","AttributeType":"S"}]"#;
        let table = format!(
            r#"{{"Table":{{"TableName":"world","TableStatus":"ACTIVE","TableArn":"arn:x","TableId":"y","KeySchema":{keys},
               "AttributeDefinitions":{types},"Replicas":[{{"RegionName":"eu-west-1"}}]{consistency}}}}}"#
        );
        let (through, faults) = faulty(&plain);
        faults.next("DescribeTable", [Fault::Answer(200, table)]);
        let opened = DynamoTable::open(through.dynamodb, "world").await;
        assert_eq!(opened.is_err(), refused, "{opened:?}");
    }
    Ok(())
}
