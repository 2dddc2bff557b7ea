//! What the API answers that needs no running job: refusals, components, probes.

// A test that fails says where.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use pelton_api::{Access, Context, HostInfo, Problem, Shelf, Token, router};
use pelton_core::id::Digest;
use pelton_engine::GuestRuntime;
use pelton_engine::ports::{ComponentStore, PortError};
use tower::ServiceExt as _;

/// Components in memory.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<Digest, Bytes>>);

#[async_trait]
impl ComponentStore for Kept {
    async fn put(&self, digest: Digest, bytes: Bytes) -> Result<(), PortError> {
        self.0.lock().unwrap().insert(digest, bytes);
        Ok(())
    }

    async fn get(&self, digest: Digest) -> Result<Option<Bytes>, PortError> {
        Ok(self.0.lock().unwrap().get(&digest).cloned())
    }

    async fn list(&self) -> Result<Vec<(Digest, u64)>, PortError> {
        Ok(self.0.lock().unwrap().iter().map(|(digest, bytes)| (*digest, bytes.len() as u64)).collect())
    }
}

struct Api {
    router: Router,
    kept: Arc<Kept>,
    _cache: tempfile::TempDir,
}

impl Api {
    fn new(access: Access, jobs: &[&str]) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let kept = Arc::new(Kept::default());
        let shelf = Shelf { store: kept.clone(), guests: GuestRuntime::new(cache.path(), 1).unwrap() };
        let jobs = jobs.iter().map(|job| (*job).to_owned()).collect();
        let host = HostInfo { name: "a".into(), id: "0".into(), version: "0", jobs };
        Self { router: router(Arc::new(Context::new(host, shelf, access))), kept, _cache: cache }
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, String, Bytes) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let media_type = response.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned());
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, media_type.unwrap_or_default(), body)
    }

    /// Expects a problem of this status and kind, whose detail has this text.
    async fn refuses(&self, line: &str, body: &[u8], expected: (u16, &str, &str)) {
        let (method, path) = line.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
        let (status, media_type, body) = self.ask(request.body(Body::from(body.to_vec())).unwrap()).await;
        assert_eq!(media_type, "application/problem+json", "{line}");
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!((status.as_u16(), problem.status), (expected.0, expected.0), "{line}: {problem:?}");
        assert_eq!(problem.kind, format!("urn:pelton:problem:{}", expected.1), "{line}: {problem:?}");
        assert!(problem.detail.contains(expected.2), "{line}: {problem:?}");
    }
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let api = Api::new(Access::loopback(), &["orders"]);
    for (line, status, kind, detail) in [
        ("GET /", 404, "unknown-route", "there is nothing at /"),
        ("GET /v1/job", 404, "unknown-route", "there is nothing at /v1/job"),
        ("DELETE /v1/jobs", 405, "method-not-allowed", "/v1/jobs does not take DELETE"),
        ("POST /healthz", 405, "method-not-allowed", "does not take POST"),
        ("GET /v1/jobs?limt=1", 400, "invalid-parameter", "unknown parameter \"limt\"; this address takes none"),
        ("GET /v1/jobs/none", 404, "unknown-job", "this host runs no job \"none\"; its jobs: orders"),
        ("GET /v1/jobs/none/tasks/0", 404, "unknown-job", "no job"),
        ("GET /v1/jobs/orders", 503, "not-ready", "job orders is still being started"),
        ("GET /v1/jobs/%FF", 400, "invalid-body", "/v1/jobs/%FF"),
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
async fn metrics_are_text_that_ends() {
    let api = Api::new(Access::loopback(), &[]);
    let (status, media_type, body) = api.ask(Request::builder().uri("/metrics").body(Body::empty()).unwrap()).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(status, StatusCode::OK);
    assert!(media_type.starts_with("application/openmetrics-text"), "{media_type}");
    assert!(text.contains("pelton_host_info{name=\"a\",version=\"0\"} 1"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}
