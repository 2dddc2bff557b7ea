//! `kinesis-local` from npm: a second Kinesis, slow, which reshards as the real one does. It tells the children of a shard
//! and how far behind a reader is, and has UpdateShardCount make children of known parents.
//!
//! Without node and npm it is left out, which is said on stderr; with `PELTON_REQUIRE_NODE` in the environment that is an error.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use pelton_engine::digest_of;

use crate::process::{Process, wait_for};
use crate::servers::free_port;

const PACKAGE: &str = "kinesis-local@0.6.2";
/// Of its only program.
const DIGEST: &str = "6d46874682bffd8c06a3ca90735e292d144626541d1450bc43326557b3dda414";
/// Has it listen on this machine alone.
const LOOPBACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kinesis_local.cjs");
/// How long it takes to make, split or merge what it is asked to.
const TRANSITION: &str = "50ms";

/// A running `kinesis-local`.
#[derive(Debug)]
pub struct KinesisLocal {
    /// Its process.
    pub process: Process,
    port: u16,
}

impl KinesisLocal {
    /// Installs it into a folder unless it is there, starts it with its log in another one, and waits until it answers.
    /// None where it is left out.
    ///
    /// # Errors
    /// When it does not start, or was to be left out and must not be.
    pub fn start(installed: &Path, folder: &Path) -> Result<Option<Self>> {
        let program = match install(installed) {
            Ok(program) => program,
            Err(error) if std::env::var_os("PELTON_REQUIRE_NODE").is_some() => return Err(error),
            Err(error) => {
                // Past the test harness, which keeps what a passing test says to itself.
                writeln!(std::io::stderr(), "left out: {error:#}")?;
                return Ok(None);
            }
        };
        ensure!(is_known(&program), "{} is another {PACKAGE} than the one known", program.display());
        let (port, tls_port) = (free_port()?, free_port()?);
        let mut command = Command::new("node");
        command.args(["--require", LOOPBACK]).arg(&program).current_dir(folder);
        command.env("KINESIS_MOCK_PLAIN_PORT", port.to_string()).env("KINESIS_MOCK_TLS_PORT", tls_port.to_string());
        command.env("KINESIS_MOCK_CERT_PATH", program.with_file_name("server.json"));
        for what in ["CREATE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS", "UPDATE_SHARD_COUNT"] {
            command.env(format!("{what}_DURATION"), TRANSITION);
        }
        let mut process = Process::spawn(command, &folder.join("kinesis-local.log"))?;
        wait_for("kinesis-local", Duration::from_secs(60), || {
            if let Some(status) = process.ended()? {
                bail!("kinesis-local ended with {status}:\n{}", process.said()?);
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(()))
        })?;
        Ok(Some(Self { process, port }))
    }

    /// Where it is.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn is_known(program: &Path) -> bool {
    std::fs::read(program).is_ok_and(|bytes| digest_of(&bytes).to_string() == DIGEST)
}

/// Has npm install the package, unless it is there. Returns its program.
fn install(folder: &Path) -> Result<PathBuf> {
    let missing =
        |name: &str| format!("{name} is not there, and without it nothing is tried on {PACKAGE}; install Node.js");
    let run = |name: &str, args: &[&str]| {
        let output = Command::new(name).args(args).stdin(Stdio::null()).output();
        output.with_context(|| missing(name))
    };
    run("node", &["--version"])?;
    let program = folder.join("node_modules/kinesis-local/main.js");
    if !is_known(&program) {
        let prefix = folder.to_str().context("the path of the tree is no text")?;
        let quietly = ["--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"];
        std::fs::create_dir_all(folder)?;
        let npm = run("npm", &[&["install", "--prefix", prefix, PACKAGE][..], &quietly].concat())?;
        let said = String::from_utf8_lossy(&npm.stderr);
        ensure!(npm.status.success(), "npm cannot install {PACKAGE}, and nothing is tried on it: {said}");
    }
    Ok(program)
}
