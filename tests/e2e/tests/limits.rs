//! What a guest may use: each limit is met by one that would pass it, and what is said names the limit and its key. Nothing
//! that a guest can ask for holds a thread, or memory of the host, beyond a bound; nor does what its compiler asks for.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pelton_e2e::api::Api;
use pelton_e2e::instance::{Instance, SOME};
use pelton_e2e::process::{component, pelton_says, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_engine::GuestLimits;
use pelton_engine::guest::Invocation;
use serde_json::{Value, json};

const JOB: &str = "job";
const LIMIT: Duration = Duration::from_secs(40);

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
    let problem: Value = serde_json::from_slice(&answer.body)?;
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

/// A job that does what its records say, and whose deployments differ in a limit.
struct Deployed {
    stage: Stage,
    api: Api,
    component: Value,
}

impl Deployed {
    /// Puts a record, and waits until it is folded or set aside; what it was set aside for, if it was.
    fn came(&self, text: &str) -> Result<Option<String>> {
        let stands = || -> Result<(u64, Vec<Value>)> {
            let folded = self.api.fates(JOB)?.get("folded").copied().unwrap_or_default();
            Ok((folded, self.api.dead_letters(JOB)?))
        };
        let (folded, letters) = stands()?;
        self.stage.put("in", &[entry("key", text)])?;
        wait_for(text, LIMIT, || {
            let (folded_now, letters_now) = stands()?;
            let letter = letters_now.get(letters.len()).map(Value::to_string);
            Ok((letter.is_some() || folded_now > folded).then_some(letter))
        })
    }

    fn passes(&self, text: &str) -> Result<()> {
        let letter = self.came(text)?;
        ensure!(letter.is_none(), "{text} is set aside: {letter:?}");
        Ok(())
    }

    fn ask_for(&self, limits: &Value) -> Result<(u16, Value)> {
        self.api.ask_of(JOB, "POST", "deployments", &json!({ "component": self.component, "limits": limits }))
    }

    /// Has the job run a deployment with these limits.
    fn deploy(&self, limits: &Value) -> Result<u64> {
        let (status, made) = self.ask_for(limits)?;
        ensure!(status == 201, "{limits}: {made}");
        let number = made["deployment"].as_u64().context("a deployment has a number")?;
        self.runs(number)?;
        Ok(number)
    }

    fn goes_back(&self) -> Result<()> {
        let (status, rollout) = self.api.ask_of(JOB, "POST", "deployments/1/rollback", &Value::Null)?;
        ensure!(status == 200, "{rollout}");
        self.runs(1)
    }

    fn runs(&self, number: u64) -> Result<()> {
        wait_for("the task to change", LIMIT, || Ok((self.api.tasks(JOB)?[0]["deployment"] == number).then_some(())))
    }

    /// How many lines a deployment's guests printed, and how many more are told to be dropped.
    fn printed(&self, number: u64) -> Result<(usize, u64)> {
        let (base, number) = (&self.api.base, number.to_string());
        let (code, out, said) =
            pelton_says(&["--json", "logs", "--url", base, JOB, "--deployment", &number, "-n", "1000"])?;
        ensure!(code == 0, "{said}");
        let lines = out.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let printed = lines.iter().filter(|line| line["source"] == "stdout").count();
        let texts = lines.iter().filter_map(|line| line["text"].as_str());
        let dropped = texts.filter(|text| text.contains("`log-lines`")).map(|text| {
            let number = text.split_once(" lines were dropped").and_then(|(before, _)| before.rsplit(' ').next());
            number.and_then(|number| number.parse::<u64>().ok()).with_context(|| format!("{text:?} names no number"))
        });
        Ok((printed, dropped.sum::<Result<u64>>()?))
    }
}

#[test]
fn each_limit_is_that_of_the_deployment_that_runs() -> Result<()> {
    let stage = Stage::set(&[("in", 1), ("out", 1)])?;
    let text = format!(
        "[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = 1\ncomponent = {:?}\ncommit-interval = \"50ms\"\n\
         [jobs.{JOB}.outputs.out]\nstream = \"out\"\n[jobs.{JOB}.limits]\nbatch-timeout = \"30s\"\n\
         [jobs.{JOB}.on-error]\nretries = 0\n",
        component("misbehaving")?
    );
    let host = stage.host("host", &text)?;
    let (_process, api) = (host.start(&[])?, host.api()?);
    api.wait_caught_up(JOB, LIMIT)?;
    let component = api.get(&format!("/v1/jobs/{JOB}"))?.1["component"].clone();
    let deployed = Deployed { stage, api, component };

    // What is read is what was written before.
    for (limits, text, said) in [
        (json!({ "memory_bytes": 8 << 20 }), "hold", "more memory than its limit of 8388608 bytes, `memory`"),
        (json!({ "batch_timeout_ms": 250 }), "toil", "cut off after 250 ms, the `batch-timeout`"),
        (json!({ "batch_write_bytes": 1 << 20 }), "write", "than its limit of 1048576 bytes, `batch-writes`"),
        (json!({ "answer_bytes": 64 << 10 }), "recall", "in one answer than its limit of 65536 bytes, `answer`"),
        (json!({ "batch_output_bytes": 1 << 20 }), "emit", "than its limit of 1048576 bytes, `batch-outputs`"),
    ] {
        deployed.passes(text)?;
        deployed.deploy(&limits)?;
        let letter = deployed.came(text)?.with_context(|| format!("{text} passes with {limits}"))?;
        ensure!(letter.contains(said), "{text} with {limits} is set aside for {letter}, not {said:?}");
        deployed.goes_back()?;
        deployed.passes(text)?;
    }
    // Lines that are too many are dropped, and no call fails for them.
    for (limits, lines, dropped) in [(json!({ "log_lines": 10 }), 10, 30), (json!({ "log_lines": 40 }), 40, 0)] {
        let number = deployed.deploy(&limits)?;
        deployed.passes("mutter")?;
        deployed.goes_back()?;
        // It is told in one line, or where the log is looked after meanwhile in two.
        let (printed, told) = wait_for("what is dropped to be told", LIMIT, || {
            let (printed, told) = deployed.printed(number)?;
            Ok((told >= dropped).then_some((printed, told)))
        })?;
        ensure!((printed, told) == (lines, dropped), "{printed} lines with {limits}, {told} told as dropped");
    }
    // What cannot begin is refused, and the job goes on with what it runs.
    for (limits, said) in [
        (json!({ "table_elements": 2 }), "elements of tables than its limit of 2, `table-elements`"),
        (json!({ "core_parts": 1 }), "limit of 1 of each, `core-parts`"),
    ] {
        let (status, problem) = deployed.ask_for(&limits)?;
        let detail = problem["detail"].as_str().unwrap_or_default();
        ensure!(status == 422 && detail.contains(said), "{limits}: {status} {problem}");
        deployed.runs(1)?;
        deployed.passes("begins")?;
    }
    Ok(())
}
