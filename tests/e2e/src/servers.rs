//! The embedded Kinesis and DynamoDB as a process of their own, so that hosts can be killed above them.

use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
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

/// Where ports for servers are looked for: below those that Linux gives to clients, from 32768 on, any of which could take a port
/// that was free a moment ago.
const PORTS: std::ops::Range<u32> = 12_000..32_000;

/// A port that is free, and given to nobody else in this process.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Processes side by side begin at different places.
    let first = std::process::id().wrapping_mul(97);
    for _ in PORTS {
        let at = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + at % PORTS.len() as u32)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port from {} to {} is free", PORTS.start, PORTS.end)
}
