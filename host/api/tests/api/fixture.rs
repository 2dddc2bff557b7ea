//! A host without jobs, as a test asks it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use pelton_api::{Access, Context, HostInfo, Problem, Shelf, router};
use pelton_core::id::{Digest, Incarnation};
use pelton_engine::ports::{Collected, ComponentStore, ComponentUse, PortError, PutOutcome};
use pelton_engine::{Compiler, EventLog, GuestRuntime, Room};
use tower::ServiceExt as _;

/// Components in memory, kept for ever: a host without jobs uses none.
#[derive(Default)]
pub struct Kept(pub Mutex<BTreeMap<Digest, Bytes>>);

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

/// The API of a host.
pub struct Api {
    pub router: Router,
    pub kept: Arc<Kept>,
    pub events: Arc<EventLog>,
    _cache: tempfile::TempDir,
}

impl Api {
    /// A host that is to run these jobs, and has started none.
    pub fn new(access: Access, jobs: &[&str]) -> Self {
        Self::with_events(access, jobs, EventLog::default())
    }

    /// The same, with an event log of its own.
    pub fn with_events(access: Access, jobs: &[&str], events: EventLog) -> Self {
        Self::with(access, jobs, events, Compiler::Here)
    }

    /// The same, with a compiler of its own.
    pub fn with_compiler(compiler: Compiler) -> Self {
        Self::with(Access::loopback(), &[], EventLog::default(), compiler)
    }

    fn with(access: Access, jobs: &[&str], events: EventLog, compiler: Compiler) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let kept = Arc::new(Kept::default());
        let shelf = Shelf {
            store: kept.clone(),
            guests: GuestRuntime::new(cache.path(), Room::for_tasks(1), compiler).unwrap(),
        };
        let jobs = jobs.iter().map(|job| (*job).to_owned()).collect();
        let host = HostInfo { name: "a".into(), id: "0".into(), version: "0", jobs };
        let events = Arc::new(events);
        let context = Context::new(host, shelf, access, events.clone());
        Self { router: router(Arc::new(context)), kept, events, _cache: cache }
    }

    /// Status, media type and body of an answer.
    pub async fn ask(&self, request: Request<Body>) -> (StatusCode, String, Bytes) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let media_type = response.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned());
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, media_type.unwrap_or_default(), body)
    }

    /// The JSON of a GET.
    pub async fn json(&self, path: &str) -> serde_json::Value {
        let (status, _, body) = self.ask(Request::builder().uri(path).body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body:?}");
        serde_json::from_slice(&body).unwrap()
    }

    /// Expects a problem of this status and kind, whose detail has this text.
    pub async fn refuses(&self, line: &str, body: &[u8], expected: (u16, &str, &str)) {
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
