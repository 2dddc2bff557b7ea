//! Metrics come in the format that is asked for.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use pelton_api::Access;

use crate::fixture::Api;

/// Expects metrics of this media type with this ending.
async fn check(accept: &str, expected: &str, ending: &str) {
    let api = Api::new(Access::loopback(), &[]);
    let request = Request::builder().uri("/metrics").header(header::ACCEPT, accept).body(Body::empty()).unwrap();
    let (status, media_type, body) = api.ask(request).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!((status, media_type.as_str()), (StatusCode::OK, expected));
    assert!(text.contains("pelton_host_info{name=\"a\",version=\"0\"} 1\n"), "{text}");
    assert!(text.ends_with(ending), "{text}");
}

#[tokio::test]
async fn each_format_has_its_media_type() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    check(prometheus, "application/openmetrics-text; version=1.0.0; charset=utf-8", "# EOF\n").await;
    for accept in ["*/*", "text/plain"] {
        check(accept, "text/plain; version=0.0.4; charset=utf-8", "} 1\n").await;
    }
}
