//! What hosts do to each other and to themselves: two fight over a job, one is told to stop, one finds its files damaged.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use pelton_e2e::process::{component, wait_for};
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::streams::Entry;

const LIMIT: Duration = Duration::from_secs(30);

fn word_count(job: &str, input: &str, tasks: u32, more: &str) -> Result<String> {
    Ok(format!(
        "[jobs.{job}]\ninputs = [\"{input}\"]\ntasks = {tasks}\ncomponent = {:?}\n{more}",
        component("word_count")?
    ))
}

/// Records of so many keys, each a word of its own key.
fn words(keys: usize, records: usize) -> Vec<Entry> {
    (0..records).map(|index| entry(&format!("key{}", index % keys), &format!("key{}", index % keys))).collect()
}

fn expect_counts(counts: &BTreeMap<Vec<u8>, u64>, keys: usize, each: u64) -> Result<()> {
    for key in 0..keys {
        let found = counts.get(format!("key{key}").as_bytes());
        ensure!(found == Some(&each), "key{key}: {found:?} where {each} were put");
    }
    ensure!(counts.len() == keys, "{} words where {keys} were put", counts.len());
    Ok(())
}

#[test]
fn a_second_host_takes_the_tasks_and_the_first_says_so() -> Result<()> {
    let stage = Stage::set(&[("in", 2)])?;
    let job = word_count("fight", "in", 16, "")?;
    let (first, second) = (stage.host("first", &job)?, stage.host("second", &job)?);
    let _one = first.start(&[])?;
    stage.put("in", &words(50, 500))?;
    first.api()?.wait_caught_up("fight", LIMIT)?;
    let _two = second.start(&[])?;
    for _ in 0..10 {
        stage.put("in", &words(50, 500))?;
    }
    second.api()?.wait_caught_up("fight", LIMIT)?;
    expect_counts(&second.api()?.counts("fight")?, 50, 110)?;
    let api = first.api()?;
    wait_for("the first host to see that it lost", LIMIT, || {
        // It sees it where it commits, for which there may have been nothing left when the second was there.
        stage.put("in", &words(50, 50))?;
        let tasks = api.tasks("fight")?;
        let lost =
            |task: &serde_json::Value| task["cause"].as_str().is_some_and(|cause| cause.contains("another host"));
        Ok((tasks.iter().filter(|task| lost(task)).count() > 10).then_some(()))
    })
}

#[test]
fn told_to_stop_a_host_commits_publishes_and_exits_clean() -> Result<()> {
    let stage = Stage::set(&[("in", 2)])?;
    let job = word_count("stopping", "in", 16, "commit-interval = \"1m\"\n")?;
    let host = stage.host("host", &job)?;
    let mut process = host.start(&[])?;
    stage.put("in", &words(50, 5_000))?;
    let api = host.api()?;
    wait_for("all to be folded, and nothing to be committed", LIMIT, || {
        let tasks = api.tasks("stopping").unwrap_or_default();
        let folded: u64 = tasks.iter().filter_map(|task| task["records_folded"].as_u64()).sum();
        Ok((folded == 5_000).then_some(()))
    })?;
    process.terminate()?;
    let status = process.wait(LIMIT)?;
    ensure!(status.success(), "it ended with {status}:\n{}", process.said()?);
    let _again = host.start(&[])?;
    let folded = || -> Result<u64> {
        host.api()?.wait_caught_up("stopping", LIMIT)?;
        let tasks = host.api()?.tasks("stopping")?;
        Ok(tasks.iter().filter_map(|task| task["records_folded"].as_u64()).sum())
    };
    ensure!(folded()? == 0, "started again, it folded what it had committed when it stopped");
    expect_counts(&host.api()?.counts("stopping")?, 50, 100)
}

#[test]
fn damaged_local_files_are_rebuilt_with_a_warning() -> Result<()> {
    let stage = Stage::set(&[("in", 2)])?;
    let host = stage.host("host", &word_count("damaged", "in", 4, "")?)?;
    let mut process = host.start(&[])?;
    stage.put("in", &words(50, 500))?;
    host.api()?.wait_caught_up("damaged", LIMIT)?;
    process.terminate()?;
    process.wait(LIMIT)?;
    let incarnation = std::fs::read_dir(host.data.join("state"))?.next().context("a job has a folder")??.path();
    for (index, file) in std::fs::read_dir(incarnation)?.enumerate() {
        let path = file?.path();
        let mut bytes = std::fs::read(&path)?;
        match index % 2 {
            0 => bytes.truncate(bytes.len() / 2),
            _ => bytes.iter_mut().skip(1_000).step_by(7).for_each(|byte| *byte ^= 0x5a),
        }
        std::fs::write(&path, bytes)?;
    }
    let process = host.start(&[])?;
    host.api()?.wait_caught_up("damaged", LIMIT)?;
    expect_counts(&host.api()?.counts("damaged")?, 50, 10)?;
    ensure!(process.said()?.contains("rebuilt from the changelog"), "no warning:\n{}", process.said()?);
    Ok(())
}

#[test]
fn a_damaged_commit_stops_its_task_alone_and_is_named() -> Result<()> {
    let stage = Stage::set(&[("in", 2)])?;
    let host = stage.host("host", &word_count("holed", "in", 4, "")?)?;
    let mut process = host.start(&[])?;
    stage.put("in", &words(50, 500))?;
    host.api()?.wait_caught_up("holed", LIMIT)?;
    process.kill()?;
    std::fs::remove_dir_all(&host.data)?;
    stage.run(damage_a_commit(&stage.servers.dynamodb()))?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    wait_for("one task to stop and the others to run", LIMIT, || {
        let tasks = api.tasks("holed").unwrap_or_default();
        let stopped: Vec<_> = tasks.iter().filter(|task| task["phase"] == "stopped").collect();
        let running = tasks.iter().filter(|task| task["phase"] == "running").count();
        if running != 3 || stopped.len() != 1 {
            return Ok(None);
        }
        let cause = stopped[0]["cause"].as_str().unwrap_or_default().to_owned();
        ensure!(cause.contains("commit 2") && cause.contains("corrupt"), "the cause is {cause:?}");
        Ok(Some(()))
    })
}

/// Changes a byte within the second commit of some task.
async fn damage_a_commit(endpoint: &str) -> Result<()> {
    use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(endpoint)
        .build();
    let client = aws_sdk_dynamodb::Client::from_conf(config);
    let items = client.scan().table_name("pelton-test").send().await?;
    let second = |item: &&std::collections::HashMap<String, AttributeValue>| {
        item["sk"].as_s().is_ok_and(|sk| sk == "log/00000000000000000002")
    };
    let mut item = items.items().iter().find(second).cloned().context("a task has a second commit")?;
    let mut data = item["data"].as_b().map_err(|_| anyhow::anyhow!("data is binary"))?.clone().into_inner();
    *data.last_mut().context("data is not empty")? ^= 1;
    item.insert("data".into(), AttributeValue::B(Blob::new(data)));
    client.put_item().table_name("pelton-test").set_item(Some(item)).send().await?;
    Ok(())
}
