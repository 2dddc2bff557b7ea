//! Components by digest: pieces first, then the item that says all are there.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pelton_core::id::Digest;
use pelton_core::limits::ITEM_PAYLOAD_BYTES_MAX;
use pelton_engine::digest_of;
use pelton_engine::ports::{ComponentStore, PortError};

use crate::error::persist;
use crate::item::{binary, number};
use crate::items::Query;
use crate::layout::{self, COMPONENTS, HEAD, LAST};
use crate::mutant::{Mutant, wrong};
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
}

#[async_trait]
impl ComponentStore for DynamoComponents {
    async fn put(&self, digest: Digest, bytes: Bytes) -> Result<(), PortError> {
        if digest_of(&bytes) != digest {
            return Err(PortError::Stop(format!("these {} bytes are not component {digest}", bytes.len())));
        }
        let pk = layout::component(digest);
        let size = bytes.len() as u64;
        if persist(|| self.table.get(&pk, HEAD)).await?.is_none() {
            let chunks = bytes.chunks(ITEM_PAYLOAD_BYTES_MAX);
            let count = chunks.len() as u64;
            let put_head = || self.table.put(&pk, HEAD, vec![("size", number(size)), ("chunks", number(count))]);
            if wrong(Mutant::ComponentHeadFirst) {
                persist(put_head).await?;
            }
            // One partition key takes three pieces a second: throttling is to be expected, and waited out.
            for (index, chunk) in chunks.enumerate() {
                let sk = layout::component_chunk(index);
                persist(|| self.table.put(&pk, &sk, vec![("data", binary(chunk))])).await?;
            }
            persist(put_head).await?;
        }
        let listed = digest.to_string();
        persist(|| self.table.put(COMPONENTS, &listed, vec![("size", number(size))])).await
    }

    async fn get(&self, digest: Digest) -> Result<Option<Bytes>, PortError> {
        let pk = layout::component(digest);
        let Some(mut head) = persist(|| self.table.get(&pk, HEAD)).await? else { return Ok(None) };
        let (size, chunks) = (head.number("size")?, head.number("chunks")?);
        head.end()?;
        let mut bytes = BytesMut::new();
        for index in 0..chunks as usize {
            let sk = layout::component_chunk(index);
            let missing = || PortError::Stop(format!("component {digest}: piece {index} of {chunks} is missing"));
            let mut chunk = persist(|| self.table.get(&pk, &sk)).await?.ok_or_else(missing)?;
            bytes.extend_from_slice(&chunk.bytes("data")?);
            chunk.end()?;
        }
        let is_whole = bytes.len() as u64 == size && digest_of(&bytes) == digest;
        if !is_whole && !wrong(Mutant::ComponentUnchecked) {
            let table = self.table.name();
            return Err(PortError::Stop(format!(
                "component {digest} is damaged in table {table}; delete its items and push it again"
            )));
        }
        Ok(Some(bytes.freeze()))
    }

    async fn list(&self) -> Result<Vec<(Digest, u64)>, PortError> {
        let mut components = Vec::new();
        for mut item in persist(|| self.table.query_all(Query::rising(COMPONENTS, "0", LAST))).await? {
            let digest = item.sk.parse().map_err(|error| item.wrong(error))?;
            components.push((digest, item.number("size")?));
            item.end()?;
        }
        Ok(components)
    }
}
