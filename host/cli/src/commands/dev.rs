//! `pelton dev`: Kinesis and DynamoDB in this process, and a host on top of them. Nothing here reaches AWS.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use pelton_aws::AwsSettings;
use serde_json::json;

use super::run::serve;
use crate::args::ConfigArgs;
use crate::aws::ensure_stream;
use crate::config::{self, Config};
use crate::exit::Outcome;
use crate::lock::DataLock;
use crate::open_files;
use crate::print;
use crate::servers::{DYNAMODB_PORT, KINESIS_PORT, Servers};
use crate::signals::Signals;

/// Run Kinesis and DynamoDB on this machine, and a host on top of them.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Keep streams, tables and state in this folder, from one run to the next [default: nothing is kept]. The Kinesis
    /// server then writes all it holds with every put: fit for thousands of records, not for millions.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Run this component, as the job `dev` that reads the stream `in`, without a configuration.
    #[arg(long, value_name = "FILE.wasm", conflicts_with = "config")]
    pub component: Option<PathBuf>,
    /// Deploy a component anew whenever its file changes: its tasks go on from the state that is there.
    #[arg(long)]
    pub watch: bool,
    /// Run the servers alone.
    #[arg(long)]
    pub servers_only: bool,
    /// The port of Kinesis; 0 takes any free one.
    #[arg(long, value_name = "N", default_value_t = KINESIS_PORT)]
    pub kinesis_port: u16,
    /// The port of DynamoDB; 0 takes any free one.
    #[arg(long, value_name = "N", default_value_t = DYNAMODB_PORT)]
    pub dynamodb_port: u16,
    /// Shards of the streams that are made because the configuration names them.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub shards: u16,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Serves until told to stop.
///
/// # Errors
/// When the servers or the host cannot be started.
pub async fn run(args: DevArgs, json: bool, began: Instant) -> anyhow::Result<Outcome> {
    let mut signals = Signals::listen()?;
    let config = match &args.component {
        Some(file) => Some(of_component(file)?),
        None => config::load_if_any(args.config.config.as_deref())?,
    };
    let _lock = args.data.as_deref().map(DataLock::take).transpose()?;
    // For the servers; a host asks for its tasks.
    open_files::allow(0);
    let servers = Servers::start(args.kinesis_port, args.dynamodb_port, args.data.as_deref()).await?;
    tracing::info!("the servers are up {} ms after start", began.elapsed().as_millis());
    let outcome = match config {
        Some(config) => {
            let settings = settings(&servers, &config);
            make_streams(&settings, &config, args.shards).await?;
            if args.servers_only || config.jobs.is_empty() {
                serve_alone(&servers, json, &mut signals).await
            } else {
                host(&args, &servers, settings, config, json, began, &mut signals).await
            }
        }
        None => serve_alone(&servers, json, &mut signals).await,
    };
    servers.stop().await?;
    outcome
}

/// The configuration of a component that has none.
fn of_component(file: &Path) -> anyhow::Result<Config> {
    let file = std::path::absolute(file).with_context(|| format!("finding {}", file.display()))?;
    let path = toml::Value::from(file.to_string_lossy().into_owned());
    let text = format!("[jobs.dev]\ninputs = [\"in\"]\ncomponent = {path}\n");
    Ok(config::resolve(Path::new(config::DEFAULT_FILE), &text)?)
}

fn settings(servers: &Servers, config: &Config) -> AwsSettings {
    AwsSettings {
        region: config.aws.settings.region.clone(),
        kinesis_endpoint: Some(servers.kinesis_url()),
        dynamodb_endpoint: Some(servers.dynamodb_url()),
    }
}

async fn make_streams(settings: &AwsSettings, config: &Config, shards: u16) -> anyhow::Result<()> {
    let kinesis = pelton_aws::connect(settings).await.kinesis;
    let outputs =
        |job: &config::JobConfig| job.outputs.values().map(|output| output.stream.clone()).collect::<Vec<_>>();
    let streams = config.jobs.values().flat_map(|job| job.inputs.iter().cloned().chain(outputs(job)));
    for stream in streams.collect::<BTreeSet<String>>() {
        if ensure_stream(&kinesis, &stream, shards).await? {
            tracing::info!("stream {stream} was made with {shards} shards");
        }
    }
    Ok(())
}

async fn serve_alone(servers: &Servers, json: bool, signals: &mut Signals) -> anyhow::Result<Outcome> {
    let (kinesis, dynamodb) = (servers.kinesis_url(), servers.dynamodb_url());
    if json {
        print::line(&json!({ "kinesis": kinesis, "dynamodb": dynamodb }).to_string())?;
    } else {
        print::line(&format!(
            "kinesis   {kinesis}\ndynamodb  {dynamodb}\n\nThe servers run alone. Try, in another terminal:\n  \
             export AWS_ENDPOINT_URL_KINESIS={kinesis} AWS_ENDPOINT_URL_DYNAMODB={dynamodb} AWS_REGION=us-east-1 \
             AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local\n  \
             aws kinesis create-stream --stream-name orders --shard-count 4\n  \
             pelton run -c pelton.toml    # with both endpoints in its [aws]; or run `pelton dev` beside a pelton.toml"
        ))?;
    }
    signals.next().await;
    tracing::info!("stopping the servers");
    Ok(Outcome::Done)
}

async fn host(
    args: &DevArgs,
    servers: &Servers,
    settings: AwsSettings,
    mut config: Config,
    json: bool,
    began: Instant,
    signals: &mut Signals,
) -> anyhow::Result<Outcome> {
    let configured = &config.aws.settings;
    if configured.kinesis_endpoint.is_some() || configured.dynamodb_endpoint.is_some() {
        tracing::warn!("the addresses in [aws] of {} are not used: dev has its own servers", config.file.display());
    }
    config.aws.settings = settings;
    // What the servers forget, the host must not remember.
    let passing = tempfile::tempdir().context("making a folder for the host's data")?;
    config.host.data_dir = args.data.as_deref().unwrap_or(passing.path()).join("host");
    let hints = hints(&config, args.component.is_some(), servers);
    serve(config, began, signals, args.watch, |running| {
        let (kinesis, dynamodb, api) = (servers.kinesis_url(), servers.dynamodb_url(), running.url());
        if json {
            return print::line(&json!({ "kinesis": kinesis, "dynamodb": dynamodb, "api": api }).to_string());
        }
        print::line(&format!("kinesis   {kinesis}\ndynamodb  {dynamodb}\napi       {api}\n\n{}", hints(api)))
    })
    .await
}

/// Three commands to try, for the host at a URL.
fn hints(config: &Config, is_alone: bool, servers: &Servers) -> impl Fn(&str) -> String + use<> {
    let (job, stream) = config.jobs.iter().next().map_or(("JOB".to_owned(), "STREAM".to_owned()), |(name, job)| {
        (name.clone(), job.inputs.first().cloned().unwrap_or_default())
    });
    let kinesis = servers.kinesis_url();
    let by_file = match config.file == Path::new(config::DEFAULT_FILE) {
        true => String::new(),
        false => format!(" -c {}", config.file.display()),
    };
    let any_port = config.host.listen.port() == 0;
    move |api| {
        let by_url = if any_port { format!(" --url {api}") } else { by_file.clone() };
        // Without a configuration the host tells what the job reads.
        let planned = match is_alone {
            true => format!(" --url {api}"),
            false => format!("{by_file} --endpoint-url {kinesis}"),
        };
        format!(
            "Try, in another terminal:\n  \
             echo '{{\"key\": \"customer-17\", \"data\": \"hello\"}}' \
             | pelton put {stream} --file - --endpoint-url {kinesis}\n  \
             pelton status{by_url}\n  \
             pelton plan {job} --key customer-17{planned}"
        )
    }
}
