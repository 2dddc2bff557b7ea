//! What a guest may use: each limit is met by one that would pass it, and what is said names the limit and its key. Nothing
//! that a guest can ask for holds a thread, or memory of the host, beyond a bound; nor does what its compiler asks for.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pelton_e2e::instance::{Instance, SOME};
use pelton_e2e::process::{component, pelton_says, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_engine::GuestLimits;
use pelton_engine::guest::Invocation;

/// Has a component process a record, and expects it to fail with these words.
fn check(component: &str, limits: GuestLimits, text: &str, expected: &[&str]) -> Result<()> {
    let began = Instant::now();
    let error = Instance::of(component, limits)?.call(&[text], SOME).err();
    let said = error.map_or("nothing".into(), |error| error.to_string());
    for expected in expected {
        ensure!(said.contains(expected), "{text} is answered with {said:?}, without {expected:?}");
    }
    ensure!(began.elapsed() < Duration::from_secs(60), "{text} held its thread for {:?}", began.elapsed());
    Ok(())
}

/// A component whose compiler keeps a value for each local variable in each of so many loops, and looks at each of them
/// many times.
fn bomb(loops: usize, locals: usize) -> Result<Vec<u8>> {
    let uses: String = (0..locals).map(|local| format!("local.get {local} i64.eqz br_if 0 ")).collect();
    let (begin, end, locals) = ("loop ".repeat(loops), "end ".repeat(loops), "i64 ".repeat(locals));
    Ok(wat::parse_str(format!("(component (core module (func (local {locals}) {begin} {uses} {end})))"))?)
}

/// How many files there are in a folder.
fn files(folder: &Path) -> Result<usize> {
    Ok(std::fs::read_dir(folder)?.count())
}

fn limits(set: impl FnOnce(&mut GuestLimits)) -> GuestLimits {
    let mut limits = GuestLimits::default();
    set(&mut limits);
    limits
}

#[test]
fn writes_of_a_batch() -> Result<()> {
    let limits = limits(|limits| limits.batch_write_bytes_max = 1 << 20);
    check(
        "misbehaving",
        limits,
        "write",
        &["more writes in a batch than its limit of 1048576 bytes", "`batch-writes`"],
    )?;
    check("stores", limits, "list", &["would pass 1048576 bytes, `batch-writes`"])
}

#[test]
fn outputs_of_a_batch() -> Result<()> {
    let limits = limits(|limits| limits.batch_output_bytes_max = 1 << 20);
    check(
        "misbehaving",
        limits,
        "emit",
        &["more outputs in a batch than its limit of 1048576 bytes", "`batch-outputs`"],
    )
}

#[test]
fn values_in_an_answer() -> Result<()> {
    check("stores", GuestLimits::default(), "answer", &["would pass 16777216 bytes, `answer`", "ask for fewer keys"])?;
    let limits = limits(|limits| limits.answer_bytes_max = 1 << 20);
    check("stores", limits, "answer", &["more values in one answer than its limit of 1048576 bytes"])
}

#[test]
fn what_an_instance_is_made_of() -> Result<()> {
    let parts = limits(|limits| limits.core_parts_max = 1);
    check("word_count", parts, "a", &["cannot be started", "limit of 1 of each, `core-parts`"])?;
    let elements = limits(|limits| limits.table_elements_max = 2);
    check("word_count", elements, "a", &["cannot be started", "limit of 2, `table-elements`"])
}

#[test]
fn what_the_host_keeps_for_a_guest() -> Result<()> {
    check("stores", GuestLimits::default(), "hoard", &["a compare-and-swap more is not given"])?;
    check("stores", GuestLimits::default(), "handles", &["trapped", "handle"])?;
    check("stores", GuestLimits::default(), "randomness", &["trapped", "exceeds limit"])?;
    // What is given back counts no longer.
    Instance::of("stores", GuestLimits::default())?.call(&["open"], SOME)?;
    Ok(())
}

#[test]
fn an_hour_of_sleep_takes_no_time() -> Result<()> {
    let began = Instant::now();
    Instance::of("stores", GuestLimits::default())?.call(&["sleep"], SOME)?;
    ensure!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
    Ok(())
}

#[test]
fn a_call_made_again_observes_the_same() -> Result<()> {
    let observed = |invocation| -> Result<Vec<_>> {
        let effects = Instance::of("stores", GuestLimits::default())?.call(&["observe", "swap"], invocation)?;
        Ok(effects.writes.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    };
    let invocation = Invocation { time_ms: 1_800_000_000_000, seed: 42 };
    let first = observed(invocation)?;
    ensure!(first == observed(invocation)?, "the same call observed something else: {first:?}");
    ensure!(first != observed(Invocation { time_ms: 1_800_000_000_001, ..invocation })?, "it does not see the time");
    Ok(())
}

#[test]
fn a_component_whose_compiler_is_killed_is_refused_and_the_host_goes_on() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(40);
    let stage = Stage::set(&[("in", 1)])?;
    let job = format!("[jobs.good]\ninputs = [\"in\"]\ntasks = 2\ncomponent = {:?}\n", component("misbehaving")?);
    let host = stage.host("host", &job)?;
    let (process, api) = (host.start(&[])?, host.api()?);
    stage.put("in", &[entry("good", "count")])?;
    api.wait_caught_up("good", LIMIT)?;
    let compiled = host.data.join("compiled");
    let (kept, files_before) = (api.get("/v1/components")?, files(&compiled)?);
    let bomb = bomb(300, 5_000)?;
    let answer = thread::scope(|scope| {
        let push = scope.spawn(|| api.ask("PUT", "/v1/components", &[], &bomb));
        wait_for("a compiler", LIMIT, || Ok((process.kill_children()? > 0).then_some(())))?;
        push.join().expect("asking does not panic")
    })?;
    let problem: serde_json::Value = serde_json::from_slice(&answer.body)?;
    ensure!(answer.status == 422 && problem["type"] == "urn:pelton:problem:invalid-component", "{problem}");
    let detail = problem["detail"].as_str().context("a problem has a detail")?;
    ensure!(detail.contains("crashed the compiler (signal: 9 (SIGKILL))"), "{detail}");
    ensure!(api.get("/v1/components")? == kept && files(&compiled)? == files_before, "something of it was kept");
    stage.put("in", &[entry("good", "count")])?;
    wait_for("the host to go on", LIMIT, || {
        let counts = api.counts("good")?;
        Ok((counts.get(b"good".as_slice()) == Some(&2)).then_some(()))
    })
}

#[test]
fn a_component_that_takes_gigabytes_to_compile() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bomb.wasm");
    std::fs::write(&file, bomb(1_000, 20_000)?)?;
    let (code, _, said) = pelton_says(&["check", &file.to_string_lossy()])?;
    ensure!(code == 1 && said.contains("needs more than 2048 MiB of memory"), "exit code {code}: {said}");
    Ok(())
}
