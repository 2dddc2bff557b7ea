//! The changelog: commits put on condition that their number is free, and read back strongly consistent.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::ReturnValue;
use bytes::Bytes;
use pelton_core::commit::StoredCommit;
use pelton_core::id::{CommitId, CommitNumber, Epoch, HostId, Incarnation, TaskId};
use pelton_core::snapshot::Manifest;
use pelton_engine::ports::{Changelog, IdlePositions, LogItem, PortError, PutOutcome};

use crate::error::port_error;
use crate::item::{Item, binary, number, text};
use crate::items::Query;
use crate::layout::{self, LAST, LOG, PK, SK, SNAPSHOT};
use crate::mutant::{Mutant, wrong};
use crate::table::DynamoTable;
use crate::trim::trim;
use crate::{idle, manifest};

/// A job's changelog.
#[derive(Debug)]
pub struct DynamoChangelog {
    table: DynamoTable,
    incarnation: Incarnation,
}

impl DynamoChangelog {
    /// The changelog of an incarnation of a job.
    pub fn new(table: DynamoTable, incarnation: Incarnation) -> Self {
        Self { table, incarnation }
    }

    fn log_key(&self, task: TaskId) -> String {
        layout::task(self.incarnation, task)
    }

    fn log_item(mut item: Item) -> Result<LogItem, PortError> {
        let is_fence = match item.number("kind")? {
            layout::KIND_FENCE => true,
            layout::KIND_STEP => false,
            kind => return Err(item.wrong(format!("kind {kind} is not known to this version; run a newer one"))),
        };
        let log_item = LogItem {
            number: item.log_number()?,
            id: CommitId(item.id("id")?),
            is_fence,
            epoch: Epoch(item.number("epoch")?),
            head: item.bytes("data")?,
        };
        item.end()?;
        Ok(log_item)
    }
}

#[async_trait]
impl Changelog for DynamoChangelog {
    async fn claim(&self, task: TaskId, host: HostId) -> Result<Epoch, PortError> {
        let what = format!("claiming task {task} in table {}", self.table.name);
        let request = self
            .table
            .client
            .update_item()
            .table_name(&self.table.name)
            .key(PK, text(layout::tasks(self.incarnation)))
            .key(SK, text(layout::task_row(task)))
            .update_expression("ADD #epoch :one SET #owner = :host")
            .expression_attribute_names("#epoch", "epoch")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":one", number(if wrong(Mutant::ClaimKeepsEpoch) { 0 } else { 1 }))
            .expression_attribute_values(":host", binary(host.0))
            .return_values(ReturnValue::AllNew);
        let reply = request.send().await.map_err(|error| port_error(&what, &error))?;
        let row = reply.attributes.ok_or_else(|| PortError::Retry(format!("{what}: the reply has no row")))?;
        let mut row = Item::new(&self.table.name, row)?;
        let epoch = row.number("epoch")?;
        row.id("owner")?;
        row.end()?;
        Ok(Epoch(epoch))
    }

    async fn tail(&self, task: TaskId) -> Result<Option<LogItem>, PortError> {
        let (pk, to) = (self.log_key(task), format!("{LOG}{LAST}"));
        let page = self.table.query(Query::last(&pk, LOG, &to), None).await?;
        page.items.into_iter().next().map(Self::log_item).transpose()
    }

    async fn put(&self, task: TaskId, epoch: Epoch, commit: &StoredCommit) -> Result<PutOutcome, PortError> {
        let kind = if commit.kind.is_fence() { layout::KIND_FENCE } else { layout::KIND_STEP };
        let attributes = vec![
            ("id", binary(commit.id.0)),
            ("kind", number(kind)),
            ("epoch", number(epoch.0)),
            ("data", binary(commit.head.as_ref())),
        ];
        self.table.put_new(&self.log_key(task), &layout::log(commit.number), attributes).await
    }

    async fn read(&self, task: TaskId, at: CommitNumber) -> Result<Option<LogItem>, PortError> {
        self.table.get(&self.log_key(task), &layout::log(at)).await?.map(Self::log_item).transpose()
    }

    async fn read_from(&self, task: TaskId, from: CommitNumber) -> Result<Vec<LogItem>, PortError> {
        let (pk, from, to) = (self.log_key(task), layout::log(from), format!("{LOG}{LAST}"));
        let page = self.table.query(Query::rising(&pk, &from, &to), None).await?;
        page.items.into_iter().map(Self::log_item).collect()
    }

    async fn put_part(
        &self,
        task: TaskId,
        at: CommitNumber,
        id: CommitId,
        index: u32,
        part: Bytes,
    ) -> Result<(), PortError> {
        let pk = layout::parts(self.incarnation, task, index);
        self.table.put(&pk, &layout::part(at, id, index), vec![("data", binary(part.as_ref()))]).await
    }

    async fn read_part(
        &self,
        task: TaskId,
        at: CommitNumber,
        id: CommitId,
        index: u32,
    ) -> Result<Option<Bytes>, PortError> {
        let pk = layout::parts(self.incarnation, task, index);
        let Some(mut item) = self.table.get(&pk, &layout::part(at, id, index)).await? else { return Ok(None) };
        let data = item.bytes("data")?;
        item.end()?;
        Ok(Some(data))
    }

    async fn manifests(&self, task: TaskId) -> Result<Vec<Manifest>, PortError> {
        let (pk, to) = (self.log_key(task), format!("{SNAPSHOT}{LAST}"));
        let items = self.table.query_all(Query::rising(&pk, SNAPSHOT, &to)).await?;
        items.into_iter().map(manifest::of_item).collect()
    }

    async fn put_manifest(&self, task: TaskId, manifest: &Manifest) -> Result<(), PortError> {
        let data = vec![("data", binary(manifest::encode(manifest)))];
        self.table.put(&self.log_key(task), &layout::snapshot(manifest.at, manifest.id), data).await
    }

    async fn trim(&self, task: TaskId, floor: CommitNumber) -> Result<(), PortError> {
        trim(&self.table, self.incarnation, task, floor).await
    }

    async fn put_idle(&self, host: HostId, positions: &[IdlePositions]) -> Result<(), PortError> {
        let pk = layout::idle(self.incarnation);
        let chunks = idle::encode(positions);
        let kept = chunks.len();
        for (index, chunk) in chunks.into_iter().enumerate() {
            self.table.put(&pk, &layout::idle_chunk(host, index), vec![("data", binary(chunk))]).await?;
        }
        if wrong(Mutant::IdleSurplusKept) {
            return Ok(());
        }
        let (from, to) = (layout::idle_chunk(host, kept), format!("{host}/{LAST}"));
        let surplus = self.table.query_all(Query::rising(&pk, &from, &to).only("pk, sk")).await?;
        let surplus: Vec<String> = surplus.into_iter().map(|item| item.sk).collect();
        self.table.delete(&pk, &surplus).await
    }

    async fn idle(&self) -> Result<Vec<IdlePositions>, PortError> {
        let mut positions = Vec::new();
        for mut item in self.table.query_all(Query::rising(&layout::idle(self.incarnation), "0", LAST)).await? {
            let data = item.bytes("data")?;
            positions.extend(idle::decode(&data).map_err(|what| item.wrong(what))?);
            item.end()?;
        }
        Ok(positions)
    }

    async fn forget_idle_of_others(&self, host: HostId) -> Result<(), PortError> {
        let (pk, own) = (layout::idle(self.incarnation), format!("{host}/"));
        let items = self.table.query_all(Query::rising(&pk, "0", LAST).only("pk, sk")).await?;
        let others = items.into_iter().map(|item| item.sk).filter(|sk| !sk.starts_with(&own));
        self.table.delete(&pk, &others.collect::<Vec<String>>()).await
    }
}
