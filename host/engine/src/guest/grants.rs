//! What a deployment grants its instances beside their own task: variables, and hosts that they may call. Nothing by default.
//! A host is named as people write it; whoever is not named is not called.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::limits::{ENV_BYTES_MAX, HTTP_HOSTS_MAX, LOOKUPS_MAX, REFUSALS_TOLD_MAX};
use super::log::cut;

/// What a deployment grants.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Variables of the environment. Their values may be secrets, so nothing shows them.
    pub env: BTreeMap<String, String>,
    /// Who may be called.
    pub http: BTreeSet<HttpHost>,
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.env.keys().collect();
        f.debug_struct("Grants").field("env", &names).field("http", &self.http).finish()
    }
}

impl Grants {
    /// Whether this can be granted.
    ///
    /// # Errors
    /// Names the first part that cannot, and never a variable's value.
    pub fn check(&self) -> Result<(), String> {
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(format!("env: {name:?} is not a variable's name"));
            }
            if value.contains('\0') {
                return Err(format!("env: the value of {name} has a zero byte"));
            }
        }
        let env_bytes: usize = self.env.iter().map(|(name, value)| name.len() + value.len()).sum();
        if env_bytes > ENV_BYTES_MAX {
            return Err(format!("env: names and values have {env_bytes} bytes; at most {ENV_BYTES_MAX}"));
        }
        if self.http.len() > HTTP_HOSTS_MAX {
            return Err(format!("http: {} hosts; at most {HTTP_HOSTS_MAX}", self.http.len()));
        }
        Ok(())
    }
}

/// By which protocol a host is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP over TLS: what is meant where nothing is said.
    Https,
    /// HTTP as it is.
    Http,
}

impl Protocol {
    /// The port that is meant where none is said.
    pub fn port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Address(IpAddr),
    Exact(String),
    /// Every name that ends in a dot and this.
    Below(String),
}

/// A host that may be called, or all below a domain: `[http://][*.]HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpHost {
    name: Name,
    port: u16,
    protocol: Protocol,
}

impl FromStr for HttpHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is not a host such as \"api.example.com\": {why}");
        let (protocol, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Protocol::Http, rest),
            Some(("https", rest)) => return Err(wrong(&format!("https is what {rest:?} means"))),
            Some(_) => return Err(wrong("the only protocol that is named is http://")),
            None => (Protocol::Https, text),
        };
        let (host, port) = split_port(rest);
        let port = match port {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok().filter(|port| *port > 0),
            Some(_) => None,
            None => Some(protocol.port()),
        };
        let port = port.ok_or_else(|| wrong("a port is a number from 1 to 65535"))?;
        let (host, below) = match host.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (host, false),
        };
        let name = match address(host) {
            Some(_) if below => return Err(wrong("an address has nothing below it")),
            Some(address) => Name::Address(address),
            None => {
                let name = host.to_ascii_lowercase();
                let labels: Vec<&str> = name.split('.').collect();
                if name.contains('*') {
                    return Err(wrong("the only place for * is as its first label, as in \"*.example.com\""));
                }
                if name.len() > 253 || !labels.iter().all(|label| is_label(label)) {
                    return Err(wrong("it is neither a name nor an address, or there is more than one"));
                }
                if labels.last().is_some_and(|last| last.starts_with(|first: char| first.is_ascii_digit())) {
                    return Err(wrong("it ends like an address and is none"));
                }
                if below && labels.len() < 2 {
                    return Err(wrong("* stands for what is below a domain of two labels or more"));
                }
                if below { Name::Below(name) } else { Name::Exact(name) }
            }
        };
        Ok(Self { name, port, protocol })
    }
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&label.len()) && label.bytes().all(allowed)
}

/// What stands before the last colon and behind it; the colons in brackets are an address's own.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    }
}

/// The address that a host is, if it is one.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

impl fmt::Display for HttpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.protocol == Protocol::Http {
            f.write_str("http://")?;
        }
        match &self.name {
            Name::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            Name::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            Name::Exact(name) => f.write_str(name)?,
            Name::Below(domain) => write!(f, "*.{domain}")?,
        }
        if self.port == self.protocol.port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Which addresses of a host that may be called are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Addresses {
    /// Those of the internet: the host is one of many below a domain, and whoever names those decides where they lead.
    Public,
    /// Any: the host was named in full.
    All,
}

/// Why a host is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It is not named.
    NotGranted,
    /// A shadow calls nobody: what it does must have no consequence.
    Shadow,
}

/// What the instances of a deployment are granted on this host.
#[derive(Debug)]
pub struct Granted {
    grants: Grants,
    is_shadow: bool,
    /// Refusals that were told in the log.
    told: Mutex<BTreeSet<String>>,
    /// Room for look-ups of names.
    pub(super) lookups: Arc<Semaphore>,
}

impl Granted {
    /// What these grants give.
    pub fn new(grants: Grants) -> Self {
        Self { grants, is_shadow: false, told: Mutex::default(), lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// What they give an instance that must have no consequence: its variables, and a refusal of each call.
    pub fn for_shadow(&self) -> Self {
        Self { is_shadow: true, ..Self::new(self.grants.clone()) }
    }

    /// What a component may need.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Which addresses of a host are good to call; its name is as a request gives it.
    pub(super) fn allows(&self, protocol: Protocol, host: &str, port: u16) -> Result<Addresses, Denial> {
        if self.is_shadow {
            return Err(Denial::Shadow);
        }
        let (address, host) = (address(host), host.to_ascii_lowercase());
        let allowed = |granted: &HttpHost| match &granted.name {
            Name::Address(named) => (address == Some(*named)).then_some(Addresses::All),
            Name::Exact(named) => (host == *named).then_some(Addresses::All),
            Name::Below(domain) => {
                let rest = host.strip_suffix(domain.as_str()).and_then(|rest| rest.strip_suffix('.'));
                rest.is_some_and(|rest| rest.split('.').all(is_label)).then_some(Addresses::Public)
            }
        };
        let here = self.grants.http.iter().filter(|granted| granted.protocol == protocol && granted.port == port);
        here.filter_map(allowed).max().ok_or(Denial::NotGranted)
    }

    /// How a refusal is to be told, if it is: once, and of so many different ones only the first. The last of them says so.
    pub(super) fn told_as(&self, refusal: &str) -> Option<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.len() < REFUSALS_TOLD_MAX && told.insert(cut(refusal).to_owned());
        is_news.then(|| match told.len() {
            REFUSALS_TOLD_MAX => format!("of this deployment the last refusal that is told: {refusal}"),
            _ => refusal.to_owned(),
        })
    }
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
