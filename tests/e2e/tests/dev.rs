//! `pelton dev --watch`: a component whose file changes is swapped in, its state kept, soon enough to work by.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pelton_e2e::api::Api;
use pelton_e2e::process::{Process, component, wait_for};
use pelton_e2e::servers::free_port;
use pelton_e2e::stage::entry;
use pelton_e2e::streams;
use pelton_e2e::swapping::{JOB, LIMIT, current, pins, rebuilt};

#[test]
fn dev_swaps_in_a_component_whose_file_changes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, config, log) =
        (folder.path().join("task.wasm"), folder.path().join("pelton.toml"), folder.path().join("log"));
    let bytes = std::fs::read(component("ledger")?)?;
    std::fs::write(&file, &bytes)?;
    let (port, kinesis_port, dynamodb_port) = (free_port()?, free_port()?, free_port()?);
    std::fs::write(
        &config,
        format!(
            "[host]\nlisten = \"127.0.0.1:{port}\"\n[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = 4\ncomponent = {file:?}\n\
             commit-interval = \"50ms\"\n"
        ),
    )?;
    let (kinesis, dynamodb) = (kinesis_port.to_string(), dynamodb_port.to_string());
    let config = config.to_string_lossy();
    let args = ["dev", "-c", &config, "--watch", "--kinesis-port", &kinesis, "--dynamodb-port", &dynamodb];
    let mut process = Process::start(&args, &[], &log)?;
    let api = Api::at(port)?;
    wait_for("the job to run", LIMIT, || Ok(current(&api).ok()))?;
    let client = streams::client(&format!("http://127.0.0.1:{kinesis_port}"));
    let runtime = tokio::runtime::Runtime::new()?;
    let put = |first: u64| {
        let records: Vec<_> = (first..first + 100).map(|number| entry("key", &number.to_string())).collect();
        runtime.block_on(streams::put(&client, "in", &records))
    };
    let counted = |expected: u64| {
        wait_for("the records to be folded", LIMIT, || {
            let state = api.counts(JOB).unwrap_or_default();
            Ok((state.get(b"n/key".as_slice()) == Some(&expected)).then_some(()))
        })
    };
    put(1)?;
    counted(100)?;
    std::fs::write(&file, rebuilt(&bytes, 1))?;
    wait_for("the rebuilt component to run", LIMIT, || Ok(pins(&api)?.keys().eq([&2]).then_some(())))?;
    put(101)?;
    counted(200)?;
    // What cannot run is told, and changes nothing.
    std::fs::write(&file, &bytes[..1_000])?;
    wait_for("the failure to be told", LIMIT, || {
        Ok(process.said()?.contains("goes on with what it runs").then_some(()))
    })?;
    ensure!(pins(&api)?.keys().eq([&2]));
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}

/// Where a host answers that is not told otherwise.
const DEFAULT_PORT: u16 = 7777;
/// A change is to run this soon after its file was written.
const SOON: Duration = Duration::from_secs(1);
/// Changes, of which the soonest counts: others have this machine too.
const CHANGES: u8 = 4;

#[test]
fn a_component_alone_is_swapped_in_within_a_second_with_its_state_kept() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, log) = (folder.path().join("task.wasm"), folder.path().join("log"));
    let bytes = std::fs::read(component("word_count")?)?;
    std::fs::write(&file, &bytes)?;
    let kinesis_port = free_port()?;
    let (kinesis, dynamodb) = (kinesis_port.to_string(), free_port()?.to_string());
    let path = file.to_string_lossy();
    let args = ["dev", "--component", &path, "--watch", "--kinesis-port", &kinesis, "--dynamodb-port", &dynamodb];
    let mut process = Process::start(&args, &[], &log)?;
    let api = Api::at(DEFAULT_PORT)?;
    let mut runs = |deployment: u64| {
        wait_for("every task to run what was built", LIMIT, || {
            ensure!(process.ended()?.is_none(), "{}", process.said()?);
            let tasks = api.tasks("dev").unwrap_or_default();
            let all_run_it = !tasks.is_empty() && tasks.iter().all(|task| task["deployment"] == deployment);
            Ok(all_run_it.then_some(()))
        })
    };
    runs(1)?;
    api.wait_caught_up("dev", LIMIT)?;
    let client = streams::client(&format!("http://127.0.0.1:{kinesis_port}"));
    let runtime = tokio::runtime::Runtime::new()?;
    let mut soonest = LIMIT;
    for change in 1..=CHANGES {
        runtime.block_on(streams::put(&client, "in", &[entry("key", "word")]))?;
        wait_for("the record to be folded", LIMIT, || {
            let counts = api.counts("dev").unwrap_or_default();
            Ok((counts.get(b"word".as_slice()) == Some(&change.into())).then_some(()))
        })?;
        let began = Instant::now();
        std::fs::write(&file, rebuilt(&bytes, change))?;
        runs(u64::from(change) + 1)?;
        soonest = soonest.min(began.elapsed());
    }
    println!(
        "a change ran in all tasks {} ms after its file was written, of {CHANGES} the soonest",
        soonest.as_millis()
    );
    ensure!(soonest < SOON, "a change ran {soonest:?} after its file was written");
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}
