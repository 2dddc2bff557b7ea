//! Pelton on AWS: records and outputs on Kinesis, everything durable in one DynamoDB table.
//!
//! What is here speaks to the services and nothing else: it classes their errors by what the caller does next, and leaves
//! every decision to `pelton-core`. Each port of `pelton-engine` has its implementation in a module of its own.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use pelton_aws::{AwsSettings, DynamoTable, connect};
//!
//! let connections = connect(&AwsSettings::default()).await;
//! let table = DynamoTable::open(connections.dynamodb.clone(), "pelton").await?;
//! println!("{}", table.id());
//! # Ok(())
//! # }
//! ```

#[cfg(not(feature = "mutants"))]
mod mutant;
#[cfg(feature = "mutants")]
pub mod mutant;

mod clock;
mod connect;
mod error;

mod sink;
mod source;

mod consumer;
mod subscription;

mod table;

pub mod layout;

mod item;
mod items;

mod changelog;
mod idle;
mod manifest;
mod trim;

mod components;
mod deployments;
mod job;
mod job_error;
mod job_wire;

pub use changelog::DynamoChangelog;
pub use clock::ServiceClock;
pub use components::DynamoComponents;
pub use connect::{AwsSettings, Connections, connect};
pub use consumer::FanOutTimes;
pub use deployments::DynamoDeployments;
pub use job::{JobRequest, JobTable, LostJob, OpenedJob, StartRequest};
pub use job_error::JobError;
pub use sink::{KinesisSink, OutputFormat, OutputStream};
pub use source::KinesisSource;
pub use table::DynamoTable;
