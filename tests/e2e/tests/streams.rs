//! What streams do to a job: where it starts, and how two of them meet in one task.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pelton_core::aggregate;
use pelton_e2e::process::component;
use pelton_e2e::stage::{Stage, entry};
use pelton_e2e::streams::{self, Entry};

const LIMIT: Duration = Duration::from_secs(30);
const KEYS: usize = 60;

fn records(word: &str) -> Vec<Entry> {
    (0..KEYS).map(|key| entry(&format!("key{key}"), word)).collect()
}

fn word_count(start: &str) -> Result<String> {
    Ok(format!(
        "[jobs.from]\ninputs = [\"in\"]\ntasks = 8\ncomponent = {:?}\nstart = \"{start}\"\n",
        component("word_count")?
    ))
}

#[test]
fn a_job_that_starts_at_a_time_takes_what_arrives_from_then_on() -> Result<()> {
    let stage = Stage::set(&[("in", 4)])?;
    stage.put("in", &records("before"))?;
    // Records and the emulator's iterators have a grain of one second.
    std::thread::sleep(Duration::from_millis(2_100));
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    std::thread::sleep(Duration::from_millis(1_100));
    stage.put("in", &records("after"))?;
    let host = stage.host("host", &word_count(&rfc3339(seconds))?)?;
    let _process = host.start(&[])?;
    host.api()?.wait_caught_up("from", LIMIT)?;
    let counts = host.api()?.counts("from")?;
    ensure!(counts.get(&b"after"[..]) == Some(&(KEYS as u64)), "{counts:?}");
    ensure!(!counts.contains_key(&b"before"[..]), "{counts:?}");
    Ok(())
}

#[test]
fn a_job_that_starts_latest_keeps_its_start_when_its_host_dies_before_it_commits() -> Result<()> {
    let stage = Stage::set(&[("in", 4)])?;
    stage.put("in", &records("before"))?;
    std::thread::sleep(Duration::from_millis(2_100));
    let host = stage.host("host", &word_count("latest")?)?;
    // The job is created, and its host dies at its first fence.
    let mut process = host.start(&[("PELTON_FAULT_POINT", "before-append:0")])?;
    process.wait(LIMIT)?;
    std::thread::sleep(Duration::from_millis(1_100));
    stage.put("in", &records("after"))?;
    let _process = host.start(&[])?;
    host.api()?.wait_caught_up("from", LIMIT)?;
    let counts = host.api()?.counts("from")?;
    ensure!(counts.get(&b"after"[..]) == Some(&(KEYS as u64)), "{counts:?}");
    ensure!(!counts.contains_key(&b"before"[..]), "{counts:?}");
    Ok(())
}

#[test]
fn a_job_that_starts_before_its_stream_was_made_takes_everything() -> Result<()> {
    let stage = Stage::set(&[("in", 4)])?;
    stage.put("in", &records("all"))?;
    let host = stage.host("host", &word_count("2020-01-01T00:00:00Z")?)?;
    let _process = host.start(&[])?;
    host.api()?.wait_caught_up("from", LIMIT)?;
    let counts = host.api()?.counts("from")?;
    ensure!(counts.get(&b"all"[..]) == Some(&(KEYS as u64)), "{counts:?}");
    Ok(())
}

/// A time of day in the form that configurations have.
fn rfc3339(seconds: u64) -> String {
    let days = (seconds / 86_400) as i64;
    // The civil calendar from days since 1970, by eras of 400 years that begin with March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[test]
fn orders_meet_their_payments_whatever_the_shards_of_the_two_streams() -> Result<()> {
    let stage = Stage::set(&[("orders", 3), ("payments", 2), ("joined", 1)])?;
    let job = format!(
        "[jobs.join]\ninputs = [\"orders\", \"payments\"]\ntasks = 8\ncomponent = {:?}\n\
         [jobs.join.outputs.joined]\nstream = \"joined\"\n",
        component("join_orders")?
    );
    let host = stage.host("host", &job)?;
    let _process = host.start(&[])?;
    let half = |what: &str| -> Vec<Entry> {
        (0..KEYS).map(|key| entry(&format!("key{key}"), &format!("{{\"{what}\":{key}}}"))).collect()
    };
    stage.put("orders", &half("item"))?;
    stage.run(streams::split(&stage.kinesis, "orders", 1))?;
    stage.put("payments", &half("paid"))?;
    host.api()?.wait_caught_up("join", LIMIT)?;
    let mut joined = BTreeSet::new();
    for (_, data) in stage.run(streams::read_all(&stage.kinesis, "joined"))? {
        for record in aggregate::unpack(&data.into()).context("an output is an aggregate")?.records {
            joined.insert(String::from_utf8(record.data.to_vec())?);
        }
    }
    let expected: BTreeSet<String> = (0..KEYS)
        .map(|key| format!("{{\"key\":\"key{key}\",\"order\":{{\"item\":{key}}},\"payment\":{{\"paid\":{key}}}}}"))
        .collect();
    ensure!(joined == expected, "{joined:?}");
    Ok(())
}
