//! The HTTP API of a running host, as the commands ask it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use pelton_api::model::page::Page;
use pelton_api::{Problem, Token};
use pelton_engine::guest::limits::{COMPILE_S_MAX, COMPILE_WAIT_S_MAX};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::ConfigArgs;
use crate::config::{self, HostConfig};
use crate::exit::usage;

/// Longest that a host may be silent; checking a large component takes a while.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);

const _: () = assert!(COMPILE_WAIT_S_MAX + COMPILE_S_MAX < SILENCE_LIMIT.as_secs());

/// Items of a page that is asked for: few enough that an answer comes soon.
const PAGE_ITEMS: usize = 200;

/// Which host.
#[derive(Clone, Debug, Args)]
pub struct HostArgs {
    /// The address of the host's API [default: as the configuration says, else http://127.0.0.1:7777].
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// A file with the host's token [default: as the configuration says].
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// A running host.
pub struct HostClient {
    base: Url,
    http: reqwest::Client,
    token: Option<Token>,
}

impl HostClient {
    /// The host that these arguments name.
    ///
    /// # Errors
    /// When they name none.
    pub fn new(args: &HostArgs) -> anyhow::Result<Self> {
        let configured = match &args.url {
            Some(_) => None,
            None => config::load_if_any(args.config.config.as_deref())?.map(|config| config.host),
        };
        let base = match (&args.url, &configured) {
            (Some(url), _) => url.clone(),
            (None, Some(host)) => address(host)?,
            (None, None) => format!("http://{}", config::LISTEN),
        };
        let base = Url::parse(&base).map_err(|error| usage(format!("--url {base:?}: {error}")))?;
        if !matches!(base.scheme(), "http") {
            return Err(usage(format!("--url {base}: only http:// is spoken")));
        }
        let token = match &args.token_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
                let none = || usage(format!("--token-file {} holds no token", file.display()));
                Some(Token::new(&text).ok_or_else(none)?)
            }
            None => configured.and_then(|host| host.access.bearer().cloned()),
        };
        let http = reqwest::Client::builder().no_proxy().read_timeout(SILENCE_LIMIT).build()?;
        Ok(Self { base, http, token })
    }

    /// What a GET brings.
    ///
    /// # Errors
    /// With what the host says is wrong, or when it does not answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<T> {
        self.ask(Method::GET, path, query, None).await
    }

    /// Up to `limit` items of a list, page by page.
    ///
    /// # Errors
    /// As [`HostClient::get`].
    pub async fn list<P: Page + DeserializeOwned>(&self, path: &[&str], limit: usize) -> anyhow::Result<Vec<P::Item>> {
        let mut items = Vec::new();
        let mut start: Option<String> = None;
        while items.len() < limit {
            let asked = (limit - items.len()).min(PAGE_ITEMS).to_string();
            let mut query = vec![("limit", asked.as_str())];
            query.extend(start.as_deref().map(|start| ("start", start)));
            let (page, next) = self.get::<P>(path, &query).await?.parts();
            items.extend(page);
            match next {
                Some(next) => start = Some(next),
                None => break,
            }
        }
        Ok(items)
    }

    /// What a PUT brings.
    ///
    /// # Errors
    /// As [`HostClient::get`].
    pub async fn put<T: DeserializeOwned>(&self, path: &[&str], body: Vec<u8>) -> anyhow::Result<T> {
        self.ask(Method::PUT, path, &[], Some(body)).await
    }

    /// What a POST brings.
    ///
    /// # Errors
    /// As [`HostClient::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &[&str]) -> anyhow::Result<T> {
        self.ask(Method::POST, path, &[], None).await
    }

    /// What a POST with these parameters brings.
    ///
    /// # Errors
    /// As [`HostClient::get`].
    pub async fn post_with<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<T> {
        self.ask(Method::POST, path, query, None).await
    }

    /// What a POST with a body brings.
    ///
    /// # Errors
    /// As [`HostClient::get`].
    pub async fn post_json<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> anyhow::Result<T> {
        self.ask(Method::POST, path, &[], Some(serde_json::to_vec(body)?)).await
    }

    /// What a DELETE brings.
    ///
    /// # Errors
    /// As [`HostClient::get`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> anyhow::Result<T> {
        self.ask(Method::DELETE, path, &[], None).await
    }

    /// The events that a GET brings, as they come.
    ///
    /// # Errors
    /// As [`HostClient::get`].
    pub async fn watch(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Events> {
        let answer = self.send(Method::GET, path, query, None).await?;
        Ok(Events { answer, rest: Vec::new(), lines: Vec::new() })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> anyhow::Result<T> {
        let answer = self.send(method, path, query, body).await?;
        let bytes = answer.bytes().await.with_context(|| format!("reading the answer of {}", self.base))?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{} answers as no host of this version does; is it one?", self.base))
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> anyhow::Result<Response> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| usage(format!("--url {} is no address", self.base)))?
            .pop_if_empty()
            .extend(path);
        let mut request = self.http.request(method, url).query(query);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => {
                let base = &self.base;
                bail!("no host answers at {base}; `pelton run` and `pelton dev` start one, --url names another")
            }
            Err(error) => return Err(error).with_context(|| format!("asking the host at {}", self.base)),
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let bytes = answer.bytes().await.with_context(|| format!("reading the answer of {}", self.base))?;
        Err(refusal(status, &bytes))
    }
}

/// An event that a host sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// What it is.
    pub name: String,
    /// JSON.
    pub data: String,
}

/// Events as a host sends them.
pub struct Events {
    answer: Response,
    /// What came behind the last whole line.
    rest: Vec<u8>,
    /// Whole lines, the next one last.
    lines: Vec<String>,
}

impl Events {
    /// The next event; none at the end.
    ///
    /// # Errors
    /// When the host is cut off, or silent for too long.
    pub async fn next(&mut self) -> anyhow::Result<Option<Sent>> {
        let mut sent = Sent::default();
        loop {
            while let Some(line) = self.lines.pop() {
                match line.split_once(": ") {
                    Some(("event", name)) => sent.name = name.to_owned(),
                    // A host sends the data of an event in one line.
                    Some(("data", data)) => sent.data = data.to_owned(),
                    None if line.is_empty() && !sent.data.is_empty() => return Ok(Some(sent)),
                    Some(_) | None => {}
                }
            }
            let Some(chunk) = self.answer.chunk().await.context("the host was cut off")? else { return Ok(None) };
            self.rest.extend_from_slice(&chunk);
            let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { continue };
            let whole: Vec<u8> = self.rest.drain(..=end).collect();
            self.lines = String::from_utf8_lossy(&whole).lines().rev().map(str::to_owned).collect();
        }
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> anyhow::Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => anyhow::anyhow!("{} ({})", problem.detail, problem.title),
        Err(_) => anyhow::anyhow!("the host answered {status}"),
    }
}

/// Where a host of this machine that listens so is reached.
fn address(host: &HostConfig) -> anyhow::Result<String> {
    let mut address = host.listen;
    if address.port() == 0 {
        bail!("the configuration has the host listen on any free port; name the one it took with --url");
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    Ok(format!("http://{address}"))
}
