//! A host with a running job answers any request, over its socket, and nothing changes but by those that may change it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use pelton_e2e::api::{Answer, Api};
use pelton_e2e::process::component;
use pelton_e2e::stage::{Stage, entry};
use pelton_fuzz::mutate::Rng;

const LIMIT: Duration = Duration::from_secs(40);
const REQUESTS: u64 = 3_000;

/// Where requests go: `#` stands for a number, `@` for text of any kind.
const PATHS: [&str; 14] = [
    "/v1/jobs/odd",
    "/v1/jobs/odd/tasks",
    "/v1/jobs/odd/tasks/#",
    "/v1/jobs/odd/tasks/@",
    "/v1/jobs/odd/shards",
    "/v1/jobs/odd/state",
    "/v1/jobs/odd/tasks/#/state",
    "/v1/jobs/odd/dead-letters",
    "/v1/jobs/odd/dead-letters/#/#",
    "/v1/jobs/odd/dead-letters/#/#/redrive",
    "/v1/jobs/odd/dead-letters/@/@/redrive",
    "/v1/jobs/@/state",
    "/v1/components/@",
    "/v1/components",
];
const NAMES: [&str; 7] = ["limit", "start", "start-base64", "partition-key", "key", "key-base64", "@"];
const METHODS: [&str; 6] = ["GET", "GET", "PUT", "POST", "DELETE", "PATCH"];
/// Numbers that are no dead letter's here: what these ask for can only be refused.
const NUMBERS: [&str; 6] = ["1", "65535", "65536", "4294967296", "18446744073709551616", "007"];
/// Bytes that addresses may hold, among them all that separate something.
const CHARACTERS: &[u8] = b"aZ09-_.~%:@!$'()*+,;=/";

fn pick<'t>(rng: &mut Rng, from: &[&'t str]) -> &'t str {
    from[rng.below(from.len())]
}

/// Text as an address has it: whole escapes or none, so that a client sends it as it is.
fn text(rng: &mut Rng) -> String {
    let mut text = String::new();
    for _ in 0..rng.below(8) {
        match CHARACTERS[rng.below(CHARACTERS.len())] {
            b'%' => text.push_str(&format!("%{:02X}", rng.below(256))),
            b'/' => text.push_str("%2F"),
            character => text.push(char::from(character)),
        }
    }
    // An empty or dotted piece of a path would be another path.
    if text.trim_matches('.').is_empty() { "x".into() } else { text }
}

fn filled(rng: &mut Rng, pattern: &str) -> String {
    let piece = |c: char, rng: &mut Rng| match c {
        '#' => pick(rng, &NUMBERS).to_owned(),
        '@' => text(rng),
        c => c.to_string(),
    };
    pattern.chars().map(|c| piece(c, rng)).collect()
}

fn address(rng: &mut Rng) -> String {
    let path = pick(rng, &PATHS);
    let mut address = filled(rng, path);
    for separator in ["?", "&", "&"].into_iter().take(rng.below(4)) {
        let name = pick(rng, &NAMES);
        let value = if rng.below(3) == 0 { pick(rng, &NUMBERS).to_owned() } else { text(rng) };
        address.push_str(&format!("{separator}{}={value}", filled(rng, name)));
    }
    address
}

/// What a host has: its dead letters, its state and its components.
fn everything(api: &Api) -> Result<(String, BTreeMap<String, String>)> {
    let mut shown = BTreeMap::new();
    for path in
        ["/v1/jobs/odd/dead-letters", "/v1/jobs/odd/tasks/0/state", "/v1/jobs/odd/tasks/1/state", "/v1/components"]
    {
        shown.insert(path.to_owned(), api.get(path)?.1.to_string());
    }
    Ok((format!("{:?}", api.fates("odd")?), shown))
}

/// Refuses in good form, or is answered.
fn check(answer: &Answer, about: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status < 500, "{about} is answered with {}: {said}", answer.status);
    if answer.status >= 400 {
        ensure!(answer.media_type == "application/problem+json", "{about}: {} as {}", answer.status, answer.media_type);
        let problem: serde_json::Value = serde_json::from_slice(&answer.body)?;
        ensure!(problem["status"] == answer.status && problem["detail"].as_str().is_some_and(|text| !text.is_empty()));
    }
    Ok(())
}

#[test]
fn any_request_is_answered_and_changes_nothing() -> Result<()> {
    let stage = Stage::set(&[("in", 2)])?;
    let file = component("misbehaving")?;
    let job = format!("[jobs.odd]\ninputs = [\"in\"]\ntasks = 2\ncomponent = {file:?}\non-error.retries = 0\n");
    let host = stage.host("host", &job)?;
    let mut process = host.start(&[])?;
    let records: Vec<_> = (0..20).map(|key| entry(&format!("key{key}"), "count")).collect();
    stage.put("in", &records)?;
    stage.put("in", &[entry("key0", "poison")])?;
    let api = host.api()?;
    api.wait_caught_up("odd", LIMIT)?;
    let before = everything(&api)?;
    ensure!(before.1["/v1/jobs/odd/dead-letters"].contains("\"number\":0"), "{before:?}");
    let mut statuses = BTreeMap::new();
    for seed in 0..REQUESTS {
        let mut rng = Rng::new(seed);
        let (method, path) = (pick(&mut rng, &METHODS), address(&mut rng));
        let body: Vec<u8> = (0..rng.below(200)).map(|_| rng.draw() as u8).collect();
        let answer = api.ask(method, &path, &[], &body)?;
        check(&answer, &format!("request {seed}, {method} {path} with {} bytes", body.len()))?;
        *statuses.entry(answer.status).or_insert(0) += 1;
    }
    ensure!([200, 400, 404, 405, 422].iter().all(|status| statuses.contains_key(status)), "only {statuses:?}");
    ensure!(everything(&api)? == before, "something changed: {before:?}, and now {:?}", everything(&api)?);
    ensure!(process.ended()?.is_none(), "the host ended: {}", process.said()?);
    Ok(())
}
