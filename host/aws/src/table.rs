//! The one table that holds everything durable: made when missing, refused where its conditions would not hold everywhere.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, MultiRegionConsistency, ScalarAttributeType,
    TableDescription, TableStatus,
};
use pelton_engine::ports::PortError;

use crate::error::{code, persist, port_error};
use crate::layout::{PK, SK};

/// A new table is waited for this many times.
const POLLS_MAX: u32 = 300;
/// And this long each time.
const POLL: Duration = Duration::from_millis(200);

/// A table that is ready.
#[derive(Clone, Debug)]
pub struct DynamoTable {
    pub(crate) client: Client,
    pub(crate) name: String,
    id: String,
}

impl DynamoTable {
    /// Opens a table, made on-demand with string keys `pk` and `sk` when it is missing. Waits until it is ready.
    ///
    /// # Errors
    /// When it has other keys, or replicas in other regions that read what was true a moment ago, or cannot be reached.
    pub async fn open(client: Client, name: &str) -> Result<Self, PortError> {
        let mut described = persist(|| describe(&client, name)).await?;
        if described.is_none() {
            tracing::info!("creating table {name}");
            persist(|| create(&client, name)).await?;
        }
        for _ in 0..POLLS_MAX {
            if let Some(table) = &described
                // A table whose settings change serves as ever.
                && matches!(table.table_status(), Some(TableStatus::Active | TableStatus::Updating))
            {
                check(name, table)?;
                return Ok(Self { client, name: name.into(), id: identity(name, table)? });
            }
            tokio::time::sleep(POLL).await;
            described = persist(|| describe(&client, name)).await?;
        }
        let status = described.as_ref().and_then(TableDescription::table_status).map_or("missing", TableStatus::as_str);
        let waited_s = POLL.as_secs_f64() * f64::from(POLLS_MAX);
        Err(PortError::Stop(format!("table {name} is still {status} after {waited_s} s; wait until it is ACTIVE")))
    }

    /// Tells the table from any other, also from one made later or restored under its name: its ARN and its table id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn identity(name: &str, table: &TableDescription) -> Result<String, PortError> {
    match (table.table_arn(), table.table_id()) {
        (Some(arn), Some(id)) => Ok(format!("{arn} {id}")),
        // Without an id, a table made again would pass for the one before.
        _ => {
            Err(PortError::Stop(format!("table {name}: the service does not say which table it is (ARN and TableId)")))
        }
    }
}

async fn describe(client: &Client, name: &str) -> Result<Option<TableDescription>, PortError> {
    match client.describe_table().table_name(name).send().await {
        Ok(reply) => Ok(reply.table),
        Err(error) if code(&error) == Some("ResourceNotFoundException") => Ok(None),
        Err(error) => Err(port_error(&format!("describing table {name}"), &error)),
    }
}

async fn create(client: &Client, name: &str) -> Result<(), PortError> {
    let mut request = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (key, kind) in [(PK, KeyType::Hash), (SK, KeyType::Range)] {
        let element = KeySchemaElement::builder().attribute_name(key).key_type(kind).build();
        let attribute =
            AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S).build();
        request = request
            .key_schema(element.expect("an element has a name and a type"))
            .attribute_definitions(attribute.expect("an attribute has a name and a type"));
    }
    match request.send().await {
        Ok(_) => Ok(()),
        // Another host makes it too.
        Err(error) if code(&error) == Some("ResourceInUseException") => Ok(()),
        Err(error) => Err(port_error(&format!("creating table {name}"), &error)),
    }
}

fn check(name: &str, table: &TableDescription) -> Result<(), PortError> {
    let keys: Vec<&str> = table.key_schema().iter().map(KeySchemaElement::attribute_name).collect();
    let strings = table.attribute_definitions().iter().all(|attribute| {
        !keys.contains(&attribute.attribute_name()) || attribute.attribute_type() == &ScalarAttributeType::S
    });
    if keys != [PK, SK] || !strings {
        return Err(PortError::Stop(format!(
            "table {name} is not Pelton's: its keys are {keys:?}, and should be the strings {PK} and {SK}; name another table"
        )));
    }
    let strong = table.multi_region_consistency() == Some(&MultiRegionConsistency::Strong);
    if !table.replicas().is_empty() && !strong {
        return Err(PortError::Stop(format!(
            "table {name} has replicas with eventual consistency, where two regions can both win one condition; \
             name a table of one region"
        )));
    }
    Ok(())
}
