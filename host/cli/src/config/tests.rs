//! What a configuration resolves to, and what is said of a wrong one.

use std::path::{Path, PathBuf};

use pelton_aws::{OutputFormat, StartRequest};
use pelton_engine::{Consumer, Grants, GuestLimits};

use super::resolve;

/// A job that lacks nothing, to which a test adds.
const JOB: &str = "[jobs.orders]\ninputs = [\"orders\"]\ncomponent = \"a.wasm\"\n";

/// Expects each of these texts to be said of a configuration.
fn check(text: &str, expected: &[&str]) {
    let said = resolve(Path::new("etc/pelton.toml"), text).unwrap_err().to_string();
    for expected in expected {
        assert!(said.contains(expected), "{text}\nis answered with\n{said}\nwhich lacks\n{expected}");
    }
}

/// Expects this to be said of a job with these further lines, the first of which is line 4.
fn check_job(lines: &str, expected: &str) {
    check(&format!("{JOB}{lines}"), &[expected]);
}

#[test]
fn what_is_not_said_has_defaults() {
    let config = resolve(Path::new("etc/pelton.toml"), JOB).unwrap();
    assert_eq!(config.host.listen.to_string(), "127.0.0.1:7777");
    assert_eq!(config.host.data_dir, PathBuf::from("etc/pelton-data"));
    assert_eq!(config.host.stop_limit.as_secs(), 30);
    assert!(config.host.access.bearer().is_none());
    assert_eq!(config.aws.table, "pelton");
    let job = &config.jobs["orders"];
    assert_eq!(job.component, PathBuf::from("etc/a.wasm"));
    assert_eq!((job.tasks.get(), job.start), (256, StartRequest::TrimHorizon));
    let settings = &job.settings;
    assert_eq!((settings.commit_interval_ms, job.limits.batch_timeout_ms), (500, 5_000));
    assert_eq!((job.limits.memory_bytes_max, settings.retries), (64 << 20, 3));
    assert_eq!(job.grants, Grants::default());
}

#[test]
fn what_is_said_is_taken() {
    let text = r#"
        [host]
        listen = "localhost:0"
        data-dir = "/var/lib/pelton"
        name = "a"
        stop-limit = "1m"
        [aws]
        table = "tasks"
        region = "eu-west-1"
        endpoint = "http://127.0.0.1:1"
        dynamodb-endpoint = "http://127.0.0.1:2"
        [jobs.orders]
        inputs = ["orders", { stream = "refunds" }]
        tasks = 16
        start = 2026-01-31T12:00:00+01:00
        component = "/c.wasm"
        commit-interval = "50ms"
        consumer = "polling"
        [jobs.orders.outputs.totals]
        stream = "totals"
        [jobs.orders.outputs.plain]
        stream = "plain"
        format = "raw"
        [jobs.orders.limits]
        memory = "16MiB"
        batch-timeout = "2s"
        batch-writes = "1MiB"
        batch-outputs = "2MiB"
        answer = "3MiB"
        log-lines = 4
        table-elements = 5
        core-parts = 6
        [jobs.orders.on-error]
        retries = 0
        then = "stop"
        [jobs.orders.config]
        currency = "EUR"
        limit = 1_000
        strict = true
    "#;
    let config = resolve(Path::new("pelton.toml"), text).unwrap();
    assert_eq!((config.host.listen.to_string().as_str(), config.host.name.as_str()), ("127.0.0.1:0", "a"));
    assert_eq!(config.aws.settings.kinesis_endpoint.as_deref(), Some("http://127.0.0.1:1"));
    assert_eq!(config.aws.settings.dynamodb_endpoint.as_deref(), Some("http://127.0.0.1:2"));
    let job = &config.jobs["orders"];
    assert_eq!(job.inputs, ["orders", "refunds"]);
    assert_eq!(job.start, StartRequest::At(1_769_857_200_000));
    assert_eq!((job.outputs["totals"].format, job.outputs["plain"].format), (OutputFormat::Kpl, OutputFormat::Raw));
    assert_eq!((job.settings.commit_interval_ms, job.limits.batch_timeout_ms), (50, 2_000));
    assert_eq!((job.limits.memory_bytes_max, job.settings.retries), (16 << 20, 0));
    let limits = GuestLimits {
        memory_bytes_max: 16 << 20,
        batch_timeout_ms: 2_000,
        table_elements_max: 5,
        core_parts_max: 6,
        batch_write_bytes_max: 1 << 20,
        batch_output_bytes_max: 2 << 20,
        answer_bytes_max: 3 << 20,
        log_lines_max: 4,
    };
    assert_eq!(job.limits, limits);
    let told: Vec<(&str, &str)> = job.config.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(told, [("currency", "EUR"), ("limit", "1000"), ("strict", "true")]);
}

#[test]
fn what_is_granted_is_taken_and_what_cannot_be_is_told() {
    let text = r#"
        [jobs.orders.grants]
        env = { MODE = "strict", WORKERS = 4 }
        http = ["api.example.com", "*.example.org:8443", "http://127.0.0.1:8080"]
    "#;
    let grants = &resolve(Path::new("pelton.toml"), &format!("{JOB}{text}")).unwrap().jobs["orders"].grants;
    let env: Vec<(&str, &str)> = grants.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("MODE", "strict"), ("WORKERS", "4")]);
    let http: Vec<String> = grants.http.iter().map(ToString::to_string).collect();
    assert_eq!(http, ["http://127.0.0.1:8080", "api.example.com", "*.example.org:8443"]);

    check_job("[jobs.orders.grants]\nhttps = []", "[jobs.orders.grants] unknown key `https`; did you mean `http`?");
    check_job("[jobs.orders.grants]\nfiles = []", "unknown key `files`; known here: env, http");
    check_job("[jobs.orders.grants]\nhttp = \"a\"", "`http` is the text \"a\"; expected a list of hosts");
    check_job("[jobs.orders.grants]\nhttp = [1]", "`http` has the number 1; expected a host");
    check_job("[jobs.orders.grants]\nhttp = [\"https://a.b\"]", "https is what \"a.b\" means");
    check_job("[jobs.orders.grants]\nhttp = [\"a.b\", \"A.b:443\"]", "`http` has \"A.b:443\" twice");
    check_job("[jobs.orders.grants]\nenv = [\"A=b\"]", "`env` is an array; expected a table");
    check_job("[jobs.orders.grants.env]\n\"A=b\" = \"c\"", "env: \"A=b\" is not a variable's name");
    check_job("grants = 1", "`grants` is the number 1; expected a table");
    check_job("env = {}", "[jobs.orders] unknown key `env`; it belongs in [jobs.NAME.grants]");
}

#[test]
fn unknown_keys_are_answered_with_the_right_one() {
    check("[hots]", &["etc/pelton.toml:1: unknown key `hots`; did you mean `host`?"]);
    check("[host]\nlisten_on = 1", &["etc/pelton.toml:2: [host] unknown key `listen_on`; did you mean `listen`?"]);
    check("[host]\ndata_dir = 1", &["unknown key `data_dir`; did you mean `data-dir`?"]);
    check("[host]\nregion = \"x\"", &["[host] unknown key `region`; it belongs in [aws]"]);
    check("[aws]\nzzz = 1", &["unknown key `zzz`; known here: table, region, endpoint"]);
    check_job("task = 1", "etc/pelton.toml:4: [jobs.orders] unknown key `task`; did you mean `tasks`?");
    check_job("[jobs.orders.limits]\nmem = 1", ":5: [jobs.orders.limits] unknown key `mem`; did you mean `memory`?");
    check_job("retries = 1", "[jobs.orders] unknown key `retries`; it belongs in [jobs.NAME.on-error]");
}

#[test]
fn shards_are_polled_unless_fan_out_is_asked_for() {
    let consumer = |lines: &str| {
        resolve(Path::new("pelton.toml"), &format!("{JOB}{lines}")).unwrap().jobs["orders"].settings.consumer
    };
    assert_eq!(consumer(""), Consumer::Polling);
    assert_eq!(consumer("consumer = \"polling\""), Consumer::Polling);
    assert_eq!(consumer("consumer = \"fan-out\""), Consumer::FanOut);
    check_job("consumer = \"fanout\"", "`consumer`: unknown value \"fanout\"; did you mean \"fan-out\"?");
    check_job("consumer = true", "`consumer` is");
}

#[test]
fn wrong_values_are_told_with_what_was_expected() {
    check_job(
        "tasks = \"many\"",
        ":4: [jobs.orders] `tasks` is the text \"many\"; expected a whole number such as 256",
    );
    check_job("tasks = 0", "`tasks`: 0 is not from 1 to 65536");
    check_job("start = \"yesterday\"", "`start`: unknown value \"yesterday\"; expected \"trim-horizon\" or \"latest\"");
    check_job("out-of-range = \"read-al\"", "`out-of-range`: unknown value \"read-al\"; did you mean \"read-all\"?");
    check_job("aggregates = \"kcl\"", "`aggregates`: unknown value \"kcl\"; did you mean \"kcl-compatible\"?");
    check_job("on-gap = \"go-on\"", "expected \"stop\" or \"continue\"");
    check_job("[jobs.orders.on-error]\nthen = \"drop\"", "expected \"dead-letter\" or \"stop\"");
    check_job("start = \"lastest\"", "did you mean \"latest\"?");
    check_job("start = \"2026-01-31\"", "is not a time such as");
    check_job("start = 2026-01-31T00:00:00", "is not a time such as");
    check_job("start = 7", "`start` is the number 7; expected \"trim-horizon\", \"latest\" or a time");
    check_job("commit-interval = 500", "`commit-interval` is the number 500; expected a duration such as \"500ms\"");
    check_job("commit-interval = \"soon\"", "\"soon\" is not a duration");
    check_job("commit-interval = \"1h\"", "\"1h\" is not from 10ms to 1m");
    check_job("consumer = \"pull\"", "`consumer`: unknown value \"pull\"");
    check_job("limits = 1", "`limits` is the number 1; expected a table");
    check_job("[jobs.orders.limits]\nmemory = \"64 bananas\"", "is not a size such as \"64MiB\"");
    check_job("[jobs.orders.limits]\nmemory = \"1KiB\"", "is not from 1.0 MiB to 4.0 GiB");
    check_job(
        "[jobs.orders.limits]\nbatch-writes = \"65MiB\"",
        "`batch-writes`: \"65MiB\" is not from 1.0 KiB to 64.0 MiB",
    );
    check_job(
        "[jobs.orders.limits]\nlog-lines = \"many\"",
        "`log-lines` is the text \"many\"; expected a whole number",
    );
    check_job("[jobs.orders.limits]\ncore-parts = 0", "`core-parts`: 0 is not from 1 to 40");
    check_job("[jobs.orders.on-error]\nretries = -1", "`retries`: -1 is not from 0 to 100");
    check_job("[jobs.orders.outputs.x]\nformat = \"avro\"", "[jobs.orders.outputs.x] `stream` is missing");
    check_job("[jobs.orders.outputs.x]\nstream = \"a b\"", "\"a b\" is not the name of a stream");
    check_job("[jobs.orders.config]\na = [1]", "`a` is an array; expected text, a number or a boolean");
}

#[test]
fn jobs_say_what_they_lack() {
    check("[jobs.a]", &["[jobs.a] `inputs` is missing", "[jobs.a] `component` is missing"]);
    check("[jobs.a]\ncomponent = \"c\"\ninputs = []", &["`inputs` is empty"]);
    check("[jobs.a]\ncomponent = \"c\"\ninputs = [\"x\", \"x\"]", &["`inputs` has \"x\" twice"]);
    check("[jobs.a]\ncomponent = \"c\"\ninputs = [1]", &["`inputs` has the number 1; expected the name of a stream"]);
    check("[jobs.a]\ncomponent = \"c\"\ninputs = \"x\"", &["`inputs` is the text \"x\"; expected a list of streams"]);
    for name in ["Orders", "a_b", &"a".repeat(65)] {
        check(
            &format!("[jobs.{name}]\ncomponent = \"c\"\ninputs = [\"x\"]"),
            &[&format!("{name:?} is not a job's name")],
        );
    }
    check("[jobs.\"\"]\ncomponent = \"c\"\ninputs = [\"x\"]", &["is not a job's name"]);
}

#[test]
fn the_host_is_not_opened_to_others_without_a_token() {
    check(
        "[host]\nlisten = \"0.0.0.0:7777\"",
        &[":2: [host] `listen` 0.0.0.0:7777 can be reached from other machines"],
    );
    check("[host]\nlisten = \"7777\"", &["\"7777\" is not an address such as"]);
    check("[host]\ntoken-file = \"none\"", &["`token-file`: reading etc/none: "]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pelton.toml");
    let text = "[host]\nlisten = \"0.0.0.0:7777\"\ntoken-file = \"token\"";
    std::fs::write(folder.path().join("token"), "short\n").unwrap();
    let said = resolve(&file, text).unwrap_err().to_string();
    assert!(said.contains("holds no token: one line of at least 16 visible ASCII characters"), "{said}");
    std::fs::write(folder.path().join("token"), "0123456789abcdef\n").unwrap();
    let config = resolve(&file, text).unwrap();
    assert_eq!(config.host.access.bearer().unwrap().expose(), "0123456789abcdef");
}

#[test]
fn everything_wrong_is_told_at_once_by_line() {
    let said =
        resolve(Path::new("p.toml"), "[host]\nnme = 1\n[aws]\ntable = 2\nendpoint = \"x\"").unwrap_err().to_string();
    let lines: Vec<&str> = said.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["p.toml:2:", "p.toml:4:", "p.toml:5:"], "{said}");
    check("[host\n", &["etc/pelton.toml:1: "]);
    check("[host]\nname = \"a\"\nname = \"b\"", &["etc/pelton.toml:3: "]);
}
