//! The embedded Kinesis and DynamoDB as a process of their own, so that hosts can be killed above them.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::process::{Process, wait_for};

/// Running servers.
#[derive(Debug)]
pub struct Servers {
    /// Their process.
    pub process: Process,
    /// Port of Kinesis.
    pub kinesis_port: u16,
    /// Port of DynamoDB.
    pub dynamodb_port: u16,
}

impl Servers {
    /// Starts them with their logs in this folder, and waits until both answer.
    ///
    /// # Errors
    /// When they do not start.
    pub fn start(folder: &Path) -> Result<Self> {
        let (kinesis_port, dynamodb_port) = (free_port()?, free_port()?);
        let (kinesis, dynamodb) = (kinesis_port.to_string(), dynamodb_port.to_string());
        let args = ["dev", "--servers-only", "--kinesis-port", &kinesis, "--dynamodb-port", &dynamodb];
        let mut process = Process::start(&args, &[], &folder.join("servers.log"))?;
        wait_for("the embedded servers", Duration::from_secs(20), || {
            if let Some(status) = process.ended()? {
                anyhow::bail!("the servers ended with {status}:\n{}", process.said()?);
            }
            let answers = |port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            Ok((answers(kinesis_port) && answers(dynamodb_port)).then_some(()))
        })?;
        Ok(Self { process, kinesis_port, dynamodb_port })
    }

    /// Where Kinesis is.
    pub fn kinesis(&self) -> String {
        format!("http://127.0.0.1:{}", self.kinesis_port)
    }

    /// Where DynamoDB is.
    pub fn dynamodb(&self) -> String {
        format!("http://127.0.0.1:{}", self.dynamodb_port)
    }
}

/// A port that was free a moment ago.
///
/// # Errors
/// When the system has none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
