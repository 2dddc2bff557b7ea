//! The changelog: commits put on condition that their number is free, and read back strongly consistent.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, ReturnValue, WriteRequest};
use bytes::Bytes;
use pelton_core::commit::{CommitKind, StoredCommit};
use pelton_core::id::{CommitId, CommitNumber, Epoch, HostId, Incarnation, TaskId};
use pelton_core::limits::backoff_ms;
use pelton_core::snapshot::Manifest;
use pelton_engine::ports::{Changelog, IdlePositions, LogItem, PortError, PutOutcome};

use crate::error::{code, port_error};
use crate::item::{Attributes, Item, binary, number, text};
use crate::layout::{self, PART_SPREAD, PK, SK};
use crate::table::DynamoTable;
use crate::{idle, manifest};

/// Deletes in one call; the limit of BatchWriteItem.
const DELETES_MAX: usize = 25;

/// A job's changelog.
#[derive(Debug)]
pub struct DynamoChangelog {
    table: DynamoTable,
    incarnation: Incarnation,
}

/// A query's reply: items, and where to go on.
struct Page {
    items: Vec<Attributes>,
    next: Option<Attributes>,
}

impl DynamoChangelog {
    /// The changelog of an incarnation of a job.
    pub fn new(table: DynamoTable, incarnation: Incarnation) -> Self {
        Self { table, incarnation }
    }

    fn client(&self) -> &Client {
        &self.table.client
    }

    fn log_key(&self, task: TaskId) -> String {
        layout::task(self.incarnation, task)
    }

    async fn get(&self, pk: String, sk: String) -> Result<Option<Item>, PortError> {
        let what = format!("reading item {pk} {sk} of table {}", self.table.name);
        let request = self.client().get_item().table_name(&self.table.name).consistent_read(true);
        let reply = request.key(PK, text(pk)).key(SK, text(sk)).send().await;
        let reply = reply.map_err(|error| port_error(&what, &error))?;
        reply.item.map(|item| Item::new(&self.table.name, item)).transpose()
    }

    /// Puts an item that is written once or whole.
    async fn put_item(&self, pk: String, sk: String, attributes: Vec<(&str, AttributeValue)>) -> Result<(), PortError> {
        let what = format!("putting item {pk} {sk} into table {}", self.table.name);
        let request = self.client().put_item().table_name(&self.table.name);
        let request = request.item(PK, text(pk)).item(SK, text(sk));
        let request = attributes.into_iter().fold(request, |request, (name, value)| request.item(name, value));
        request.send().await.map_err(|error| port_error(&what, &error))?;
        Ok(())
    }

    /// One page of the items of a partition key with `from` ≤ sort key < `to`.
    async fn query(&self, query: Query<'_>, next: Option<Attributes>) -> Result<Page, PortError> {
        let what = format!("querying {} of table {}", query.pk, self.table.name);
        let mut request = self
            .client()
            .query()
            .table_name(&self.table.name)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
            .expression_attribute_values(":pk", text(query.pk))
            .expression_attribute_values(":from", text(query.from))
            .expression_attribute_values(":to", text(query.to))
            .scan_index_forward(query.rising)
            .set_limit(query.limit)
            .set_exclusive_start_key(next);
        if let Some(projection) = query.projection {
            request = request.projection_expression(projection);
        }
        let reply = request.send().await.map_err(|error| port_error(&what, &error))?;
        Ok(Page { items: reply.items.unwrap_or_default(), next: reply.last_evaluated_key })
    }

    /// Every item of a range.
    async fn query_all(&self, query: Query<'_>) -> Result<Vec<Item>, PortError> {
        let (mut items, mut next) = (Vec::new(), None);
        loop {
            let page = self.query(query, next).await?;
            for item in page.items {
                items.push(Item::new(&self.table.name, item)?);
            }
            next = page.next;
            if next.is_none() {
                return Ok(items);
            }
        }
    }

    fn log_item(item: Attributes, table: &str) -> Result<LogItem, PortError> {
        let mut item = Item::new(table, item)?;
        let number = item.sk.strip_prefix(layout::LOG).and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| item.wrong("its sort key is not that of a commit"))?;
        let kind = match item.number("kind")? {
            0 => CommitKind::Fence,
            1 => CommitKind::Step,
            kind => return Err(item.wrong(format!("kind {kind} is not known to this version"))),
        };
        let log_item = LogItem {
            number: CommitNumber(number),
            id: CommitId(item.id("id")?),
            kind,
            epoch: Epoch(item.number("epoch")?),
            head: item.bytes("data")?,
        };
        item.end()?;
        Ok(log_item)
    }

    /// Deletes keys, a call at a time, and what a call did not process again.
    async fn delete(&self, pk: &str, sks: Vec<String>) -> Result<(), PortError> {
        let what = format!("trimming {pk} of table {}", self.table.name);
        for chunk in sks.chunks(DELETES_MAX) {
            let delete = |sk: &String| {
                let request = DeleteRequest::builder().key(PK, text(pk)).key(SK, text(sk)).build();
                let request = request.expect("a delete has a key");
                WriteRequest::builder().delete_request(request).build()
            };
            let mut pending: Vec<WriteRequest> = chunk.iter().map(delete).collect();
            let mut attempt = 0;
            while !pending.is_empty() {
                let request = self.client().batch_write_item().request_items(&self.table.name, pending);
                let reply = request.send().await.map_err(|error| port_error(&what, &error))?;
                pending =
                    reply.unprocessed_items.and_then(|mut rest| rest.remove(&self.table.name)).unwrap_or_default();
                if !pending.is_empty() {
                    attempt += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(backoff_ms(attempt))).await;
                }
            }
        }
        Ok(())
    }
}

/// Items of a partition key with from ≤ sort key ≤ to.
#[derive(Clone, Copy)]
struct Query<'a> {
    pk: &'a str,
    from: &'a str,
    to: &'a str,
    rising: bool,
    limit: Option<i32>,
    projection: Option<&'a str>,
}

impl<'a> Query<'a> {
    fn rising(pk: &'a str, from: &'a str, to: &'a str) -> Self {
        Self { pk, from, to, rising: true, limit: None, projection: None }
    }
}

/// Sorts behind every key that continues a prefix: no key has a character above it.
const LAST: &str = "~";

#[async_trait]
impl Changelog for DynamoChangelog {
    async fn claim(&self, task: TaskId, host: HostId) -> Result<Epoch, PortError> {
        let what = format!("claiming task {task} in table {}", self.table.name);
        let request = self
            .client()
            .update_item()
            .table_name(&self.table.name)
            .key(PK, text(layout::tasks(self.incarnation)))
            .key(SK, text(layout::task_row(task)))
            .update_expression("ADD #epoch :one SET #owner = :host")
            .expression_attribute_names("#epoch", "epoch")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":one", number(1))
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
        let (pk, to) = (self.log_key(task), format!("{}{LAST}", layout::LOG));
        let query = Query { rising: false, limit: Some(1), ..Query::rising(&pk, layout::LOG, &to) };
        let page = self.query(query, None).await?;
        page.items.into_iter().next().map(|item| Self::log_item(item, &self.table.name)).transpose()
    }

    async fn put(&self, task: TaskId, epoch: Epoch, commit: &StoredCommit) -> Result<PutOutcome, PortError> {
        let kind = match commit.kind {
            CommitKind::Fence => 0,
            CommitKind::Step => 1,
        };
        let request = self
            .client()
            .put_item()
            .table_name(&self.table.name)
            .item(PK, text(self.log_key(task)))
            .item(SK, text(layout::log(commit.number)))
            .item("id", binary(commit.id.0))
            .item("kind", number(kind))
            .item("epoch", number(epoch.0))
            .item("data", binary(commit.head.as_ref()))
            .condition_expression("attribute_not_exists(pk)");
        match request.send().await {
            Ok(_) => Ok(PutOutcome::Applied),
            Err(error) if code(&error) == Some("ConditionalCheckFailedException") => Ok(PutOutcome::Exists),
            Err(error) => {
                let what = format!("appending commit {} of task {task} to table {}", commit.number, self.table.name);
                Err(port_error(&what, &error))
            }
        }
    }

    async fn read(&self, task: TaskId, at: CommitNumber) -> Result<Option<LogItem>, PortError> {
        let page = self.query(Query::rising(&self.log_key(task), &layout::log(at), &layout::log(at)), None).await?;
        page.items.into_iter().next().map(|item| Self::log_item(item, &self.table.name)).transpose()
    }

    async fn read_from(&self, task: TaskId, from: CommitNumber) -> Result<Vec<LogItem>, PortError> {
        let (pk, from, to) = (self.log_key(task), layout::log(from), format!("{}{LAST}", layout::LOG));
        let page = self.query(Query::rising(&pk, &from, &to), None).await?;
        page.items.into_iter().map(|item| Self::log_item(item, &self.table.name)).collect()
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
        self.put_item(pk, layout::part(at, id, index), vec![("data", binary(part.as_ref()))]).await
    }

    async fn read_part(
        &self,
        task: TaskId,
        at: CommitNumber,
        id: CommitId,
        index: u32,
    ) -> Result<Option<Bytes>, PortError> {
        let pk = layout::parts(self.incarnation, task, index);
        let Some(mut item) = self.get(pk, layout::part(at, id, index)).await? else { return Ok(None) };
        let data = item.bytes("data")?;
        item.end()?;
        Ok(Some(data))
    }

    async fn manifests(&self, task: TaskId) -> Result<Vec<Manifest>, PortError> {
        let (pk, to) = (self.log_key(task), format!("{}{LAST}", layout::SNAPSHOT));
        let items = self.query_all(Query::rising(&pk, layout::SNAPSHOT, &to)).await?;
        items
            .into_iter()
            .map(|mut item| {
                let data = item.bytes("data")?;
                let manifest = manifest::decode(&data).map_err(|what| item.wrong(what))?;
                item.end()?;
                Ok(manifest)
            })
            .collect()
    }

    async fn put_manifest(&self, task: TaskId, manifest: &Manifest) -> Result<(), PortError> {
        let data = vec![("data", binary(manifest::encode(manifest)))];
        self.put_item(self.log_key(task), layout::snapshot(manifest.at, manifest.id), data).await
    }

    async fn trim(&self, task: TaskId, floor: CommitNumber) -> Result<(), PortError> {
        let Some(last) = floor.0.checked_sub(1).map(CommitNumber) else { return Ok(()) };
        let pk = self.log_key(task);
        let (from, to) = (layout::log(CommitNumber(0)), layout::log(last));
        let query = Query { projection: Some("pk, sk, kind"), ..Query::rising(&pk, &from, &to) };
        let mut steps = Vec::new();
        for mut item in self.query_all(query).await? {
            if item.number("kind")? != 0 {
                steps.push(item.sk);
            }
        }
        self.delete(&pk, steps).await?;
        let manifests = self.manifests(task).await?.into_iter().filter(|manifest| manifest.floor < floor);
        self.delete(&pk, manifests.map(|manifest| layout::snapshot(manifest.at, manifest.id)).collect()).await?;
        for index in 0..PART_SPREAD {
            let pk = layout::parts(self.incarnation, task, index);
            let to = layout::parts_below(floor);
            let query = Query { projection: Some("pk, sk"), ..Query::rising(&pk, "0", &to) };
            let parts = self.query_all(query).await?;
            self.delete(&pk, parts.into_iter().map(|item| item.sk).collect()).await?;
        }
        Ok(())
    }

    async fn put_idle(&self, host: HostId, positions: &[IdlePositions]) -> Result<(), PortError> {
        let pk = layout::idle(self.incarnation);
        let chunks = idle::encode(positions);
        let kept = chunks.len();
        for (index, chunk) in chunks.into_iter().enumerate() {
            self.put_item(pk.clone(), layout::idle_chunk(host, index), vec![("data", binary(chunk))]).await?;
        }
        let (from, to) = (layout::idle_chunk(host, kept), format!("{host}/{LAST}"));
        let query = Query { projection: Some("pk, sk"), ..Query::rising(&pk, &from, &to) };
        let surplus = self.query_all(query).await?;
        self.delete(&pk, surplus.into_iter().map(|item| item.sk).collect()).await
    }

    async fn idle(&self) -> Result<Vec<IdlePositions>, PortError> {
        let mut positions = Vec::new();
        for mut item in self.query_all(Query::rising(&layout::idle(self.incarnation), "0", LAST)).await? {
            let data = item.bytes("data")?;
            positions.extend(idle::decode(&data).map_err(|what| item.wrong(what))?);
            item.end()?;
        }
        Ok(positions)
    }
}
