//! Components by digest: pieces first, then the item that says all are there.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::{Bytes, BytesMut};
use pelton_core::id::Digest;
use pelton_core::limits::ITEM_PAYLOAD_BYTES_MAX;
use pelton_engine::digest_of;
use pelton_engine::ports::{ComponentStore, PortError};

use crate::error::port_error;
use crate::item::{Item, binary, number, text};
use crate::layout::{self, COMPONENTS, HEAD, PK, SK};
use crate::table::DynamoTable;

/// The components of a table.
#[derive(Debug)]
pub struct DynamoComponents {
    table: DynamoTable,
}

impl DynamoComponents {
    /// The components kept in a table.
    pub fn new(table: DynamoTable) -> Self {
        Self { table }
    }

    async fn get_item(&self, pk: &str, sk: &str) -> Result<Option<Item>, PortError> {
        let what = format!("reading item {pk} {sk} of table {}", self.table.name);
        let request = self.table.client.get_item().table_name(&self.table.name).consistent_read(true);
        let reply = request.key(PK, text(pk)).key(SK, text(sk)).send().await;
        let reply = reply.map_err(|error| port_error(&what, &error))?;
        reply.item.map(|item| Item::new(&self.table.name, item)).transpose()
    }

    async fn put_item(&self, pk: &str, sk: &str, attributes: Vec<(&str, AttributeValue)>) -> Result<(), PortError> {
        let what = format!("putting item {pk} {sk} into table {}", self.table.name);
        let request = self.table.client.put_item().table_name(&self.table.name).item(PK, text(pk)).item(SK, text(sk));
        let request = attributes.into_iter().fold(request, |request, (name, value)| request.item(name, value));
        request.send().await.map_err(|error| port_error(&what, &error))?;
        Ok(())
    }
}

#[async_trait]
impl ComponentStore for DynamoComponents {
    async fn put(&self, digest: Digest, bytes: Bytes) -> Result<(), PortError> {
        let pk = layout::component(digest);
        let size = bytes.len() as u64;
        if self.get_item(&pk, HEAD).await?.is_none() {
            let chunks = bytes.chunks(ITEM_PAYLOAD_BYTES_MAX);
            let count = chunks.len() as u64;
            for (index, chunk) in chunks.enumerate() {
                self.put_item(&pk, &layout::component_chunk(index), vec![("data", binary(chunk))]).await?;
            }
            self.put_item(&pk, HEAD, vec![("size", number(size)), ("chunks", number(count))]).await?;
        }
        self.put_item(COMPONENTS, &digest.to_string(), vec![("size", number(size))]).await
    }

    async fn get(&self, digest: Digest) -> Result<Option<Bytes>, PortError> {
        let pk = layout::component(digest);
        let Some(mut head) = self.get_item(&pk, HEAD).await? else { return Ok(None) };
        let (size, chunks) = (head.number("size")?, head.number("chunks")?);
        head.end()?;
        let mut bytes = BytesMut::new();
        for index in 0..chunks as usize {
            let chunk = self.get_item(&pk, &layout::component_chunk(index)).await?;
            let missing = || PortError::Stop(format!("component {digest}: piece {index} of {chunks} is missing"));
            let mut chunk = chunk.ok_or_else(missing)?;
            bytes.extend_from_slice(&chunk.bytes("data")?);
            chunk.end()?;
        }
        if bytes.len() as u64 != size || digest_of(&bytes) != digest {
            return Err(PortError::Stop(format!("component {digest} is damaged in table {}", self.table.name)));
        }
        Ok(Some(bytes.freeze()))
    }

    async fn list(&self) -> Result<Vec<(Digest, u64)>, PortError> {
        let what = format!("listing the components of table {}", self.table.name);
        let (mut components, mut next) = (Vec::new(), None);
        loop {
            let request = self.table.client.query().table_name(&self.table.name).consistent_read(true);
            let request = request
                .key_condition_expression("pk = :pk")
                .expression_attribute_values(":pk", text(COMPONENTS))
                .set_exclusive_start_key(next);
            let reply = request.send().await.map_err(|error| port_error(&what, &error))?;
            for item in reply.items.unwrap_or_default() {
                let mut item = Item::new(&self.table.name, item)?;
                let digest = item.sk.parse().map_err(|error| item.wrong(error))?;
                components.push((digest, item.number("size")?));
                item.end()?;
            }
            next = reply.last_evaluated_key;
            if next.is_none() {
                return Ok(components);
            }
        }
    }
}
