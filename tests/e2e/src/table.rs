//! The table as an outsider sees it: its items, read and written without Pelton.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::AttributeValue;

/// A client of the DynamoDB at an address.
pub fn client(endpoint: &str) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::for_tests());
    Client::from_conf(config.build())
}

/// Every item of a table.
///
/// # Errors
/// When it cannot be read.
pub async fn items(client: &Client, table: &str) -> Result<Vec<HashMap<String, AttributeValue>>> {
    let mut pages = client.scan().table_name(table).consistent_read(true).into_paginator().items().send();
    let mut items = Vec::new();
    while let Some(item) = pages.next().await {
        items.push(item?);
    }
    Ok(items)
}

/// Makes a table as another one was at some time: what restoring a backup does.
///
/// # Errors
/// When there is such a table already, or it cannot be made.
pub async fn restore(
    client: &Client,
    like: &str,
    name: &str,
    items: Vec<HashMap<String, AttributeValue>>,
) -> Result<()> {
    let description = client.describe_table().table_name(like).send().await?.table.context("a description")?;
    let table = client.create_table().table_name(name);
    let table = table.set_key_schema(description.key_schema);
    let table = table.set_attribute_definitions(description.attribute_definitions);
    table.billing_mode(aws_sdk_dynamodb::types::BillingMode::PayPerRequest).send().await?;
    for item in items {
        client.put_item().table_name(name).set_item(Some(item)).send().await?;
    }
    Ok(())
}
