//! What a deployment is granted, met by a component that reaches for more: variables and hosts to call are those of its
//! deployment, a call is bounded in every way, and whoever waits for an answer holds up nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pelton_core::slice::{HashKey, TaskCount};
use pelton_e2e::api::Api;
use pelton_e2e::instance::{Instance, SOME};
use pelton_e2e::process::{component, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::web::Web;
use pelton_engine::guest::Granted;
use pelton_engine::{Grants, GuestLimits};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(40);
const SECRET: &str = "a-value-that-nobody-is-told";

/// The component that reaches for more, granted this.
fn caller(env: &[(&str, &str)], http: &[String]) -> Result<Instance> {
    let mut instance = Instance::of("caller", GuestLimits::default())?;
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let http = http.iter().map(|host| host.parse()).collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
    instance.identity.granted = Arc::new(Granted::new(Grants { env, http }));
    Ok(instance)
}

/// What it says came of each of these.
fn came(instance: &Instance, texts: &[&str]) -> Result<BTreeMap<String, String>> {
    let effects = instance.call(texts, SOME)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(effects
        .writes
        .iter()
        .map(|(key, value)| (text(&key[1..]), text(value.as_deref().unwrap_or_default())))
        .collect())
}

/// Expects this to come of a text.
fn check(instance: &Instance, text: &str, expected: &str) -> Result<()> {
    let came = came(instance, &[text])?;
    let came = came.get(text).with_context(|| format!("{text} left nothing in {came:?}"))?;
    ensure!(came.contains(expected), "{text} is answered with {came:?}, not {expected:?}");
    Ok(())
}

fn plain(web: &Web) -> String {
    format!("http://127.0.0.1:{}", web.port)
}

#[test]
fn without_a_grant_it_is_not_even_begun() -> Result<()> {
    let said = caller(&[], &[])?.start().err().map(|fault| fault.to_string()).unwrap_or_default();
    ensure!(
        said.contains("imports wasi:http/outgoing-handler@0.2.") && said.contains("`http` in [jobs.NAME.grants]"),
        "{said}"
    );
    Ok(())
}

#[test]
fn variables_are_those_granted() -> Result<()> {
    let web = Web::start()?;
    let granted = caller(&[("NAME", "value"), ("OTHER", "")], &[plain(&web)])?;
    check(&granted, "variables", "NAME,OTHER")?;
    check(&granted, "variable NAME", "value")?;
    let nothing = caller(&[], &[plain(&web)])?;
    ensure!(came(&nothing, &["variables"])?["variables"].is_empty(), "there are variables that nobody granted");
    check(&nothing, "variable PATH", "absent")
}

#[test]
fn only_who_is_granted_is_called() -> Result<()> {
    let (web, other) = (Web::start()?, Web::start()?);
    let mut instance = caller(&[], &[plain(&web)])?;
    check(&instance, &format!("get {}", web.url("/hello")), "200 hello")?;
    // A redirect is an answer like any other.
    check(&instance, &format!("get {}", web.url("/redirect")), "302 ")?;
    let (port, denied) = (web.port, "HttpRequestDenied");
    for url in [
        other.url("/hello"),
        format!("http://localhost:{port}/hello"),
        format!("https://127.0.0.1:{port}/hello"),
        format!("http://127.0.0.1:{port}@127.0.0.1:{port}/hello"),
        format!("http://127.0.0.1:{port}@127.0.0.1:{}/hello", other.port),
        format!("http://[::ffff:127.0.0.1]:{port}/hello"),
        "http://127.0.0.1/hello".to_owned(),
    ] {
        check(&instance, &format!("get {url}"), denied)?;
    }
    // Nobody is called by one that only begins, which may be a try, nor by a shadow.
    let config = BTreeMap::from([("at-start".to_owned(), web.url("/hello"))]);
    instance.identity.config = Arc::new(config);
    check(&instance, "at-start", denied)?;
    instance.identity.granted = Arc::new(instance.identity.granted.for_shadow());
    check(&instance, &format!("get {}", web.url("/hello")), denied)?;
    ensure!(web.asked("/hello") == 1 && web.asked("/redirect") == 1 && other.asked("/hello") == 0, "{web:?} {other:?}");
    Ok(())
}

#[test]
fn a_call_ends_with_its_batch_at_the_latest() -> Result<()> {
    let web = Web::start()?;
    let mut instance = caller(&[], &[plain(&web)])?;
    instance.identity.limits.batch_timeout_ms = 500;
    for text in [
        format!("get {}", web.url("/silent")),
        format!("get {}", web.url("/trickle")),
        format!("crowd {}", web.url("/silent")),
        format!("spin {}", web.url("/silent")),
        "unsent".to_owned(),
    ] {
        let began = Instant::now();
        let said = instance.call(&[&text], SOME).err().map(|fault| fault.to_string()).unwrap_or_default();
        ensure!(said.contains("cut off after 500 ms, the `batch-timeout`"), "{text} is answered with {said:?}");
        let took = began.elapsed();
        ensure!(took < Duration::from_secs(10), "{text} held its thread for {took:?}");
    }
    // One that is not waited for is no reason to wait.
    check(&instance, &format!("leave {}", web.url("/silent")), "left")
}

#[test]
fn a_call_is_bounded_in_number_and_in_bytes() -> Result<()> {
    let web = Web::start()?;
    let instance = caller(&[], &[plain(&web)])?;
    check(&instance, &format!("get {}", web.url("/huge")), "HttpResponseBodySize(Some(16777216))")?;
    check(&instance, &format!("get {}", web.url("/head")), "HttpResponseHeaderSectionSize")?;
    check(&instance, &format!("upload {}", web.url("/swallow")), "HttpRequestBodySize(Some(16777216))")?;
    check(&instance, &format!("crowd {}", web.url("/later")), "8 answered, 4 refused")?;
    check(&instance, "hoard", "method true, authority true, path true")?;
    let said = instance.call(&["fields"], SOME).err().map(|fault| fault.to_string()).unwrap_or_default();
    ensure!(said.contains("total size of fields exceeds limit"), "{said}");
    // A timer beside a call waits as long as it says, and not as long as a guest's clock makes of it.
    check(&instance, &format!("race {}", web.url("/later")), "the answer")
}

/// A job's host, as a test asks it.
struct Asked<'a> {
    api: Api,
    stage: &'a Stage,
    job: &'a str,
}

impl Asked<'_> {
    fn deploy(&self, body: &Value) -> Result<(u16, Value)> {
        self.api.ask_of(self.job, "POST", "deployments", body)
    }

    /// Puts a text, waits until it is folded, and gives what came of it.
    fn came(&self, text: &str) -> Result<String> {
        self.stage.put("in", &[entry("key", text)])?;
        wait_for(text, LIMIT, || {
            let state = self.api.state(self.job)?;
            let found = state.into_iter().find(|(_, key, _)| key == text.as_bytes());
            Ok(found.map(|(_, _, value)| String::from_utf8_lossy(&value).into_owned()))
        })
    }
}

#[test]
fn config_limits_and_grants_are_those_of_each_deployment() -> Result<()> {
    let (one, (two, certificate)) = (Web::start()?, Web::start_tls()?);
    let stage = Stage::set(&[("in", 1)])?;
    let text = format!(
        "[jobs.job]\ninputs = [\"in\"]\ntasks = 2\ncomponent = {:?}\ncommit-interval = \"50ms\"\n\
         [jobs.job.on-error]\nretries = 0\n",
        component("misbehaving")?
    );
    let host = stage.host("host", &text)?;
    let trusted = stage.folder().join("trusted.pem");
    std::fs::write(&trusted, certificate)?;
    let process = host.start(&[("SSL_CERT_FILE", &trusted.to_string_lossy())])?;
    let asked = Asked { api: host.api()?, stage: &stage, job: "job" };
    asked.api.wait_caught_up("job", LIMIT)?;

    // It may be kept, and is not deployed before it is granted what it needs.
    let (status, kept) = asked.api.put("/v1/components", std::fs::read(component("caller")?)?)?;
    ensure!(status == 201, "{kept}");
    let digest = &kept["digest"];
    for grants in [json!({}), json!({ "env": { "NAME": "one" } }), json!({ "http": [] })] {
        let (status, problem) = asked.deploy(&json!({ "component": digest, "grants": grants }))?;
        let detail = problem["detail"].as_str().unwrap_or_default();
        ensure!(status == 422 && detail.contains("wasi:http/outgoing-handler@0.2."), "{status} {problem}");
        ensure!(detail.contains("`http` in [jobs.NAME.grants]"), "{problem}");
    }
    for (grants, why) in [
        (json!({ "http": ["https://a.b"] }), "https is what"),
        (json!({ "files": [] }), "unknown field `files`"),
        (json!({ "env": { "": "" } }), "not a variable's name"),
    ] {
        let (status, problem) = asked.deploy(&json!({ "component": digest, "grants": grants }))?;
        ensure!(status == 400 && problem["detail"].as_str().unwrap_or_default().contains(why), "{status} {problem}");
    }
    let (status, problem) = asked.deploy(&json!({ "component": digest, "grants_of": 9 }))?;
    ensure!(status == 404, "{problem}");

    let first = json!({
        "component": digest,
        "config": { "name": "first" },
        "limits": { "memory_bytes": 16 << 20 },
        "grants": { "env": { "NAME": SECRET }, "http": [plain(&one)] },
    });
    let (status, made) = asked.deploy(&first)?;
    ensure!(status == 201 && made["deployment"] == 2, "{made}");
    ensure!(made["grants"] == json!({ "env": ["NAME"], "http": [plain(&one)] }), "{made}");
    let (hello, encrypted) = (one.url("/hello"), format!("https://localhost:{}/hello", two.port));
    ensure!(asked.came("config name")? == "first");
    ensure!(asked.came("variable NAME")? == SECRET);
    ensure!(asked.came("variable OTHER")? == "absent");
    ensure!(asked.came(&format!("get {hello}"))? == "200 hello");
    for url in [encrypted.clone(), format!("{encrypted}?once-more")] {
        ensure!(asked.came(&format!("get {url}"))?.contains("HttpRequestDenied"));
    }
    stage.put("in", &[entry("key", "memory 32")])?;
    wait_for("a dead letter", LIMIT, || Ok((!asked.api.dead_letters("job")?.is_empty()).then_some(())))?;
    let letters = asked.api.dead_letters("job")?;
    ensure!(letters[0].to_string().contains("limit of 16777216 bytes, `memory`"), "{letters:?}");

    // The same component, and all else is another's.
    let second = json!({
        "component": digest,
        "config": { "name": "second" },
        "limits": { "memory_bytes": 64 << 20 },
        "grants": { "env": { "OTHER": "two" }, "http": [format!("localhost:{}", two.port)] },
    });
    let (status, made) = asked.deploy(&second)?;
    ensure!(status == 201 && made["deployment"] == 3, "{made}");
    // Each text is new, as what came of it is kept under it; so is each path.
    let text = |url: &str| format!("get {url}?again");
    ensure!(asked.came("variables ")? == "OTHER");
    ensure!(asked.came("memory 31")? == "31");
    ensure!(asked.came(&text(&encrypted))?.starts_with("404"), "the call is granted");
    ensure!(asked.came(&text(&hello))?.contains("HttpRequestDenied"));
    ensure!(two.asked("/hello?again") == 1 && one.asked("/hello") == 1, "{one:?} {two:?}");

    // Another deployment's grants can be had without knowing its secrets; they are told to nobody.
    let (status, made) = asked.deploy(&json!({ "component": digest, "grants_of": 2 }))?;
    ensure!(status == 201 && made["grants"]["env"] == json!(["NAME"]), "{made}");
    ensure!(asked.came("variables")? == "NAME");
    ensure!(asked.came(&format!("get {hello}?third"))?.starts_with("404"), "the call is granted");
    let (_, listed) = asked.api.get("/v1/jobs/job/deployments")?;
    ensure!(!listed.to_string().contains(SECRET), "{listed}");
    let said = process.said()?;
    ensure!(!said.contains(SECRET), "a value is in the log");
    let refusal = format!("a call to https://localhost:{} is not granted", two.port);
    ensure!(said.matches(&refusal).count() == 1, "{said}");
    Ok(())
}

#[test]
fn a_shadow_calls_nobody_and_says_so_once() -> Result<()> {
    let web = Web::start()?;
    let stage = Stage::set(&[("in", 1)])?;
    let text = format!(
        "[jobs.job]\ninputs = [\"in\"]\ntasks = 4\ncomponent = {:?}\ncommit-interval = \"50ms\"\n\
         [jobs.job.grants]\nhttp = [{:?}]\n",
        component("caller")?,
        plain(&web)
    );
    let host = stage.host("host", &text)?;
    let process = host.start(&[])?;
    let asked = Asked { api: host.api()?, stage: &stage, job: "job" };
    asked.api.wait_caught_up("job", LIMIT)?;
    let (_, job) = asked.api.get("/v1/jobs/job")?;
    let (status, made) = asked.deploy(&json!({
        "component": job["component"], "grants": { "http": [plain(&web)] }, "shadow": { "share_percent": 100 }
    }))?;
    ensure!(status == 201, "{made}");

    // Of every task some, until every one has been called beside its shadow.
    let (mut put, get) = (0, format!("get {}", web.url("/hello")));
    wait_for("the shadow to differ", LIMIT, || {
        let entries: Vec<_> = (put..put + 20).map(|key| entry(&format!("key{key}"), &get)).collect();
        stage.put("in", &entries)?;
        put += entries.len();
        asked.api.wait_caught_up("job", LIMIT)?;
        let (status, found) = asked.api.get("/v1/jobs/job/shadow")?;
        ensure!(status == 200, "{found}");
        Ok((found["compared"]["records"].as_u64().unwrap_or_default() >= 40).then_some(()))
    })?;
    ensure!(web.asked("/hello") == put, "{} calls for {put} records", web.asked("/hello"));
    let said = process.said()?;
    let refusals = said.lines().filter(|line| line.contains("a call to http://127.0.0.1")).count();
    ensure!(refusals == 1, "{refusals} refusals are told: {said}");
    Ok(())
}

#[test]
fn those_who_wait_for_an_answer_hold_up_nobody() -> Result<()> {
    const WAITING: usize = 6;
    let web = Web::start()?;
    let stage = Stage::set(&[("in", 1), ("beside", 1)])?;
    let text = format!(
        "[jobs.job]\ninputs = [\"in\"]\ntasks = 16\ncomponent = {:?}\n[jobs.job.limits]\nbatch-timeout = \"6s\"\n\
         [jobs.job.on-error]\nretries = 0\n[jobs.job.grants]\nhttp = [{:?}]\nenv = {{ NAME = \"{SECRET}\" }}\n\
         [jobs.beside]\ninputs = [\"beside\"]\ntasks = 16\ncomponent = {:?}\ncommit-interval = \"50ms\"\n",
        component("caller")?,
        plain(&web),
        component("misbehaving")?,
    );
    let host = stage.host("host", &text)?;
    let process = host.start(&[])?;
    let api = host.api()?;
    ["job", "beside"].into_iter().try_for_each(|job| api.wait_caught_up(job, LIMIT))?;

    // One record for each of some tasks, which then all wait for what never comes.
    let tasks = TaskCount::new(16).context("16 is a count")?;
    let keys = (0..).map(|key| format!("key{key}")).map(|key| (tasks.task_of(HashKey::of(&key)).0, key));
    let mut waiting = BTreeMap::new();
    for (task, key) in keys {
        if waiting.len() < WAITING {
            waiting.entry(task).or_insert(key);
        } else {
            break;
        }
    }
    let silent = format!("get {}", web.url("/silent"));
    let records: Vec<_> = waiting.values().map(|key| entry(key, &silent)).collect();
    stage.put("in", &records)?;
    wait_for("all to wait", LIMIT, || Ok((web.asked("/silent") == WAITING).then_some(())))?;
    let mut slowest = Duration::ZERO;
    for round in 1..=10 {
        let put: Vec<_> = (0..100).map(|key| entry(&format!("key{key}"), "count")).collect();
        let began = Instant::now();
        stage.put("beside", &put)?;
        wait_for("those beside them", LIMIT, || {
            let counts = api.counts("beside")?;
            Ok((counts.values().sum::<u64>() == 100 * round).then_some(()))
        })?;
        slowest = slowest.max(began.elapsed());
    }
    println!("beside {WAITING} that wait, 100 records were folded and committed in {} ms at most", slowest.as_millis());
    ensure!(slowest < Duration::from_secs(3), "those beside them took {slowest:?}");
    wait_for("their time to be over", LIMIT, || Ok((api.dead_letters("job")?.len() == WAITING).then_some(())))?;
    let letters = api.dead_letters("job")?;
    ensure!(letters.iter().all(|letter| letter.to_string().contains("cut off after 6000 ms")), "{letters:?}");
    ensure!(!process.said()?.contains(SECRET), "a value is in the log");
    Ok(())
}
