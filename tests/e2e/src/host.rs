//! A host as a process, its configuration written for the servers of a test.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::api::Api;
use crate::process::Process;
use crate::servers::{Servers, free_port};

/// A host that can be started, killed and started again.
#[derive(Debug)]
pub struct HostFiles {
    /// Its configuration file.
    pub config: PathBuf,
    /// Its data folder.
    pub data: PathBuf,
    /// What it said, over all its lives.
    pub log: PathBuf,
    /// Where it answers.
    pub port: u16,
}

impl HostFiles {
    /// Writes the configuration of a host named so, with these `[jobs.…]` tables.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(folder: &Path, name: &str, servers: &Servers, jobs: &str) -> Result<Self> {
        let files = Self {
            config: folder.join(format!("{name}.toml")),
            data: folder.join(format!("{name}-data")),
            log: folder.join(format!("{name}.log")),
            port: free_port()?,
        };
        let text = format!(
            "[host]\nlisten = \"127.0.0.1:{}\"\ndata-dir = {:?}\n\n\
             [aws]\ntable = \"pelton-test\"\nkinesis-endpoint = {:?}\ndynamodb-endpoint = {:?}\n\n{jobs}\n",
            files.port,
            files.data,
            servers.kinesis(),
            servers.dynamodb(),
        );
        std::fs::write(&files.config, text)?;
        Ok(files)
    }

    /// Has the host read from another Kinesis than that of its servers.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn read_from(self, kinesis: &str, servers: &Servers) -> Result<Self> {
        let text = std::fs::read_to_string(&self.config)?;
        let address = |address: &str| format!("{address:?}");
        std::fs::write(&self.config, text.replace(&address(&servers.kinesis()), &address(kinesis)))?;
        Ok(self)
    }

    /// Starts the host.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, environment: &[(&str, &str)]) -> Result<Process> {
        let config = self.config.to_string_lossy();
        Process::start(&["run", "-c", &config], environment, &self.log)
    }

    /// Starts the host with as many open files as most systems give a process, which may have more.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with_few_files(&self) -> Result<Process> {
        Process::start_under("ulimit -Sn 1024", &["run", "-c", &self.config.to_string_lossy()], &self.log)
    }

    /// Starts the host where a file takes no more than so many bytes, and writing more fails as on a full disk.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_on_disk_of(&self, bytes: usize) -> Result<Process> {
        let config = self.config.to_string_lossy();
        // In blocks of 512 bytes. Who passes it is sent a signal, which is ignored.
        Process::start_under(&format!("trap '' XFSZ && ulimit -f {}", bytes / 512), &["run", "-c", &config], &self.log)
    }

    /// How to ask it things.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn api(&self) -> Result<Api> {
        Api::at(self.port)
    }
}
