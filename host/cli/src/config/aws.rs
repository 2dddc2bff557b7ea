//! `[aws]`: the services, as far as the AWS environment and profiles do not say.

use pelton_aws::AwsSettings;

use super::document::Table;
use super::value;

/// The table when none is named.
const TABLE: &str = "pelton";

/// The services.
#[derive(Clone, Debug)]
pub struct AwsConfig {
    /// The DynamoDB table.
    pub table: String,
    /// Where the services are; what is none comes from the environment.
    pub settings: AwsSettings,
}

/// Resolves the table. What is wrong in it is noted there.
pub fn resolve(table: Option<&Table<'_>>) -> AwsConfig {
    let Some(table) = table else {
        return AwsConfig { table: TABLE.into(), settings: AwsSettings::default() };
    };
    let address = |key| table.value(key, "an address such as \"http://127.0.0.1:4567\"", value::endpoint);
    let both = address("endpoint");
    AwsConfig {
        table: table.value("table", "the name of a table", value::table_name).unwrap_or_else(|| TABLE.into()),
        settings: AwsSettings {
            region: table.value("region", "a region such as \"eu-west-1\"", value::text),
            kinesis_endpoint: address("kinesis-endpoint").or_else(|| both.clone()),
            dynamodb_endpoint: address("dynamodb-endpoint").or(both),
        },
    }
}
