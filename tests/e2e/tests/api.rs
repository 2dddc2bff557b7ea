//! The HTTP API of a running host against its own document, its metrics, and its events.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pelton_e2e::api::Api;
use pelton_e2e::contract::Contract;
use pelton_e2e::events::Watch;
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, component};
use pelton_e2e::stage::{Stage, entry};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(40);

/// A host with a job that has folded records of 50 keys and set four aside.
fn stage() -> Result<(Stage, HostFiles, Process)> {
    let stage = Stage::set(&[("in", 2)])?;
    let file = component("misbehaving")?;
    let jobs = format!(
        "[jobs.odd]\ninputs = [\"in\"]\ntasks = 8\ncomponent = {file:?}\n[jobs.odd.on-error]\nretries = 1\n\
         [jobs.other]\ninputs = [\"in\"]\ntasks = 2\ncomponent = {file:?}\n"
    );
    let host = stage.host("host", &jobs)?;
    let process = host.start(&[])?;
    let good: Vec<_> = (0..50).map(|key| entry(&format!("key{key}"), "count")).collect();
    stage.put("in", &good)?;
    stage.put("in", &(0..4).map(|_| entry("key0", "poison")).collect::<Vec<_>>())?;
    let api = host.api()?;
    api.wait_caught_up("odd", LIMIT)?;
    api.wait_caught_up("other", LIMIT)?;
    Ok((stage, host, process))
}

/// Calls an operation and expects a status, and an answer that the document has. The line is as
/// `200 GET /v1/jobs/{job=odd}?limit=1`.
fn call(api: &Api, contract: &mut Contract, line: &str, body: &[u8]) -> Result<Value> {
    let (status, call) = line.split_once(' ').context("a line begins with a status")?;
    let (method, path) = call.split_once(' ').context("a method and a path follow")?;
    let (path, query) = path.split_once('?').map_or((path, String::new()), |(path, query)| (path, format!("?{query}")));
    let (mut told, mut asked) = (String::new(), String::new());
    for piece in path.split_inclusive(['{', '}']) {
        match piece.strip_suffix('}').and_then(|filled| filled.split_once('=')) {
            Some((name, value)) => {
                told.push_str(&format!("{name}}}"));
                asked.push_str(value);
            }
            None => {
                told.push_str(piece);
                asked.push_str(piece.trim_end_matches('{'));
            }
        }
    }
    let answer = api.ask(method, &format!("{asked}{query}"), &[], body)?;
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status.to_string() == status, "{line}: it was answered with {}: {text}", answer.status);
    contract.check(&format!("{method} {told}"), &answer)?;
    Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// Reads a list page by page, and expects it to be what one page has.
fn paged(api: &Api, contract: &mut Contract, path: &str, items: &str, next: &str, start: &str) -> Result<()> {
    let whole = call(api, contract, &format!("200 GET {path}"), b"")?;
    let whole = whole[items].as_array().context("a page has items")?;
    ensure!(whole.len() > 1, "{path}: {} items are not enough to be paged", whole.len());
    let (mut seen, mut from) = (Vec::new(), String::new());
    loop {
        let page = call(api, contract, &format!("200 GET {path}?limit=1{from}"), b"")?;
        ensure!(page[items].as_array().is_some_and(|items| items.len() == 1), "{path}: {page}");
        seen.push(page[items][0].clone());
        let Some(next) = page[next].as_str() else { break };
        from = format!("&{start}={}", next.replace('+', "%2B"));
    }
    let key = |item: &Value| {
        let names = ["job", "task", "number", "shard", "digest", "key_base64", "deployment"];
        names.map(|name| item[name].to_string())
    };
    let keys = |items: &[Value]| items.iter().map(key).collect::<Vec<_>>();
    ensure!(keys(&seen) == keys(whole), "{path}: the pages have {seen:?}, not {whole:?}");
    Ok(())
}

/// Calls every operation that changes what a job runs.
fn every_deployment(api: &Api, contract: &mut Contract, digest: &str) -> Result<()> {
    let deploy = |api: &Api, contract: &mut Contract, status: u16, body: Value| {
        call(api, contract, &format!("{status} POST /v1/jobs/{{job=other}}/deployments"), body.to_string().as_bytes())
    };
    deploy(api, contract, 201, json!({ "component": digest, "canary": { "percent": 50 } }))?;
    call(api, contract, "200 GET /v1/jobs/{job=other}", b"")?;
    call(api, contract, "200 DELETE /v1/jobs/{job=other}/canary", b"")?;
    deploy(api, contract, 201, json!({ "component": digest, "canary": { "tasks": [1] }, "config": { "a": "b" } }))?;
    call(api, contract, "200 POST /v1/jobs/{job=other}/deployments/{deployment=3}/promote", b"")?;
    deploy(api, contract, 201, json!({ "component": digest, "limits": { "log_lines": 5 } }))?;
    deploy(api, contract, 201, json!({ "component": digest, "grants": { "env": { "a": "b" }, "http": ["a.b"] } }))?;
    deploy(api, contract, 201, json!({ "component": digest, "grants_of": 4 }))?;
    deploy(api, contract, 400, json!({ "component": digest, "grants": { "http": ["a.b"] }, "grants_of": 4 }))?;
    call(api, contract, "200 GET /v1/jobs/{job=other}/rollout", b"")?;
    call(api, contract, "200 POST /v1/jobs/{job=other}/rollback", b"")?;
    call(api, contract, "200 POST /v1/jobs/{job=other}/deployments/{deployment=1}/rollback", b"")?;
    call(
        api,
        contract,
        "200 POST /v1/jobs/{job=other}/deployments/{deployment=4}/rollback?rewind=true&outputs=again",
        b"",
    )?;
    call(api, contract, "200 DELETE /v1/jobs/{job=other}/rewind", b"")?;
    deploy(api, contract, 201, json!({ "component": digest, "shadow": {} }))?;
    call(api, contract, "200 GET /v1/jobs/{job=other}/shadow", b"")?;
    deploy(api, contract, 409, json!({ "component": digest, "canary": { "percent": 50 } }))?;
    call(api, contract, "200 DELETE /v1/jobs/{job=other}/shadow", b"")?;
    deploy(api, contract, 400, json!({ "component": digest, "shadow": { "share_percent": 101 } }))?;
    deploy(api, contract, 201, json!({ "component": digest, "shadow": { "share_percent": 100 } }))?;
    call(api, contract, "200 POST /v1/jobs/{job=other}/deployments/{deployment=8}/promote", b"")?;
    paged(api, contract, "/v1/jobs/{job=other}/deployments", "deployments", "next", "start")?;
    for line in [
        "409 DELETE /v1/jobs/{job=other}/rewind",
        "409 POST /v1/jobs/{job=other}/deployments/{deployment=99}/rollback?rewind=true&outputs=again",
        "400 POST /v1/jobs/{job=other}/rollback?rewind=perhaps",
        "400 POST /v1/jobs/{job=other}/rollback?outputs=again",
        "409 DELETE /v1/jobs/{job=other}/canary",
        "409 POST /v1/jobs/{job=other}/deployments/{deployment=1}/promote",
        "400 POST /v1/jobs/{job=other}/deployments/{deployment=x}/promote",
        "409 GET /v1/jobs/{job=other}/shadow",
        "409 DELETE /v1/jobs/{job=other}/shadow",
        "404 POST /v1/jobs/{job=other}/deployments/{deployment=99}/rollback",
        "400 POST /v1/jobs/{job=other}/deployments/{deployment=x}/rollback",
        "404 GET /v1/jobs/{job=none}/rollout",
        "400 POST /v1/jobs/{job=other}/deployments",
    ] {
        call(api, contract, line, b"")?;
    }
    Ok(())
}

/// Calls every operation but that for events, with good input and bad.
fn every_operation(api: &Api, contract: &mut Contract) -> Result<()> {
    for line in ["200 GET /healthz", "200 GET /readyz", "200 GET /openapi.json", "200 GET /metrics"] {
        call(api, contract, line, b"")?;
    }
    let wasm = std::fs::read(component("misbehaving")?)?;
    let other = std::fs::read(component("word_count")?)?;
    let pushed = call(api, contract, "201 PUT /v1/components", &wasm)?;
    call(api, contract, "201 PUT /v1/components", &other)?;
    let digest = pushed["digest"].as_str().context("a component has a digest")?;
    call(api, contract, &format!("200 GET /v1/components/{{digest={digest}}}"), b"")?;

    paged(api, contract, "/v1/jobs", "jobs", "next", "start")?;
    paged(api, contract, "/v1/components", "components", "next", "start")?;
    paged(api, contract, "/v1/jobs/{job=odd}/tasks", "tasks", "next", "start")?;
    paged(api, contract, "/v1/jobs/{job=odd}/shards", "shards", "next", "start")?;
    paged(api, contract, "/v1/jobs/{job=odd}/dead-letters", "letters", "next", "start")?;
    let letters = api.dead_letters("odd")?;
    let task = &letters[0]["task"];
    paged(
        api,
        contract,
        &format!("/v1/jobs/{{job=odd}}/tasks/{{task={task}}}/state"),
        "entries",
        "next_base64",
        "start-base64",
    )?;
    for line in [
        "200 GET /v1/jobs/{job=odd}",
        "200 GET /v1/jobs/{job=odd}/tasks/{task=7}",
        "200 GET /v1/jobs/{job=odd}/state?partition-key=key1&key=key1",
        "404 GET /v1/jobs/{job=odd}/state?partition-key=key1&key=none",
        "400 GET /v1/jobs/{job=odd}/state?partition-key=key1",
        "400 GET /v1/jobs/{job=odd}/state?key=key1",
        "400 GET /v1/jobs/{job=odd}/state?partition-key=a&key=a&key-base64=YQ",
        "404 GET /v1/jobs/{job=none}",
        "404 GET /v1/jobs/{job=odd}/tasks/{task=8}",
        "400 GET /v1/jobs/{job=odd}/tasks/{task=x}",
        "400 GET /v1/jobs/{job=odd}/tasks/{task=%FF}",
        "400 GET /v1/jobs/{job=odd}/tasks?limit=1001",
        "404 GET /v1/jobs/{job=odd}/tasks?start=8",
        "400 GET /v1/jobs/{job=odd}/shards?start=none/shardId-0",
        "400 GET /v1/jobs/{job=odd}/dead-letters?start=0/x",
        "400 GET /v1/jobs/{job=odd}/tasks/{task=0}/state?start-base64=!",
        "404 GET /v1/jobs/{job=odd}/dead-letters/{task=0}/{number=99}",
        "404 POST /v1/jobs/{job=odd}/dead-letters/{task=0}/{number=99}/redrive",
        "404 DELETE /v1/jobs/{job=odd}/dead-letters/{task=0}/{number=99}",
        "400 GET /v1/components/{digest=xyz}",
        "400 GET /v1/events?since=1",
        "200 GET /v1/jobs/{job=odd}/logs?level=warn&tail=5",
        "400 GET /v1/jobs/{job=odd}/logs?level=loud",
        "404 GET /v1/jobs/{job=odd}/logs?task=8",
    ] {
        call(api, contract, line, b"")?;
    }
    call(api, contract, "422 PUT /v1/components", b"no component")?;
    let refused = api.ask("PUT", "/v1/components", &[("content-type", "application/json")], b"{}")?;
    ensure!(refused.status == 415);
    contract.check("PUT /v1/components", &refused)?;
    let refused = api.ask("GET", "/v1/jobs", &[("host", "example.com")], b"")?;
    ensure!(refused.status == 421);
    contract.check("GET /v1/jobs", &refused)?;

    every_deployment(api, contract, digest)?;
    let letter =
        |at: usize| format!("/v1/jobs/{{job=odd}}/dead-letters/{{task={task}}}/{{number={}}}", letters[at]["number"]);
    call(api, contract, &format!("200 GET {}", letter(0)), b"")?;
    call(api, contract, &format!("202 POST {}/redrive", letter(0)), b"")?;
    call(api, contract, &format!("202 DELETE {}", letter(1)), b"")?;
    Ok(())
}

#[test]
fn what_the_document_says_is_what_is_answered() -> Result<()> {
    let (_stage, host, mut process) = stage()?;
    let api = &host.api()?;
    let mut contract = Contract::of(api)?;
    every_operation(api, &mut contract)?;

    let watch = Watch::begin(api, Some("another-1"))?;
    contract.check("GET /v1/events", &watch.answer)?;
    let missed = watch.wait("what was missed", LIMIT, |event| event.name == "missed")?;
    contract.check_value("MissedView", &missed.data)?;
    let opened = watch.wait("a shard to be opened", LIMIT, |event| event.name == "shard-opened")?;
    contract.check_value("EventView", &opened.data)?;
    process.terminate()?;
    watch.wait("a task to stop", LIMIT, |event| event.name == "task-phase" && event.data["phase"] == "stopped")?;
    ensure!(process.wait(LIMIT)?.success());
    contract.finish()
}
