//! Reaching Kinesis from a command: by address, by configuration, by the AWS environment, or else the servers of
//! `pelton dev`.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::types::{Shard, StreamStatus};
use clap::Args;
use pelton_aws::AwsSettings;

use crate::args::ConfigArgs;
use crate::config;
use crate::servers::{DYNAMODB_PORT, KINESIS_PORT};

/// Where the services are.
#[derive(Clone, Debug, Args)]
pub struct AwsArgs {
    /// The address of Kinesis [default: as the configuration says, else the AWS environment, else `pelton dev`].
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
    /// The AWS region [default: as the configuration or the AWS environment says].
    #[arg(long)]
    pub region: Option<String>,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Variables any of which says that AWS itself is meant, or another server.
const ENVIRONMENT: [&str; 5] =
    ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS"];
/// A stream that is made is waited for this long.
const ACTIVE_LIMIT: Duration = Duration::from_secs(60);
const ACTIVE_POLL: Duration = Duration::from_millis(50);

/// The addresses at which `pelton dev` answers when nothing else is said.
pub fn dev_settings() -> AwsSettings {
    AwsSettings {
        region: None,
        kinesis_endpoint: Some(format!("http://127.0.0.1:{KINESIS_PORT}")),
        dynamodb_endpoint: Some(format!("http://127.0.0.1:{DYNAMODB_PORT}")),
    }
}

/// Where the services are, by these arguments and a configuration.
///
/// # Errors
/// When the configuration cannot be read.
pub fn settings(args: &AwsArgs) -> anyhow::Result<AwsSettings> {
    let configured = config::load_if_any(args.config.config.as_deref())?.map(|config| config.aws.settings);
    let mut settings = configured.unwrap_or_default();
    if args.region.is_some() {
        settings.region.clone_from(&args.region);
    }
    if let Some(url) = &args.endpoint_url {
        settings.kinesis_endpoint = Some(url.clone());
        settings.dynamodb_endpoint = Some(url.clone());
    }
    let told = settings.kinesis_endpoint.is_some()
        || settings.region.is_some()
        || ENVIRONMENT.iter().any(|name| std::env::var_os(name).is_some());
    Ok(if told { settings } else { dev_settings() })
}

/// What to say of a Kinesis call that failed.
pub fn failure<E, R>(error: &SdkError<E, R>) -> anyhow::Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let service = error.as_service_error();
    match service.map(|service| (service.code(), service.message())) {
        Some((Some(code), Some(message))) => anyhow!("{code}: {message}"),
        Some((Some(code), None)) => anyhow!("{code}"),
        Some((None, _)) | None => match error {
            SdkError::DispatchFailure(_) => {
                let mut cause: &dyn std::error::Error = error;
                while let Some(deeper) = cause.source() {
                    cause = deeper;
                }
                anyhow!("Kinesis does not answer: {cause}")
            }
            error => anyhow!("{}", DisplayErrorContext(error)),
        },
    }
}

/// Which Kinesis was asked, to add to what failed.
pub fn place(settings: &AwsSettings) -> String {
    match (&settings.kinesis_endpoint, &settings.region) {
        (Some(endpoint), _) => format!("at {endpoint}, where `pelton dev` can serve one"),
        (None, Some(region)) => format!("in region {region}"),
        (None, None) => "as the AWS environment says".into(),
    }
}

/// Every shard that is listed of a stream.
///
/// # Errors
/// When there is no such stream, or Kinesis does not answer.
pub async fn list_shards(client: &Client, stream: &str) -> anyhow::Result<Vec<Shard>> {
    let mut shards = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let request = client.list_shards();
        // A page after the first is named by its token alone.
        let request = match token {
            Some(token) => request.next_token(token),
            None => request.stream_name(stream),
        };
        let reply = request.send().await;
        let reply =
            reply.map_err(|error| failure(&error)).with_context(|| format!("listing the shards of stream {stream}"))?;
        token = reply.next_token;
        shards.extend(reply.shards.unwrap_or_default());
        if token.is_none() {
            return Ok(shards);
        }
    }
}

/// Makes a stream unless there is one, and waits until it takes records. Returns whether it was made.
///
/// # Errors
/// When Kinesis refuses, or takes too long.
pub async fn ensure_stream(client: &Client, stream: &str, shards: u16) -> anyhow::Result<bool> {
    let began = tokio::time::Instant::now();
    let mut made = false;
    loop {
        match client.describe_stream_summary().stream_name(stream).send().await {
            Ok(reply) => {
                let status = reply.stream_description_summary.map(|summary| summary.stream_status);
                if matches!(status, Some(StreamStatus::Active | StreamStatus::Updating)) {
                    return Ok(made);
                }
            }
            Err(error) if is_missing(&error) && !made => {
                let create = client.create_stream().stream_name(stream).shard_count(shards.into()).send().await;
                create.map_err(|error| failure(&error)).with_context(|| format!("creating stream {stream}"))?;
                made = true;
            }
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(failure(&error).context(format!("describing stream {stream}"))),
        }
        if began.elapsed() > ACTIVE_LIMIT {
            bail!("stream {stream} is not active after {} s", ACTIVE_LIMIT.as_secs());
        }
        tokio::time::sleep(ACTIVE_POLL).await;
    }
}

fn is_missing(error: &impl ProvideErrorMetadata) -> bool {
    error.code() == Some("ResourceNotFoundException")
}
