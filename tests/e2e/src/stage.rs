//! What every end-to-end test begins with: a folder, the embedded servers and a client.

use std::path::Path;

use anyhow::Result;
use aws_sdk_kinesis::Client;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::host::HostFiles;
use crate::servers::Servers;
use crate::streams::{self, Entry};

/// A folder, running servers, and a client of their Kinesis.
#[derive(Debug)]
pub struct Stage {
    /// The embedded servers.
    pub servers: Servers,
    /// A client of Kinesis.
    pub kinesis: Client,
    runtime: Runtime,
    folder: TempDir,
}

impl Stage {
    /// Starts servers, and makes streams with so many shards each.
    ///
    /// # Errors
    /// When they do not start.
    pub fn set(streams: &[(&str, i32)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let servers = Servers::start(folder.path())?;
        let kinesis = streams::client(&servers.kinesis());
        let stage = Self { servers, kinesis, runtime: Runtime::new()?, folder };
        streams.iter().try_for_each(|(name, shards)| stage.run(streams::create(&stage.kinesis, name, *shards)))?;
        Ok(stage)
    }

    /// Waits for something that is done on the services.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Where this test keeps its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts records.
    ///
    /// # Errors
    /// When Kinesis refuses.
    pub fn put(&self, stream: &str, records: &[Entry]) -> Result<()> {
        self.run(streams::put(&self.kinesis, stream, records))
    }

    /// Writes the configuration of a host with these `[jobs.…]` tables.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn host(&self, name: &str, jobs: &str) -> Result<HostFiles> {
        HostFiles::write(self.folder(), name, &self.servers, jobs)
    }
}

/// A record from its key and text.
pub fn entry(key: &str, text: &str) -> Entry {
    (key.to_owned(), text.as_bytes().to_vec())
}
