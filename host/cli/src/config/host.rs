//! `[host]`: this process.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use pelton_api::{Access, Token};
use toml::de::DeValue;

use super::document::{Document, Table, Wrong};
use super::value;

/// Where a host listens when nothing is said.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7777);
/// Where it keeps its data.
const DATA_DIR: &str = "pelton-data";
/// How long stopping may take.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// No more than this is read of a token's file, which may be a device without an end.
const TOKEN_FILE_BYTES_MAX: u64 = 64 << 10;
const STOP_LIMIT_MIN: Duration = Duration::from_secs(1);
const STOP_LIMIT_MAX: Duration = Duration::from_secs(3600);

/// This process.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Where the HTTP API listens.
    pub listen: SocketAddr,
    /// Where the local copies of the state and compiled components are kept.
    pub data_dir: PathBuf,
    /// What people call it.
    pub name: String,
    /// Who may ask the API.
    pub access: Access,
    /// How long stopping may take.
    pub stop_limit: Duration,
}

/// Resolves the table. What is wrong in it is noted there.
pub fn resolve(table: Option<&Table<'_>>, document: &Document<'_>) -> HostConfig {
    let Some(table) = table else {
        return HostConfig {
            listen: LISTEN,
            data_dir: document.path(DATA_DIR),
            name: machine_name(),
            access: Access::loopback(),
            stop_limit: STOP_LIMIT,
        };
    };
    let listen = table.value("listen", "an address such as \"127.0.0.1:7777\"", address).unwrap_or(LISTEN);
    let token = table.value("token-file", "the path of a file", |value| token(value, document));
    if !listen.ip().is_loopback() && !table.has("token-file") {
        let detail = format!(
            "`listen` {listen} can be reached from other machines: give a `token-file`, or listen on 127.0.0.1:{}",
            listen.port()
        );
        table.fault_of("listen", &detail);
    }
    let stop_limit_ms = table.value("stop-limit", "a duration such as \"30s\"", |value| {
        value::duration_ms(value, STOP_LIMIT_MIN, STOP_LIMIT_MAX)
    });
    let data_dir = table.value("data-dir", "the path of a folder", value::text);
    HostConfig {
        listen,
        data_dir: document.path(data_dir.as_deref().unwrap_or(DATA_DIR)),
        name: table.value("name", "text", value::text).unwrap_or_else(machine_name),
        access: token.map_or_else(Access::loopback, Access::token),
        stop_limit: stop_limit_ms.map_or(STOP_LIMIT, Duration::from_millis),
    }
}

fn address(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    let text = value.as_str().ok_or(Wrong::Type)?;
    let numeric = text.strip_prefix("localhost:").map_or(text.to_owned(), |port| format!("127.0.0.1:{port}"));
    let wrong = |_| Wrong::Value(format!("{text:?} is not an address such as \"127.0.0.1:7777\""));
    numeric.parse().map_err(wrong)
}

fn token(value: &DeValue<'_>, document: &Document<'_>) -> Result<Token, Wrong> {
    let path = document.path(&value::text(value)?);
    let mut text = String::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| Wrong::Value(format!("reading {}: {error}", path.display())))?;
    Token::new(&text).ok_or_else(|| {
        let file = path.display();
        Wrong::Value(format!(
            "{file} holds no token: one line of at least {} visible ASCII characters, such as `openssl rand -hex 32` \
             prints",
            pelton_api::TOKEN_CHARS_MIN
        ))
    })
}

/// What the system calls this machine.
fn machine_name() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    let name = told.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "localhost".into())
}
