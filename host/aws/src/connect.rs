//! Clients from the usual AWS environment and profiles.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, ConnectorBuilder, tls};

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
    /// Kinesis again, for subscriptions to shards, on connections apart: one connection bears a bounded number of open
    /// streams, and those that stay open must not keep requests from it.
    pub subscribers: Vec<aws_sdk_kinesis::Client>,
    /// DynamoDB.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Time by the `Date` of their replies.
    pub clock: Arc<ServiceClock>,
}

/// A request is tried this often before its error reaches us: once more covers a pooled connection that the service closed,
/// and what is not covered the callers repeat with pauses of their own. A conditional put whose first reply was lost can so
/// come back as a failed condition; the caller settles any failed condition by reading whose item stands there. A record put
/// twice is what "at least once" allows.
const ATTEMPTS: u32 = 2;
/// A connection is there after this, or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The first byte of a reply; GetRecords may look through much before it answers.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// A whole attempt, of up to 10 MiB.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// Makes clients from the usual AWS environment and profiles. Servers on this machine need none of it: for an address on the
/// loopback interface, and for no other, fixed credentials and a region stand in where the environment names none, and
/// proxies are passed by.
pub async fn connect(settings: &AwsSettings) -> Connections {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts);
    let kinesis = Endpoint::new(settings.kinesis_endpoint.as_deref());
    let dynamodb = Endpoint::new(settings.dynamodb_endpoint.as_deref());
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    } else if kinesis.is_local() && dynamodb.is_local() && unset(&["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"]) {
        // Set here, so that nobody asks the metadata service of a cloud machine for it.
        loader = loader.region(Region::new(LOCAL_REGION));
    }
    let config = loader.load().await;
    let clock = Arc::new(ServiceClock::default());
    let mut at_kinesis = aws_sdk_kinesis::config::Builder::from(&kinesis.fitted(&config));
    at_kinesis = at_kinesis.interceptor(DateReader::new(clock.clone()));
    let mut at_dynamodb = aws_sdk_dynamodb::config::Builder::from(&dynamodb.fitted(&config));
    at_dynamodb = at_dynamodb.interceptor(DateReader::new(clock.clone()));
    if let Some(address) = &settings.kinesis_endpoint {
        at_kinesis = at_kinesis.endpoint_url(address);
    }
    if let Some(address) = &settings.dynamodb_endpoint {
        at_dynamodb = at_dynamodb.endpoint_url(address);
    }
    let kinesis_client = aws_sdk_kinesis::Client::from_conf(at_kinesis.build());
    Connections {
        subscribers: subscribers(&kinesis_client, kinesis.is_local()),
        kinesis: kinesis_client,
        dynamodb: aws_sdk_dynamodb::Client::from_conf(at_dynamodb.build()),
        clock,
    }
}

/// Connections that subscriptions are spread over.
const SUBSCRIBERS: usize = 16;

/// Clients with connections of their own, made like the SDK's default. Plain HTTP has one for each open reply anyway.
fn subscribers(kinesis: &aws_sdk_kinesis::Client, local: bool) -> Vec<aws_sdk_kinesis::Client> {
    if local {
        return vec![kinesis.clone()];
    }
    let apart = || {
        let http = Builder::new().build_with_connector_fn(|settings, components| {
            let provider = tls::Provider::Rustls(CryptoMode::AwsLc);
            let mut connector = ConnectorBuilder::default().tls_provider(provider);
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            connector.set_proxy_config(Some(ProxyConfig::from_env()));
            connector.build()
        });
        aws_sdk_kinesis::Client::from_conf(kinesis.config().to_builder().http_client(http).build())
    };
    std::iter::repeat_with(apart).take(SUBSCRIBERS).collect()
}

/// The region of servers on this machine when nothing names one.
const LOCAL_REGION: &str = "us-east-1";

/// Where one service is.
enum Endpoint<'a> {
    /// Where the settings or the environment say, away from here.
    Usual,
    /// At an address on the loopback interface.
    Local(&'a str),
}

impl<'a> Endpoint<'a> {
    fn new(address: Option<&'a str>) -> Self {
        match address {
            Some(address) if is_loopback(address) => Self::Local(address),
            Some(_) | None => Self::Usual,
        }
    }

    fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// What the services share, made to fit this one.
    fn fitted(&self, config: &SdkConfig) -> SdkConfig {
        let Self::Local(address) = self else { return config.clone() };
        let mut fitted = config.clone().into_builder();
        if unset(&["AWS_ACCESS_KEY_ID", "AWS_PROFILE"]) {
            let credentials = Credentials::new("local", "local", None, None, "loopback");
            fitted = fitted.credentials_provider(SharedCredentialsProvider::new(credentials));
        }
        if config.region().is_none() {
            fitted = fitted.region(Region::new(LOCAL_REGION));
        }
        if !address.starts_with("https://") {
            // The SDK's own client would take a plain request to HTTP_PROXY, which cannot know this machine.
            fitted = fitted.http_client(Builder::new().build_http());
        }
        fitted.build()
    }
}

fn unset(names: &[&str]) -> bool {
    names.iter().all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty()))
}

/// Whether an address is on this machine: one of its names, then at most a port, then at most a path. Anything before an
/// `@` is no host.
fn is_loopback(address: &str) -> bool {
    let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let port = ["127.0.0.1", "localhost", "[::1]"].iter().find_map(|local| authority.strip_prefix(local));
    port.is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_addresses_of_this_machine_are_loopback() {
        for local in ["http://127.0.0.1:4567", "http://localhost/", "http://[::1]:1"] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in [
            "http://127.0.0.1.example.com",
            "https://kinesis.us-east-1.amazonaws.com",
            "http://localhostess",
            "http://localhost:x@example.com",
            "http://localhost:1@example.com",
        ] {
            assert!(!is_loopback(remote), "{remote}");
        }
    }
}
