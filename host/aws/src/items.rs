//! The requests on a table's items, each strongly consistent where it decides anything and with errors that name the item.
//! What is in an item is for its reader to know.

use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, WriteRequest};
use pelton_core::limits::backoff_ms;
use pelton_engine::ports::{PortError, PutOutcome};

use crate::error::{code, port_error};
use crate::item::{Attributes, Item, text};
use crate::layout::{PK, SK};
use crate::mutant::{Mutant, wrong};
use crate::table::DynamoTable;

/// Deletes in one call; the limit of BatchWriteItem.
const DELETES_MAX: usize = 25;
/// A call that leaves deletes undone is repeated so often before the caller hears of it.
const DELETE_ATTEMPTS_MAX: u32 = 8;

/// Items of one partition key with `from` ≤ sort key ≤ `to`.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    pk: &'a str,
    from: &'a str,
    to: &'a str,
    falling: bool,
    limit: Option<i32>,
    projection: Option<&'a str>,
    stale: bool,
}

impl<'a> Query<'a> {
    /// Whole items by rising sort key.
    pub fn rising(pk: &'a str, from: &'a str, to: &'a str) -> Self {
        Self { pk, from, to, falling: false, limit: None, projection: None, stale: wrong(Mutant::RangeReadStale) }
    }

    /// The last item alone.
    pub fn last(pk: &'a str, from: &'a str, to: &'a str) -> Self {
        Self { falling: true, limit: Some(1), stale: wrong(Mutant::TailReadStale), ..Self::rising(pk, from, to) }
    }

    /// Keys, and the attributes named beside them, instead of whole items.
    pub fn only(self, projection: &'a str) -> Self {
        Self { projection: Some(projection), ..self }
    }

    /// Takes what a replica knows, at half the price: for deleting what will be asked for again.
    pub fn stale(self) -> Self {
        Self { stale: true, ..self }
    }
}

/// One page of a query's items, and where to go on.
pub(crate) struct Page {
    pub items: Vec<Item>,
    pub next: Option<Attributes>,
}

impl DynamoTable {
    /// An item, if it is there.
    pub(crate) async fn get(&self, pk: &str, sk: &str) -> Result<Option<Item>, PortError> {
        let what = format!("reading item {pk} {sk} of table {}", self.name);
        let consistent = !wrong(Mutant::ItemReadStale);
        let request = self.client.get_item().table_name(&self.name).consistent_read(consistent);
        let reply = request.key(PK, text(pk)).key(SK, text(sk)).send().await;
        let reply = reply.map_err(|error| port_error(&what, &error))?;
        reply.item.map(|item| Item::new(&self.name, item)).transpose()
    }

    /// Puts an item whatever stands there: one that is always written alike, or replaced whole.
    pub(crate) async fn put(
        &self,
        pk: &str,
        sk: &str,
        attributes: Vec<(&str, AttributeValue)>,
    ) -> Result<(), PortError> {
        let request = self.put_request(pk, sk, attributes);
        let what = || format!("putting item {pk} {sk} into table {}", self.name);
        request.send().await.map(drop).map_err(|error| port_error(&what(), &error))
    }

    /// Puts an item unless one stands there. One that does may be this very item, put by a request whose reply was lost.
    pub(crate) async fn put_new(
        &self,
        pk: &str,
        sk: &str,
        attributes: Vec<(&str, AttributeValue)>,
    ) -> Result<PutOutcome, PortError> {
        let condition = (!wrong(Mutant::PutWithoutCondition)).then(|| "attribute_not_exists(pk)".to_owned());
        let request = self.put_request(pk, sk, attributes).set_condition_expression(condition);
        match request.send().await {
            Ok(_) => Ok(PutOutcome::Applied),
            Err(error) if code(&error) == Some("ConditionalCheckFailedException") => {
                Ok(if wrong(Mutant::ExistsAsApplied) { PutOutcome::Applied } else { PutOutcome::Exists })
            }
            Err(_) if wrong(Mutant::UnknownAsApplied) => Ok(PutOutcome::Applied),
            Err(error) => Err(port_error(&format!("putting item {pk} {sk} into table {}", self.name), &error)),
        }
    }

    /// Replaces an item whose `data` is still what it was. [`PutOutcome::Exists`] when it is not: perhaps it is what was asked
    /// for already, put by a request whose reply was lost.
    pub(crate) async fn replace(
        &self,
        pk: &str,
        sk: &str,
        before: AttributeValue,
        attributes: Vec<(&str, AttributeValue)>,
    ) -> Result<PutOutcome, PortError> {
        let condition = if wrong(Mutant::ReplaceWithoutCondition) {
            "#data <> :before OR #data = :before"
        } else {
            "#data = :before"
        };
        let request = self.put_request(pk, sk, attributes).condition_expression(condition);
        let request = request.expression_attribute_names("#data", "data");
        match request.expression_attribute_values(":before", before).send().await {
            Ok(_) => Ok(PutOutcome::Applied),
            Err(error) if code(&error) == Some("ConditionalCheckFailedException") => Ok(PutOutcome::Exists),
            Err(error) => Err(port_error(&format!("replacing item {pk} {sk} of table {}", self.name), &error)),
        }
    }

    /// Puts an item on a condition, of which the values that it names are given.
    pub(crate) async fn put_if(
        &self,
        (pk, sk): (&str, &str),
        attributes: Vec<(&str, AttributeValue)>,
        (condition, values): (&str, Vec<(&str, AttributeValue)>),
    ) -> Result<PutOutcome, PortError> {
        let request = self.put_request(pk, sk, attributes).condition_expression(condition);
        let request =
            values.into_iter().fold(request, |request, (name, value)| request.expression_attribute_values(name, value));
        let what = format!("putting item {pk} {sk} into table {}", self.name);
        conditional(&what, request.send().await)
    }

    /// Changes an item as an update expression says, on a condition if there is one; values are given for both.
    pub(crate) async fn update(
        &self,
        (pk, sk): (&str, &str),
        (change, condition): (&str, Option<&str>),
        values: Vec<(&str, AttributeValue)>,
    ) -> Result<PutOutcome, PortError> {
        let request = self.client.update_item().table_name(&self.name).key(PK, text(pk)).key(SK, text(sk));
        let request = request.update_expression(change).set_condition_expression(condition.map(str::to_owned));
        let request =
            values.into_iter().fold(request, |request, (name, value)| request.expression_attribute_values(name, value));
        let what = format!("changing item {pk} {sk} of table {}", self.name);
        conditional(&what, request.send().await)
    }

    /// Deletes an item on a condition, which may hold of none.
    pub(crate) async fn delete_if(
        &self,
        (pk, sk): (&str, &str),
        (condition, (name, value)): (&str, (&str, AttributeValue)),
    ) -> Result<PutOutcome, PortError> {
        let request = self.client.delete_item().table_name(&self.name).key(PK, text(pk)).key(SK, text(sk));
        let request = request.condition_expression(condition).expression_attribute_values(name, value);
        conditional(&format!("deleting item {pk} {sk} of table {}", self.name), request.send().await)
    }

    fn put_request(
        &self,
        pk: &str,
        sk: &str,
        attributes: Vec<(&str, AttributeValue)>,
    ) -> aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder {
        let request = self.client.put_item().table_name(&self.name).item(PK, text(pk)).item(SK, text(sk));
        attributes.into_iter().fold(request, |request, (name, value)| request.item(name, value))
    }

    /// One page of a query, from its beginning or from where the page before ended.
    pub(crate) async fn query(&self, query: Query<'_>, next: Option<Attributes>) -> Result<Page, PortError> {
        let what = format!("querying {} of table {}", query.pk, self.name);
        let request = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(!query.stale)
            .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
            .expression_attribute_values(":pk", text(query.pk))
            .expression_attribute_values(":from", text(query.from))
            .expression_attribute_values(":to", text(query.to))
            .scan_index_forward(!query.falling)
            .set_limit(query.limit)
            .set_projection_expression(query.projection.map(str::to_owned))
            .set_exclusive_start_key(next);
        let reply = request.send().await.map_err(|error| port_error(&what, &error))?;
        let items = reply.items.unwrap_or_default().into_iter().map(|item| Item::new(&self.name, item));
        let next = reply.last_evaluated_key.filter(|_| !wrong(Mutant::PageTokenIgnored));
        Ok(Page { items: items.collect::<Result<_, _>>()?, next })
    }

    /// Every item of a query that is known to have few.
    pub(crate) async fn query_all(&self, query: Query<'_>) -> Result<Vec<Item>, PortError> {
        let (mut items, mut next) = (Vec::new(), None);
        loop {
            let page = self.query(query, next).await?;
            items.extend(page.items);
            next = page.next;
            if next.is_none() {
                return Ok(items);
            }
        }
    }

    /// Deletes items of one partition key, there or not; what a call leaves undone is asked for again after a pause.
    pub(crate) async fn delete(&self, pk: &str, sks: &[String]) -> Result<(), PortError> {
        let what = format!("deleting items {pk} of table {}", self.name);
        for chunk in sks.chunks(DELETES_MAX) {
            let delete = |sk: &String| {
                let request = DeleteRequest::builder().key(PK, text(pk)).key(SK, text(sk)).build();
                WriteRequest::builder().delete_request(request.expect("a delete has a key")).build()
            };
            let mut pending: Vec<WriteRequest> = chunk.iter().map(delete).collect();
            let mut attempt = 0;
            loop {
                let request = self.client.batch_write_item().request_items(&self.name, pending);
                let reply = request.send().await.map_err(|error| port_error(&what, &error))?;
                pending = reply.unprocessed_items.and_then(|mut rest| rest.remove(&self.name)).unwrap_or_default();
                if pending.is_empty() || wrong(Mutant::UndoneForgotten) {
                    break;
                }
                attempt += 1;
                if attempt == DELETE_ATTEMPTS_MAX {
                    return Err(PortError::Retry(format!("{what}: {} are left undone, throttled", pending.len())));
                }
                tokio::time::sleep(Duration::from_millis(backoff_ms(attempt))).await;
            }
        }
        Ok(())
    }
}

/// What a request came to whose condition may not have held.
fn conditional<T, E, R>(what: &str, reply: Result<T, SdkError<E, R>>) -> Result<PutOutcome, PortError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match reply {
        Ok(_) => Ok(PutOutcome::Applied),
        Err(error) if code(&error) == Some("ConditionalCheckFailedException") => Ok(PutOutcome::Exists),
        Err(error) => Err(port_error(what, &error)),
    }
}
