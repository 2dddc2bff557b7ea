//! For every way in which a record can be set aside: what is folded, dead letters and counted drops add up to what was put.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kinesis::primitives::Blob;
use pelton_core::slice::HashKey;
use pelton_e2e::aggregate::{Part, aggregate, damaged, part};
use pelton_e2e::host::HostFiles;
use pelton_e2e::process::{Process, component, pelton_says, wait_for};
use pelton_e2e::stage::{Stage, entry};

const LIMIT: Duration = Duration::from_secs(40);
/// The first hash key of the second of two shards.
const MIDDLE: u128 = 1 << 127;

fn job(settings: &str) -> Result<String> {
    let file = component("misbehaving")?;
    let more = "[jobs.odd.limits]\nbatch-timeout = \"1s\"\n[jobs.odd.on-error]\nretries = 1\n";
    Ok(format!("[jobs.odd]\ninputs = [\"in\"]\ntasks = 8\ncomponent = {file:?}\n{settings}\n{more}"))
}

/// Keys of the lower shard, then keys of the upper one.
fn keys(upper: bool, count: usize) -> Vec<String> {
    let keys = (0..).map(|at| format!("key{at}"));
    keys.filter(|key| (HashKey::of(key).0 >= MIDDLE) == upper).take(count).collect()
}

/// A record as it is put: key, data, and the hash key that decides its shard where it is not the key's own.
type Put = (String, Vec<u8>, Option<u128>);

fn put(stage: &Stage, puts: &[Put]) -> Result<()> {
    for (key, data, chosen) in puts {
        let put = stage.kinesis.put_record().stream_name("in").partition_key(key).data(Blob::new(data.clone()));
        let put = put.set_explicit_hash_key(chosen.map(|chosen| chosen.to_string()));
        stage.run(put.send())?;
    }
    Ok(())
}

fn odd_job(settings: &str) -> Result<(Stage, HostFiles, Process)> {
    let stage = Stage::set(&[("in", 2)])?;
    let host = stage.host("host", &job(settings)?)?;
    let process = host.start(&[])?;
    Ok((stage, host, process))
}

/// Puts records among plain ones of every key, lets the host die once, and compares what became of all, and which keys'
/// records were counted how often besides once in the beginning and once in the end.
fn check(settings: &str, puts: &[Put], expected: &str, counted: &[(&str, u64)]) -> Result<()> {
    let (stage, host, mut process) = odd_job(settings)?;
    let plain: Vec<_> = keys(false, 20).iter().chain(&keys(true, 20)).map(|key| entry(key, "count")).collect();
    stage.put("in", &plain)?;
    put(&stage, puts)?;
    host.api()?.wait_caught_up("odd", LIMIT)?;
    process.kill()?;
    let _process = host.start(&[])?;
    stage.put("in", &plain)?;
    let api = host.api()?;
    api.wait_caught_up("odd", LIMIT)?;
    let mut fates = api.fates("odd")?;
    *fates.get_mut("folded").context("something is folded")? -= 80;
    let shown: Vec<String> = fates.iter().map(|(fate, count)| format!("{fate}:{count}")).collect();
    ensure!(shown.join(" ") == expected, "{settings}: what became of the records is {shown:?}, not {expected:?}");
    let letters = api.dead_letters("odd")?;
    ensure!(letters.len() as u64 == fates.get("dead").copied().unwrap_or(0), "{settings}: {letters:?}");
    let mut counts: BTreeMap<Vec<u8>, u64> = api.counts("odd")?;
    for (key, _) in &plain {
        *counts.entry(key.as_bytes().to_vec()).or_default() -= 2;
    }
    counts.retain(|_, count| *count > 0);
    let expected: BTreeMap<Vec<u8>, u64> =
        counted.iter().map(|(key, count)| (key.as_bytes().to_vec(), *count)).collect();
    ensure!(counts == expected, "{settings}: the odd records counted are {counts:?}");
    Ok(())
}

#[test]
fn records_outside_their_shard() -> Result<()> {
    // Keys of the lower shard, put into the upper one.
    let lower = keys(false, 2);
    let puts: Vec<Put> = lower.iter().map(|key| (key.clone(), b"odd".to_vec(), Some(MIDDLE))).collect();
    let counted = [(lower[0].as_str(), 1), (lower[1].as_str(), 1)];
    check("", &puts, "dead:2 folded:0", &[])?;
    check("out-of-range = \"drop\"", &puts, "folded:0 out-of-range:2", &[])?;
    check("out-of-range = \"process\"", &puts, "folded:2", &counted)?;
    check("out-of-range = \"read-all\"", &puts, "folded:2", &counted)
}

#[test]
fn records_of_aggregates() -> Result<()> {
    let (lower, upper) = (keys(false, 3), keys(true, 1));
    // One of the shard, one of the shard by its key and outside by its chosen hash, one outside by its key; in the lower.
    let parts = [
        part(&lower[0], "odd"),
        Part { chosen: Some(HashKey(MIDDLE)), ..part(&lower[1], "odd") },
        part(&upper[0], "odd"),
        part(&lower[2], "odd"),
    ];
    let puts: Vec<Put> = vec![("a".into(), aggregate(&parts), Some(0)), ("a".into(), damaged(&parts), Some(0))];
    let hash_of_a = HashKey::of("a").0;
    ensure!(hash_of_a < MIDDLE, "the damaged one is in its own shard");
    let (first, last) = ((lower[0].as_str(), 1), (lower[2].as_str(), 1));
    check("", &puts, "dead:2 folded:3 malformed:1", &[first, last, ("a", 1)])?;
    let some = [first, last, ("a", 1)];
    check("aggregates = \"per-sub-record\"", &puts, "folded:3 malformed:1 stray:2", &some)?;
    check("aggregates = \"kcl-compatible\"", &puts, "folded:1 malformed:1 stray:2 with-stray:2", &[("a", 1)])?;
    // Taken as any record, the one whose key is another shard's is out of range.
    let most = [first, (lower[1].as_str(), 1), last, ("a", 1)];
    check("aggregates = \"accept-all\"", &puts, "dead:1 folded:4 malformed:1", &most)?;
    let all = [first, (lower[1].as_str(), 1), (upper[0].as_str(), 1), last, ("a", 1)];
    check("aggregates = \"accept-all\"\nout-of-range = \"read-all\"", &puts, "folded:5 malformed:1", &all)
}

#[test]
fn records_that_the_logic_cannot_take() -> Result<()> {
    let keys = keys(false, 4);
    let bad = |at: usize, what: &str| -> Put { (keys[at].clone(), what.as_bytes().to_vec(), None) };
    let puts = [bad(0, "odd"), bad(1, "poison"), bad(2, "trap"), bad(3, "loop"), bad(1, "odd")];
    check("", &puts, "dead:3 folded:2", &[(keys[0].as_str(), 1), (keys[1].as_str(), 1)])
}

#[test]
fn a_dead_letter_is_folded_once_after_all_or_dropped() -> Result<()> {
    let (stage, host, mut process) = odd_job("")?;
    let key = &keys(false, 1)[0];
    put(&stage, &[(key.clone(), b"cured".to_vec(), None), (key.clone(), b"poison".to_vec(), None)])?;
    let api = host.api()?;
    api.wait_caught_up("odd", LIMIT)?;
    let letters = api.dead_letters("odd")?;
    ensure!(letters.len() == 2, "{letters:?}");
    let (cured, poison) = (&letters[0], &letters[1]);
    ensure!((cured["cause"] == "failed", poison["cause"] == "poison") == (true, true), "{letters:?}");
    ensure!(cured["attempts"] == 2 && cured["content"]["partition_key"] == key.as_str(), "{cured}");
    let at = |letter: &serde_json::Value| format!("/v1/jobs/odd/dead-letters/{}/{}", letter["task"], letter["number"]);
    // There is no cure: it stays, with one attempt more, and its task goes on.
    ensure!(api.post(&format!("{}/redrive", at(cured)))? == 202);
    wait_for("another attempt", LIMIT, || Ok((api.get(&at(cured))?.1["attempts"] == 3).then_some(())))?;
    ensure!(!api.fates("odd")?.contains_key("redriven"));

    let text = std::fs::read_to_string(&host.config)?;
    std::fs::write(&host.config, format!("{text}\n[jobs.odd.config]\ncure = true\n"))?;
    let (exit, _, said) = pelton_says(&["deploy", "odd", "-c", &host.config.to_string_lossy()])?;
    ensure!(exit == 0, "{said}");
    for _ in 0..5 {
        // However often it is asked for.
        let status = api.post(&format!("{}/redrive", at(cured)))?;
        ensure!(status == 202 || status == 404, "{status}");
    }
    ensure!(api.delete(&at(poison))? == 202);
    wait_for("both to be gone", LIMIT, || Ok(api.dead_letters("odd")?.is_empty().then_some(())))?;
    process.kill()?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    api.wait_caught_up("odd", LIMIT)?;
    ensure!(api.counts("odd")?.values().sum::<u64>() == 1, "it is folded once");
    let fates = api.fates("odd")?;
    ensure!(fates.get("redriven") == Some(&1) && fates.get("dead") == Some(&2), "{fates:?}");
    ensure!(api.get(&at(cured))?.0 == 404 && api.delete(&at(poison))? == 404);
    Ok(())
}

#[test]
fn dead_letters_at_their_bound_stop_their_task() -> Result<()> {
    let settings = "[jobs.odd.limits]\ndead-letters = 2\nbatch-timeout = \"1s\"\n";
    let file = component("misbehaving")?;
    let stage = Stage::set(&[("in", 2)])?;
    let job = format!("[jobs.odd]\ninputs = [\"in\"]\ntasks = 8\ncomponent = {file:?}\n{settings}");
    let host = stage.host("host", &job)?;
    let mut process = host.start(&[])?;
    let key = &keys(false, 1)[0];
    let bad: Vec<Put> = (0..3).map(|_| (key.clone(), b"poison".to_vec(), None)).collect();
    put(&stage, &bad)?;
    stage.put("in", &[entry(key, "odd")])?;
    let api = host.api()?;
    let stopped = wait_for("the task to stop", LIMIT, || {
        Ok(api.tasks("odd").unwrap_or_default().into_iter().find(|task| task["phase"] == "stopped"))
    })?;
    let cause = stopped["cause"].as_str().unwrap_or_default();
    ensure!(cause.contains("2 dead letters") && cause.contains("limits.dead-letters"), "{cause}");
    ensure!(api.dead_letters("odd")?.len() == 2, "they can be looked at");
    process.kill()?;
    let text = std::fs::read_to_string(&host.config)?;
    std::fs::write(&host.config, text.replace("dead-letters = 2", "dead-letters = 10"))?;
    let _process = host.start(&[])?;
    let api = host.api()?;
    api.wait_caught_up("odd", LIMIT)?;
    ensure!(api.dead_letters("odd")?.len() == 3 && api.counts("odd")?.values().sum::<u64>() == 1);
    Ok(())
}

#[test]
fn policies_of_a_living_job_do_not_change() -> Result<()> {
    let (stage, host, mut process) = odd_job("out-of-range = \"drop\"")?;
    host.api()?.wait_caught_up("odd", LIMIT)?;
    process.kill()?;
    for (changed, named) in [
        ("out-of-range = \"process\"", "out-of-range = \"drop\""),
        ("aggregates = \"accept-all\"", "aggregates = \"dead-letter\""),
    ] {
        let kept = if changed.starts_with("agg") { "out-of-range = \"drop\"\n" } else { "" };
        let other = stage.host("other", &job(&format!("{kept}{changed}"))?)?;
        let mut refused = other.start(&[])?;
        let status = refused.wait(LIMIT)?;
        let log = std::fs::read_to_string(&other.log)?;
        ensure!(!status.success() && log.contains(named) && log.contains("nobody's"), "{changed}: {log}");
    }
    let _process = host.start(&[])?;
    host.api()?.wait_caught_up("odd", LIMIT)
}
