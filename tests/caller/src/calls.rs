//! Calls of all kinds that a guest may try.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
    http_error_code,
};
use wasip2::io::poll;
use wasip2::io::streams::StreamError;

/// How much of a body is read at once.
const PART_BYTES: u64 = 64 * 1024;
/// Calls begun at once by one that may make fewer.
const CROWD: usize = 12;

fn request(url: &str) -> OutgoingRequest {
    let request = OutgoingRequest::new(Fields::new());
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let set = request.set_scheme(Some(&scheme)).is_ok()
        && request.set_authority(Some(authority)).is_ok()
        && request.set_path_with_query(Some(path)).is_ok();
    assert!(set, "{url} can be asked for");
    request
}

fn answer(future: &FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    future.subscribe().block();
    future.get().expect("it was waited for").expect("it was not taken")
}

/// What is in an answer, or how many bytes, or why it could not be read.
fn read(response: &IncomingResponse) -> Result<String, ErrorCode> {
    let body = response.consume().expect("nobody consumed it");
    let stream = body.stream().expect("nobody took it");
    let (mut text, mut bytes) = (String::new(), 0);
    loop {
        match stream.blocking_read(PART_BYTES) {
            Ok(part) => {
                bytes += part.len();
                if bytes < 1_000 {
                    text += &String::from_utf8_lossy(&part);
                }
            }
            Err(StreamError::Closed) if bytes < 1_000 => return Ok(text),
            Err(StreamError::Closed) => return Ok(format!("{bytes} bytes")),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(http_error_code(&error).unwrap_or(ErrorCode::InternalError(Some(error.to_debug_string()))));
            }
        }
    }
}

/// Status and body of an answer.
pub fn get_or_fail(url: &str) -> Result<String, String> {
    let called = handle(request(url), None).and_then(|future| {
        let response = answer(&future)?;
        Ok(format!("{} {}", response.status(), read(&response)?))
    });
    called.map_err(|error| format!("{error:?}"))
}

/// The same, or the error.
pub fn get(url: &str) -> String {
    get_or_fail(url).unwrap_or_else(|error| error)
}

/// Sends as much as is taken, and says what came of it.
pub fn upload(url: &str) -> String {
    let request = request(url);
    request.set_method(&Method::Post).expect("it can be asked so");
    let body = request.body().expect("it has one");
    let stream = body.write().expect("nobody took it");
    let future = match handle(request, None) {
        Ok(future) => future,
        Err(error) => return format!("{error:?}"),
    };
    while stream.blocking_write_and_flush(&[b'a'; 4096]).is_ok() {}
    answer(&future).map_or_else(|error| format!("{error:?}"), |response| response.status().to_string())
}

/// What comes first: an answer, or five seconds.
pub fn race(url: &str) -> String {
    let future = match handle(request(url), None) {
        Ok(future) => future,
        Err(error) => return format!("{error:?}"),
    };
    let late = wasip2::clocks::monotonic_clock::subscribe_duration(5_000_000_000);
    let ready = poll::poll(&[&future.subscribe(), &late]);
    if ready.contains(&0) { "the answer".into() } else { "five seconds".into() }
}

/// How many of many calls at once are refused for being too many; the others are waited for.
pub fn crowd(url: &str) -> String {
    let futures: Vec<_> = (0..CROWD).map(|_| handle(request(url), None)).collect();
    let answers = futures.into_iter().map(|future| answer(&future?));
    let answers: Vec<_> = answers.collect();
    let refused = answers.iter().filter(|answer| matches!(answer, Err(ErrorCode::ConnectionLimitReached))).count();
    let answered = answers.iter().filter(|answer| answer.is_ok()).count();
    format!("{answered} answered, {refused} refused")
}

/// Writes a body that nobody was ever asked to take.
pub fn unsent() -> String {
    let request = OutgoingRequest::new(Fields::new());
    let body: OutgoingBody = request.body().expect("it has one");
    let stream = body.write().expect("nobody took it");
    while stream.blocking_write_and_flush(&[0; 4096]).is_ok() {}
    "it was taken".into()
}

/// Asks again and again whether there is an answer, and never waits.
pub fn spin(url: &str) -> String {
    let future = handle(request(url), None).expect("it may call");
    while future.get().is_none() {}
    "there is one".into()
}

/// Calls, and does not wait for the answer.
pub fn leave(url: &str) -> String {
    let future = handle(request(url), None).expect("it may call");
    // Not even ended with the call of the logic.
    std::mem::forget(future);
    "left".into()
}

/// Has the host keep texts as long as there is memory for, and says which it refused.
pub fn hoard() -> String {
    let long = "a".repeat(20_000_000);
    let request = OutgoingRequest::new(Fields::new());
    let method = request.set_method(&Method::Other(long.clone())).is_err();
    let authority = request.set_authority(Some(&long)).is_err();
    let path = request.set_path_with_query(Some(&format!("/{long}"))).is_err();
    format!("method {method}, authority {authority}, path {path}")
}

/// Has it keep header fields, which may be as long.
pub fn fields() -> String {
    let fields = Fields::new();
    for _ in 0..1_000 {
        // What is refused is what is tried for.
        let _ = fields.append("a", &[b'a'; 1_000]);
    }
    "they were kept".into()
}
