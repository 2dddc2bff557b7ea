//! Clients from the usual AWS environment and profiles.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;

use crate::clock::{DateReader, ServiceClock};

/// Where the services are; what is none comes from the environment and profiles.
#[derive(Clone, Debug, Default)]
pub struct AwsSettings {
    /// Region.
    pub region: Option<String>,
    /// Address of Kinesis.
    pub kinesis_endpoint: Option<String>,
    /// Address of DynamoDB.
    pub dynamodb_endpoint: Option<String>,
}

/// Clients of both services, and the time they tell.
#[derive(Clone, Debug)]
pub struct Connections {
    /// Kinesis.
    pub kinesis: aws_sdk_kinesis::Client,
    /// DynamoDB.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Time by the `Date` of their replies.
    pub clock: Arc<ServiceClock>,
}

/// A request is tried this often by the SDK before its error reaches us. A conditional put whose first reply was lost can
/// come back as a failed condition: the caller settles that by reading, so retries here are safe.
const ATTEMPTS: u32 = 2;

/// Makes clients. Emulators on this machine need neither credentials nor a region: fixed ones stand in for those that are
/// not set, for addresses on the loopback interface alone.
pub async fn connect(settings: &AwsSettings) -> Connections {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(15))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts);
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    let endpoints = [&settings.kinesis_endpoint, &settings.dynamodb_endpoint];
    let local = endpoints.iter().all(|endpoint| endpoint.as_deref().is_some_and(is_loopback));
    if local {
        let unset = |name: &str| std::env::var_os(name).is_none();
        if unset("AWS_ACCESS_KEY_ID") && unset("AWS_PROFILE") {
            loader = loader.credentials_provider(Credentials::new("local", "local", None, None, "loopback"));
        }
        if settings.region.is_none() && unset("AWS_REGION") && unset("AWS_DEFAULT_REGION") {
            loader = loader.region(Region::new("us-east-1"));
        }
    }
    let config = loader.load().await;
    let clock = Arc::new(ServiceClock::default());
    let mut kinesis = aws_sdk_kinesis::config::Builder::from(&config).interceptor(DateReader::new(clock.clone()));
    let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(&config).interceptor(DateReader::new(clock.clone()));
    if let Some(endpoint) = &settings.kinesis_endpoint {
        kinesis = kinesis.endpoint_url(endpoint);
    }
    if let Some(endpoint) = &settings.dynamodb_endpoint {
        dynamodb = dynamodb.endpoint_url(endpoint);
    }
    Connections {
        kinesis: aws_sdk_kinesis::Client::from_conf(kinesis.build()),
        dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
        clock,
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = host.split(['/', '?']).next().unwrap_or_default();
    ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .any(|local| host.strip_prefix(local).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_addresses_of_this_machine_are_loopback() {
        for local in ["http://127.0.0.1:4567", "http://localhost/", "http://[::1]:1"] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in ["http://127.0.0.1.example.com", "https://kinesis.us-east-1.amazonaws.com", "http://localhostess"]
        {
            assert!(!is_loopback(remote), "{remote}");
        }
    }
}
