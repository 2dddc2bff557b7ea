//! As many tasks as a host may have: what is beside their instances takes no room of theirs, and deployments are tried all the same.

use std::time::Duration;

use anyhow::{Result, ensure};
use pelton_e2e::process::{component, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_engine::TASKS_MAX;
use serde_json::{Value, json};

const JOB: &str = "many";
const LIMIT: Duration = Duration::from_secs(90);
/// So many keys that nearly every task has some.
const KEYS: usize = 8 * TASKS_MAX as usize;

#[test]
fn a_shadow_of_as_many_tasks_as_there_may_be_holds_up_none_and_no_deployment() -> Result<()> {
    let stage = Stage::set(&[("in", 4)])?;
    let words = component("word_count")?;
    let job = format!("[jobs.{JOB}]\ninputs = [\"in\"]\ntasks = {TASKS_MAX}\ncomponent = {words:?}\n");
    let host = stage.host("host", &job)?;
    let (mut process, api) = (host.start_with_few_files()?, host.api()?);
    api.wait_caught_up(JOB, LIMIT)?;
    let (_, running) = api.get(&format!("/v1/jobs/{JOB}"))?;
    let deploy = |besides: Value| -> Result<()> {
        let mut body = json!({ "component": running["component"] });
        body.as_object_mut().into_iter().for_each(|body| body.extend(besides.as_object().cloned().unwrap_or_default()));
        let (status, made) = api.ask_of(JOB, "POST", "deployments", &body)?;
        ensure!(status == 201, "{made}");
        Ok(())
    };
    let records: Vec<_> = (0..KEYS).map(|key| entry(&format!("key{key}"), "word")).collect();
    let fold = |times: usize| -> Result<()> {
        stage.put("in", &records)?;
        wait_for("all to be folded", LIMIT, || {
            Ok((api.fates(JOB)?.get("folded") == Some(&((times * KEYS) as u64))).then_some(()))
        })
    };

    fold(1)?;
    // It keeps its instances for as long as nothing ends them.
    deploy(json!({ "shadow": { "share_percent": 100 } }))?;
    fold(2)?;
    fold(3)?;
    let (_, found) = api.get(&format!("/v1/jobs/{JOB}/shadow"))?;
    ensure!(found["compared"]["records"].as_u64() > Some(0), "{found}");
    ensure!(found["obstacle"].as_str().is_some_and(|why| why.contains("no room")), "there is room for all: {found}");
    ensure!(found["differences"]["failures"] == 0, "{found}");
    deploy(json!({ "config": { "changed": "1" } }))?;
    fold(4)?;
    wait_for("all to run what was deployed", LIMIT, || {
        let pinned = api.tasks(JOB)?.iter().filter(|task| task["deployment"] == 3).count();
        Ok((pinned == TASKS_MAX as usize).then_some(()))
    })?;
    process.terminate()?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.said()?);
    Ok(())
}
