//! The document and the router are one: what it says of parameters and of who may ask is what happens.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use pelton_api::{Access, Token};
use serde_json::Value;

use crate::fixture::Api;

/// Method, path and description of every operation.
async fn operations(api: &Api) -> Vec<(String, String, Value)> {
    let document = api.json("/openapi.json").await;
    let paths = document["paths"].as_object().unwrap().clone().into_iter();
    let operations = paths.flat_map(|(path, item)| {
        let item = item.as_object().unwrap().clone().into_iter();
        item.map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
    });
    operations.collect()
}

fn concrete(path: &str) -> String {
    let path = path.replace("{job}", "orders").replace("{task}", "0").replace("{number}", "0");
    path.replace("{digest}", &"0".repeat(64))
}

#[tokio::test]
async fn operations_are_told_apart_and_have_their_parameters() {
    let api = Api::new(Access::loopback(), &["orders"]);
    let operations = operations(&api).await;
    let ids: BTreeSet<&str> = operations.iter().map(|(_, _, told)| told["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), operations.len(), "two operations have the same id: {ids:?}");
    for (method, path, told) in &operations {
        if path == "/healthz" || path == "/readyz" {
            continue;
        }
        // The refusal of a parameter that nothing resembles names those that are known.
        let request = Request::builder().method(method.as_str()).uri(format!("{}?qqqq=1", concrete(path)));
        let (status, _, body) = api.ask(request.body(Body::empty()).unwrap()).await;
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        assert_eq!(status.as_u16(), 400, "{method} {path}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        let known = detail.split_once("known here: ").map_or("", |(_, known)| known);
        let told = told["parameters"].as_array().into_iter().flatten();
        let told = told.filter(|parameter| parameter["in"] == "query");
        let told: Vec<&str> = told.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(told.join(", "), known, "{method} {path}");
    }
}

#[tokio::test]
async fn all_but_the_probes_need_the_token() {
    let local = Api::new(Access::loopback(), &[]);
    let guarded = Api::new(Access::token(Token::new("0123456789abcdef").unwrap()), &[]);
    for (method, path, told) in operations(&local).await {
        let request =
            Request::builder().method(method.as_str()).uri(concrete(&path)).header(header::HOST, "pelton:7777");
        let (status, _, _) = guarded.ask(request.body(Body::empty()).unwrap()).await;
        let open = told["security"] == serde_json::json!([{}]);
        assert_eq!(open, path == "/healthz" || path == "/readyz", "{method} {path}");
        assert_eq!(status.as_u16() == 401, !open, "{method} {path}: {status}");
        assert_eq!(told["responses"]["401"].is_object(), !open, "{method} {path}");
    }
}
