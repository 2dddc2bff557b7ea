//! Bad input: each gets an error that names what and where, and changes nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use pelton_e2e::process::{Process, component};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::streams;

const LIMIT: Duration = Duration::from_secs(20);

/// Runs a host that must refuse, and expects its words.
fn refuses(stage: &Stage, name: &str, jobs: &str, code: i32, expected: &[&str]) -> Result<()> {
    let host = stage.host(name, jobs)?;
    let mut process = host.start(&[])?;
    let status = process.wait(LIMIT)?;
    let said = process.said()?;
    ensure!(status.code() == Some(code), "{name}: it ended with {status}, not {code}:\n{said}");
    for words in expected {
        ensure!(said.contains(words), "{name}: it does not say {words:?} but:\n{said}");
    }
    Ok(())
}

fn job(more: &str) -> Result<String> {
    Ok(format!("[jobs.words]\ninputs = [\"in\"]\ntasks = 4\ncomponent = {:?}\n{more}\n", component("word_count")?))
}

#[test]
fn configurations_that_cannot_run() -> Result<()> {
    let stage = Stage::set(&[("in", 1)])?;
    let cases: [(&str, String, i32, &[&str]); 6] = [
        ("unknown", job("comit-interval = \"1s\"")?, 2, &["comit-interval", "commit-interval", "unknown.toml"]),
        ("mistyped", job("start = 7")?, 2, &["start", "mistyped.toml"]),
        ("malformed", "[jobs.words\n".into(), 2, &["malformed.toml"]),
        ("unheard-of", job("consumer = \"fanout\"")?, 2, &["fanout", "did you mean \"fan-out\""]),
        ("no-file", job("")?.replace("word_count.wasm", "nothing.wasm"), 1, &["nothing.wasm"]),
        ("no-stream", job("")?.replace("\"in\"", "\"nowhere\""), 1, &["there is no stream nowhere"]),
    ];
    for (name, text, code, expected) in cases {
        refuses(&stage, name, &text, code, expected)?;
    }
    Ok(())
}

#[test]
fn jobs_that_are_not_what_they_were_created_as() -> Result<()> {
    let stage = Stage::set(&[("in", 1), ("other", 1)])?;
    let host = stage.host("first", &job("")?)?;
    let mut process = host.start(&[])?;
    stage.put("in", &[entry("key", "word")])?;
    host.api()?.wait_caught_up("words", LIMIT)?;
    process.terminate()?;
    process.wait(LIMIT)?;

    refuses(&stage, "tasks", &job("")?.replace("tasks = 4", "tasks = 5"), 1, &["4 tasks", "5"])?;
    refuses(&stage, "inputs", &job("")?.replace("\"in\"", "\"other\""), 1, &["inputs", "other"])?;
    stage.run(async {
        stage.kinesis.delete_stream().stream_name("in").send().await?;
        std::thread::sleep(Duration::from_millis(1_500));
        streams::create(&stage.kinesis, "in", 1).await
    })?;
    refuses(&stage, "recreated", &job("")?, 1, &["made again under its name"])
}

#[test]
fn files_that_are_no_tasks() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let task = std::fs::read(component("word_count")?)?;
    let empty_component = b"\0asm\x0d\0\x01\0".to_vec();
    let importing = "(component (import \"wasi:nn/graph@0.2.0\" (instance)) (component $c) (instance $i (instantiate $c)) \
        (export \"pelton:task/processor@0.1.0\" (instance $i)))";
    let importing = wat::parse_str(importing)?;
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("graph.wasm", importing, "imports wasi:nn/graph@0.2.0"),
        ("core.wasm", b"\0asm\x01\0\0\0".to_vec(), "core WebAssembly module"),
        ("cut.wasm", task[..task.len() / 2].to_vec(), "not a WebAssembly component"),
        ("text.wasm", b"hello".to_vec(), "not a WebAssembly component"),
        ("empty.wasm", empty_component, "exports neither"),
    ];
    for (name, bytes, expected) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes)?;
        let mut process = Process::start(&["check", &path.to_string_lossy()], &[], &folder.path().join("log"))?;
        let status = process.wait(LIMIT)?;
        ensure!(status.code() == Some(1), "{name}: check ended with {status}");
        ensure!(process.said()?.contains(expected), "{name}: {}", process.said()?);
        std::fs::remove_file(&process.log)?;
    }
    Ok(())
}

#[test]
fn requests_that_make_no_sense() -> Result<()> {
    let stage = Stage::set(&[("in", 1)])?;
    let host = stage.host("host", &job("")?)?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    api.wait_caught_up("words", LIMIT)?;
    let task = std::fs::read(component("word_count")?)?;
    let before = api.get("/v1/components")?;
    for (path, status) in [
        ("/v1/jobs/nope", 404),
        ("/v1/jobs/words/tasks/x", 400),
        ("/v1/jobs/words/tasks/4", 404),
        ("/v1/jobs/words/tasks/0/state?limit=many", 400),
        ("/v1/jobs/words/state?key=a", 400),
        ("/v1/nothing", 404),
    ] {
        let (found, problem) = api.get(path)?;
        ensure!(found == status, "{path}: {found} {problem}");
        ensure!(problem["detail"].is_string(), "{path}: no detail in {problem}");
    }
    let (status, problem) = api.put("/v1/components", task[..task.len() - 100].to_vec())?;
    ensure!((400..500).contains(&status) && problem["detail"].is_string(), "a truncated upload: {status} {problem}");
    ensure!(api.get("/v1/components")? == before, "a refused upload was kept");
    let (status, _) = api.put("/v1/components", task)?;
    ensure!((200..300).contains(&status), "a whole upload: {status}");
    Ok(())
}
