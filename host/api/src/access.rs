//! Who may ask: anyone who reaches a loopback address, or else the bearer of the host's token.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq as _;

use crate::problem::{Kind, Refusal};

/// Fewest characters of a token: what a person would guess is shorter.
pub const TOKEN_CHARS_MIN: usize = 16;

/// What a request must bear. Never shown.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A token; white space around it is not part of it. None when it is shorter than [`TOKEN_CHARS_MIN`] or has
    /// characters that a header cannot carry.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = text.len() >= TOKEN_CHARS_MIN && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.into()))
    }

    /// The text to send.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn admits(&self, given: &str) -> bool {
        // Takes equally long wherever the first difference is, so that a token cannot be guessed piece by piece.
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Access {
    token: Option<Token>,
}

impl Access {
    /// Anyone on this machine. Requests by a foreign name are refused: a web page could otherwise point a name of its
    /// own at this machine and read what its visitor may. So are those a page of another site has a browser send: it could
    /// not read the answer, but what it asks for would be done.
    pub fn loopback() -> Self {
        Self { token: None }
    }

    /// The bearer of a token.
    pub fn token(token: Token) -> Self {
        Self { token: Some(token) }
    }

    /// The token that a request must bear, if any.
    pub fn bearer(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        // What is no text is no token, and no name of this machine.
        let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
        match &self.token {
            Some(token) => {
                let given = header(header::AUTHORIZATION).and_then(|value| value.split_once(' '));
                let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
                match given {
                    Some((_, given)) if token.admits(given.trim()) => Ok(()),
                    Some(_) => Err(Refusal::new(Kind::Unauthorized, "the bearer token is not this host's")),
                    None => Err(Refusal::new(
                        Kind::Unauthorized,
                        "send the token of the host's token-file as `Authorization: Bearer …`",
                    )),
                }
            }
            None => match header(header::HOST) {
                Some(host) if !is_local(host) => Err(Refusal::new(
                    Kind::UnknownHost,
                    format!("this host answers as localhost only, not as {host}; set [host] token-file to open it"),
                )),
                Some(_) | None => match header(header::ORIGIN) {
                    Some(origin) if !is_local_origin(origin) => Err(Refusal::new(
                        Kind::ForeignOrigin,
                        format!("this host does nothing for pages of {origin}; ask it from this machine"),
                    )),
                    Some(_) | None => Ok(()),
                },
            },
        }
    }
}

/// Whether a Host header names this machine.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the Origin header of a browser names this machine.
fn is_local_origin(origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, host)| is_local(host))
}

/// Lets a request through, or answers that it may not.
pub async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.check(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}
