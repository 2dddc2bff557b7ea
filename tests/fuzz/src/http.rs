//! Requests: answered, with a problem where they are wrong. What is refused changes nothing, and the host fails over none.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use pelton_api::{Access, Context, HostInfo, Problem, Shelf, router};
use pelton_core::id::{Digest, Incarnation};
use pelton_engine::ports::{Collected, ComponentStore, ComponentUse, PortError, PutOutcome};
use pelton_engine::{Compiler, EventLog, GuestRuntime, Room, digest_of};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// Every address that is answered, with a method it takes.
pub const ADDRESSES: [&str; 18] = [
    "PUT /v1/components",
    "GET /v1/components",
    "GET /v1/components/sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "POST /v1/jobs/orders/dead-letters/0/1/redrive",
    "DELETE /v1/jobs/orders/dead-letters/0/1",
    "GET /v1/jobs/orders/dead-letters/0/1",
    "GET /v1/jobs/orders/dead-letters",
    "GET /v1/jobs/orders/tasks/0/state",
    "GET /v1/jobs/orders/state",
    "GET /v1/jobs/orders/shards",
    "GET /v1/jobs/orders/tasks/0",
    "GET /v1/jobs/orders/tasks",
    "GET /v1/jobs/orders",
    "GET /v1/jobs",
    "GET /openapi.json",
    "GET /metrics",
    "GET /healthz",
    "GET /readyz",
];
/// Longest answer: the document.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Components in memory, kept for ever: a host without jobs uses none.
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

    async fn keep(&self, digest: Digest, _: Incarnation) -> Result<bool, PortError> {
        Ok(self.0.lock().unwrap().contains_key(&digest))
    }

    async fn uses(&self, _: Digest) -> Result<Vec<ComponentUse>, PortError> {
        Ok(Vec::new())
    }

    async fn release(&self, _: Digest, _: &ComponentUse, _: u64) -> Result<PutOutcome, PortError> {
        Ok(PutOutcome::Exists)
    }

    async fn collect(&self, _: Digest, _: u64) -> Result<Collected, PortError> {
        Ok(Collected::Kept)
    }
}

struct Api {
    runtime: Runtime,
    router: Router,
    kept: Arc<Kept>,
    _cache: TempDir,
}

/// A host without jobs. One request at a time is asked of it, so that what changed is known to be its doing.
static API: LazyLock<Mutex<Api>> = LazyLock::new(|| {
    let cache = tempfile::tempdir().unwrap();
    let kept = Arc::new(Kept::default());
    let shelf = Shelf {
        store: kept.clone(),
        guests: GuestRuntime::new(cache.path(), Room::for_tasks(1), Compiler::Here).unwrap(),
    };
    let host = HostInfo { name: "a".into(), id: "0".into(), version: "0", jobs: Vec::new() };
    let context = Context::new(host, shelf, Access::loopback(), Arc::new(EventLog::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Mutex::new(Api { runtime, router: router(Arc::new(context)), kept, _cache: cache })
});

/// A request as it is sent, without the version: method and address, headers, an empty line, the body. What has no empty line is a
/// body for every address.
pub fn http_body(data: &[u8]) {
    let api = API.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match request(data) {
        Some(request) => drop(api.check(request)),
        None => ADDRESSES.iter().for_each(|address| {
            let (method, path) = address.split_once(' ').unwrap();
            let request = Request::builder().method(method).uri(path);
            api.check(request.body(Bytes::copy_from_slice(data)).unwrap());
        }),
    }
}

/// Pushes what is no component that can run, and expects it to be refused as that.
pub fn refuses_component(bytes: &[u8]) {
    let api = API.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let request = Request::builder().method(Method::PUT).uri("/v1/components");
    let status = api.check(request.body(Bytes::copy_from_slice(bytes)).unwrap());
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{} bytes are taken", bytes.len());
}

/// The request that bytes are, if a server would pass it on.
fn request(data: &[u8]) -> Option<Request<Bytes>> {
    let end = data.windows(2).position(|pair| pair == b"\n\n")?;
    let mut lines = data[..end].split(|byte| *byte == b'\n');
    let (method, uri) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    request.body(Bytes::copy_from_slice(&data[end + 2..])).ok()
}

impl Api {
    fn check(&self, request: Request<Bytes>) -> StatusCode {
        let (head, body) = request.into_parts();
        let about = format!("{} {} with {:?} and {} bytes", head.method, head.uri, head.headers, body.len());
        let foreign = head.headers.get(header::HOST).is_some_and(|host| !is_ours(host.as_bytes()));
        let before = self.kept.0.lock().unwrap().clone();
        let asked = Request::from_parts(head.clone(), Body::from(body.clone()));
        let response = self.runtime.block_on(self.router.clone().oneshot(asked)).unwrap();
        let status = response.status();
        assert!(!status.is_server_error(), "{about}: {status}");
        let open = matches!(head.uri.path(), "/healthz" | "/readyz");
        assert!(open || !foreign || status.is_client_error(), "{about}: done for another name");
        let mut after = self.kept.0.lock().unwrap();
        if head.method == Method::PUT && status == StatusCode::CREATED {
            assert_eq!(after.get(&digest_of(&body)), Some(&body), "{about}: not kept");
            *after = before;
            return status;
        }
        assert_eq!(*after, before, "{about}: {status}, and something changed");
        drop(after);
        if status.is_client_error() {
            self.check_problem(response, &about);
        } else {
            assert_eq!(status, StatusCode::OK, "{about}");
        }
        status
    }

    fn check_problem(&self, response: Response, about: &str) {
        let (head, body) = response.into_parts();
        let media_type = head.headers.get(header::CONTENT_TYPE).expect("a problem says what it is");
        assert_eq!(media_type, "application/problem+json", "{about}");
        let body = self.runtime.block_on(to_bytes(body, ANSWER_BYTES_MAX)).unwrap();
        // HEAD is answered as GET is, without the body.
        if body.is_empty() && about.starts_with("HEAD ") {
            return;
        }
        let problem: Problem = serde_json::from_slice(&body).expect("a problem is JSON");
        assert_eq!(problem.status, head.status.as_u16(), "{about}");
        assert!(problem.kind.starts_with("urn:pelton:problem:") && !problem.title.is_empty(), "{about}: {problem:?}");
        assert!(!problem.detail.is_empty(), "{about}: {problem:?}");
    }
}

/// Whether a Host header may be this machine's: it begins with one of its names.
fn is_ours(host: &[u8]) -> bool {
    let host = host.to_ascii_lowercase();
    [&b"localhost"[..], b"127.", b"[", b"::"].iter().any(|ours| host.starts_with(ours))
}
