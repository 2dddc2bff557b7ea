//! Whatever is wrong with a request is told as a problem, whoever noticed it.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};

use axum::body::Body;
use axum::http::{Request, header};
use pelton_api::{Access, Token};
use pelton_engine::Compiler;
use pelton_engine::guest::{ChildCompiler, CompileLimits};

use crate::fixture::Api;

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let api = Api::new(Access::loopback(), &["orders"]);
    for (line, status, kind, detail) in [
        ("GET /", 404, "unknown-route", "there is nothing at /"),
        ("GET /v1/job", 404, "unknown-route", "there is nothing at /v1/job"),
        ("DELETE /v1/jobs", 405, "method-not-allowed", "/v1/jobs does not take DELETE"),
        ("POST /healthz", 405, "method-not-allowed", "does not take POST"),
        ("GET /v1/jobs?limt=1", 400, "invalid-parameter", "unknown parameter \"limt\"; did you mean limit?"),
        ("GET /v1/jobs/orders?limit=1", 400, "invalid-parameter", "this address takes none"),
        ("GET /v1/jobs?limit=0", 400, "invalid-parameter", "a whole number from 1 to 1000"),
        ("GET /v1/jobs?limit=1001", 400, "invalid-parameter", "a whole number from 1 to 1000"),
        ("GET /v1/components?start=abc", 400, "invalid-parameter", "\"abc\" is not a digest"),
        ("GET /v1/events?job=a", 400, "invalid-parameter", "this address takes none"),
        ("POST /openapi.json", 405, "method-not-allowed", "does not take POST"),
        ("GET /v1/jobs/none", 404, "unknown-job", "this host runs no job \"none\"; its jobs: orders"),
        ("GET /v1/jobs/none/tasks/0", 404, "unknown-job", "no job"),
        ("GET /v1/jobs/orders", 503, "not-ready", "job orders is still being started"),
        ("GET /v1/jobs/%FF", 400, "invalid-request", "/v1/jobs/%FF"),
        ("GET /v1/jobs/none/state?partition-ky=a", 400, "invalid-parameter", "did you mean partition-key?"),
        ("GET /v1/jobs/none/state?key=a&key=b", 400, "invalid-parameter", "parameter key is given twice"),
        ("GET /v1/jobs/none/state?key=%FF", 400, "invalid-parameter", "parameter key is not UTF-8"),
        ("GET /v1/components/xyz", 400, "invalid-parameter", "\"xyz\" is not a digest"),
        ("GET /readyz", 503, "not-ready", "1 jobs are still being started"),
    ] {
        api.refuses(line, b"", (status, kind, detail)).await;
    }
    let unknown = format!("GET /v1/components/sha256:{}", "0".repeat(64));
    api.refuses(&unknown, b"", (404, "unknown-component", "pelton component push")).await;
}

#[tokio::test]
async fn a_wrong_component_is_refused_and_not_kept() {
    let api = Api::new(Access::loopback(), &[]);
    for (body, detail) in [
        (&b""[..], "0 bytes"),
        (b"hello", "5 bytes"),
        (b"\0asm\x01\0\0\0", "a core WebAssembly module"),
        (b"\0asm\x0d\0\x01\0", "exports neither"),
        (b"\0asm\x0d\0\x01\0\x01\x50", "not a WebAssembly component"),
    ] {
        api.refuses("PUT /v1/components", body, (422, "invalid-component", detail)).await;
    }
    let large = vec![0; 64 * 1024 * 1024 + 1];
    api.refuses("PUT /v1/components", &large, (413, "body-too-large", "67108864 bytes")).await;
    assert!(api.kept.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_component_whose_compiler_does_not_return_is_refused_and_not_kept() {
    for (script, answer) in [
        ("kill -KILL $$", (422, "invalid-component", "crashed the compiler (signal: 9 (SIGKILL))")),
        ("exit 4", (422, "invalid-component", "needs more than 2048 MiB of memory")),
        ("exit 1", (500, "internal", "no compiler could be run")),
    ] {
        let args = ["-c", script].map(OsString::from).to_vec();
        let compiler = ChildCompiler::new("/bin/sh", args, CompileLimits::default());
        let api = Api::with_compiler(Compiler::Child(compiler));
        api.refuses("PUT /v1/components", b"\0asm\x0d\0\x01\0", answer).await;
        assert!(api.kept.0.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_component_cut_short_on_its_way_is_refused() {
    let api = Api::new(Access::loopback(), &[]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, api.router.clone()).into_future());
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream
            .write_all(b"PUT /v1/components HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n\0asm")
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    server.abort();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(api.kept.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_token_opens_and_a_foreign_name_does_not() {
    let token = || Token::new("0123456789abcdef").unwrap();
    let (local, guarded) = (Api::new(Access::loopback(), &[]), Api::new(Access::token(token()), &[]));
    let cases = [
        (&local, "/v1/jobs", "localhost:7777", "", 200),
        (&local, "/v1/jobs", "127.0.0.1:7777", "", 200),
        (&local, "/v1/jobs", "[::1]:7777", "", 200),
        (&local, "/v1/jobs", "pelton.example.com", "", 421),
        (&guarded, "/v1/jobs", "pelton.example.com", "", 401),
        (&guarded, "/v1/jobs", "pelton.example.com", "Bearer 0123456789abcdee", 401),
        (&guarded, "/v1/jobs", "pelton.example.com", "Basic 0123456789abcdef", 401),
        (&guarded, "/v1/jobs", "pelton.example.com", "Bearer 0123456789abcdef", 200),
        (&guarded, "/nothing", "pelton.example.com", "", 401),
        (&guarded, "/metrics", "pelton.example.com", "", 401),
        (&guarded, "/healthz", "pelton.example.com", "", 200),
        (&guarded, "/readyz", "pelton.example.com", "", 200),
    ];
    for (api, path, host, authorization, expected) in cases {
        let request =
            Request::builder().uri(path).header(header::HOST, host).header(header::AUTHORIZATION, authorization);
        let (status, _, body) = api.ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(status.as_u16(), expected, "{path} at {host} with {authorization:?}: {body:?}");
    }
}

#[tokio::test]
async fn a_body_of_another_kind_is_refused() {
    let api = Api::new(Access::loopback(), &[]);
    for (media_type, expected) in [
        ("application/wasm", 422),
        ("application/octet-stream", 422),
        ("application/json", 415),
        ("text/plain; charset=utf-8", 415),
    ] {
        let request = Request::builder().method("PUT").uri("/v1/components").header(header::CONTENT_TYPE, media_type);
        let (status, answered, body) = api.ask(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!((status.as_u16(), answered.as_str()), (expected, "application/problem+json"), "{body:?}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_has_nothing_done() {
    let api = Api::new(Access::loopback(), &[]);
    for (origin, expected) in [
        ("http://localhost:7777", 404),
        ("http://127.0.0.1:3000", 404),
        ("https://example.com", 403),
        ("https://localhost.example.com", 403),
        ("null", 403),
    ] {
        let request = Request::builder().method("POST").uri("/v1/jobs/none/dead-letters/0/0/redrive");
        let request = request.header(header::HOST, "127.0.0.1:7777").header(header::ORIGIN, origin);
        let (status, _, body) = api.ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(status.as_u16(), expected, "{origin}: {body:?}");
    }
}
