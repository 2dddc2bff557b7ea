//! Configurations, requests and components.

const JOB: &str = "[jobs.orders]\ninputs = [\"orders\"]\ncomponent = \"a.wasm\"\n";

const WHOLE: &str = r#"[host]
listen = "localhost:0"
data-dir = "/var/lib/pelton"
name = "a"
stop-limit = "1m"
[aws]
table = "tasks"
region = "eu-west-1"
endpoint = "http://127.0.0.1:1"
kinesis-endpoint = "http://127.0.0.1:3"
dynamodb-endpoint = "http://127.0.0.1:2"
[jobs.orders]
inputs = ["orders", { stream = "refunds", from-job = "shop" }]
tasks = 16
start = 2026-01-31T12:00:00+01:00
component = "/c.wasm"
commit-interval = "50ms"
consumer = "fan-out"
out-of-range = "process"
aggregates = "accept-all"
on-gap = "continue"
outputs.totals = { stream = "totals", format = "raw" }
[jobs.orders.limits]
memory = "16MiB"
batch-timeout = "2s"
batch-writes = "1MiB"
batch-outputs = "2MiB"
answer = "3MiB"
log-lines = 4
table-elements = 0x5
core-parts = 6
dead-letters = 7
dead-letter-bytes = "1GiB"
[jobs.orders.on-error]
retries = 0
then = "stop"
[jobs.orders.grants]
env = { MODE = "strict" }
http = ["api.example.com", "http://127.0.0.1:8080", "*.example.com:8443"]
[jobs.orders.config]
currency = "EUR"
limit = 1_000
share = 0.5
strict = true
day = 2026-01-31
"#;

pub fn configs() -> Vec<(&'static str, Vec<u8>)> {
    let job = |lines: &str| format!("{JOB}{lines}").into_bytes();
    vec![
        ("whole", WHOLE.into()),
        ("least", JOB.into()),
        ("empty", Vec::new()),
        ("no-toml", b"[host\nname = ".to_vec()),
        (
            "everything-wrong",
            b"[hots]\n[host]\nnme = 1\nlisten = 7\n[aws]\ntable = \"a b\"\n[jobs.A_b]\ntasks = 0\n".into(),
        ),
        ("open-to-others", b"[host]\nlisten = \"0.0.0.0:7777\"\n".to_vec()),
        ("token-absent", b"[host]\ntoken-file = \"token\"\n".to_vec()),
        ("key-of-two-lines", b"[host]\n\"na\\nme\" = 1\n[\"jo\\u001bbs\"]\n".to_vec()),
        ("value-of-two-lines", job("start = \"\"\"a\nb\"\"\"\nconsumer = \"\\u001b[31m\"")),
        (
            "name-of-two-lines",
            b"[jobs.\"a\\nb\"]\ninputs = [\"x\"]\ncomponent = \"c\"\n[jobs.\"a\\nb\".limits]\nx = 1".into(),
        ),
        ("carriage-returns", JOB.replace('\n', "\r\n").into()),
        ("times", job("start = \"2026-01-31T12:00:00[Europe/Berlin]\"\n[jobs.orders.config]\nt = 07:32:00")),
        ("huge-numbers", job("tasks = 99999999999999999999\ncommit-interval = \"99999999999999999999h\"")),
        ("huge-sizes", job("[jobs.orders.limits]\nmemory = \"1e300EiB\"\nanswer = \"-1\"\nbatch-writes = \"NaN\"")),
        ("deep", [b"a = ".to_vec(), b"[".repeat(300)].concat()),
        ("dotted", [b"a".to_vec(), b".a".repeat(300), b" = 1".to_vec()].concat()),
        ("twice", b"[host]\nname = \"a\"\nname = \"b\"\n".to_vec()),
    ]
}

pub fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let task = wat::parse_str(TASK).unwrap();
    let push = |headers: &str| [format!("PUT /v1/components\n{headers}\n\n").as_bytes(), &task].concat();
    let get = |line: &str| format!("{line}\nhost: localhost\n\n").into_bytes();
    vec![
        ("push", push("host: 127.0.0.1:7777\ncontent-type: application/wasm")),
        ("push-as-json", push("host: [::1]\ncontent-type: application/json")),
        ("push-from-another-site", push("host: localhost\norigin: https://example.com")),
        ("push-by-another-name", push("host: pelton.example.com")),
        ("push-by-a-name-that-is-no-text", [b"PUT /v1/components\nhost: \xe9.example.com\n\n", &task[..]].concat()),
        ("push-from-a-site-that-is-no-text", [b"PUT /v1/components\norigin: http://\xe9\n\n", &task[..]].concat()),
        ("push-nothing", get("PUT /v1/components")),
        ("body-for-all", b"{\"a\": [1]}".to_vec()),
        ("core-module-for-all", b"\0asm\x01\0\0\0".to_vec()),
        ("unknown-parameter", get("GET /v1/jobs?limt=1")),
        ("parameter-twice", get("GET /v1/jobs?limit=1&limit=2")),
        ("parameter-that-is-no-text", get("GET /v1/components?start=%FF%00")),
        ("path-that-is-no-text", get("GET /v1/jobs/%FF/tasks/%00")),
        (
            "component",
            get("GET /v1/components/sha256:+a+b+c+d+e+f+0+1+2+3+4+5+6+7+8+9+a+b+c+d+e+f+0+1+2+3+4+5+6+7+8+9"),
        ),
        ("state", get("GET /v1/jobs/orders/state?partition-key=a&key-base64=AP8=")),
        ("redrive", get("POST /v1/jobs/orders/dead-letters/65536/18446744073709551616/redrive")),
        ("events", b"GET /v1/events\nhost: localhost\nlast-event-id: 0-99999999999999999999\n\n".to_vec()),
        ("head", get("HEAD /v1/jobs/none")),
        ("options", get("OPTIONS *")),
        ("method-of-its-own", get("BREW /v1/jobs")),
        ("metrics", b"GET /metrics\nhost: localhost\naccept: application/openmetrics-text;q=0.5, */*;q=x\n\n".to_vec()),
    ]
}

/// The least task: it takes lists of records and does nothing with them.
const TASK: &str = r#"(component
    (import "pelton:task/types@0.1.0" (instance $types
        (type $r (record (field "stream" string) (field "shard" string) (field "sequence-number" string)
            (field "sub-sequence-number" u64) (field "arrived" u64) (field "partition-key" string)
            (field "data" (list u8))))
        (export "record" (type (eq $r)))
        (type $k (enum "retry" "poison" "fatal"))
        (export "failure-kind" (type $kind (eq $k)))
        (type $f (record (field "kind" $kind) (field "index" (option u32)) (field "message" string)))
        (export "failure" (type (eq $f)))))
    (alias export $types "record" (type $record))
    (alias export $types "failure" (type $failure))
    (core module $m
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
        (func (export "init") (result i32) i32.const 16)
        (func (export "process") (param i32 i32) (result i32) i32.const 16))
    (core instance $i (instantiate $m))
    (func $init (result (result (error string))) (canon lift (core func $i "init") (memory (core memory $i "memory"))))
    (func $process (param "records" (list $record)) (result (result (error $failure)))
        (canon lift (core func $i "process") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
    (instance $processor (export "init" (func $init)) (export "process" (func $process)))
    (export "pelton:task/processor@0.1.0" (instance $processor)))"#;

pub fn components() -> Vec<(&'static str, Vec<u8>)> {
    let wasm = |text: &str| wat::parse_str(text).unwrap();
    let task = wasm(TASK);
    let exporting = |name: &str| {
        let text = format!("(component (component $c) (instance $i (instantiate $c)) (export {name:?} (instance $i)))");
        wasm(&text)
    };
    let importing = |name: &str| {
        let text = format!(
            "(component (import {name:?} (instance)) (component $c) (instance $i (instantiate $c)) \
             (export \"pelton:task/processor@0.1.0\" (instance $i)))"
        );
        wasm(&text)
    };
    vec![
        ("task", task.clone()),
        ("task-cut-short", task[..task.len() / 2].to_vec()),
        ("sections-alone", task[8..].to_vec()),
        ("nothing-exported", wasm("(component)")),
        ("core-module", wasm("(module (memory 1) (func (export \"f\")))")),
        ("processor-without-functions", exporting("pelton:task/processor@0.1.0")),
        ("batch-processor-without-functions", exporting("pelton:task/batch-processor@0.1.0")),
        ("processor-of-another-version", exporting("pelton:task/processor@0.2.0")),
        ("unknown-import", importing("wasi:http/types@0.2.0")),
        ("timers-without-handler", importing("pelton:task/timers@0.1.0")),
        ("older-wasi", importing("wasi:cli/exit@0.2.99")),
        ("module-that-does-not-validate", wasm("(component (core module (func (result i32))))")),
    ]
}
