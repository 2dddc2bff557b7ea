//! A host's HTTP API, as a test asks it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::{pelton_says, wait_for};

/// Task, key and value.
pub type StateEntry = (u64, Vec<u8>, Vec<u8>);

/// What a host answered.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The media type of its body, with its parameters.
    pub media_type: String,
    /// Its body.
    pub body: Vec<u8>,
}

/// A host's HTTP API.
#[derive(Debug)]
pub struct Api {
    client: reqwest::blocking::Client,
    /// The beginning of every address.
    pub base: String,
}

impl Api {
    /// The API of a host at a port of this machine.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn at(port: u16) -> Result<Self> {
        let client = reqwest::blocking::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { client, base: format!("http://127.0.0.1:{port}") })
    }

    /// The status and body of a GET.
    ///
    /// # Errors
    /// When there is no answer, or it is not JSON.
    pub fn get(&self, path: &str) -> Result<(u16, Value)> {
        let reply = self.client.get(format!("{}{path}", self.base)).send()?;
        let status = reply.status().as_u16();
        Ok((status, reply.json().with_context(|| format!("GET {path}"))?))
    }

    /// Runs a command on its host, and expects it to end with this exit code. What it printed, and what it said.
    ///
    /// # Errors
    /// When it ends otherwise.
    pub fn command(&self, args: &[&str], code: i32) -> Result<(String, String)> {
        let args = [args, &["--url", &self.base]].concat();
        let (ended, printed, said) = pelton_says(&args)?;
        ensure!(ended == code, "pelton {args:?} ended with {ended}, not {code}: {printed}{said}");
        Ok((printed, said))
    }

    /// What a command on its host prints as JSON.
    ///
    /// # Errors
    /// When it fails, or prints something else.
    pub fn command_json(&self, args: &[&str]) -> Result<Value> {
        let (printed, _) = self.command(&[args, &["--json"]].concat(), 0)?;
        serde_json::from_str(&printed).with_context(|| format!("{args:?}: {printed}"))
    }

    /// The status and body of a PUT.
    ///
    /// # Errors
    /// When there is no answer, or it is not JSON.
    pub fn put(&self, path: &str, body: Vec<u8>) -> Result<(u16, Value)> {
        let reply = self.client.put(format!("{}{path}", self.base)).body(body).send()?;
        let status = reply.status().as_u16();
        Ok((status, reply.json().with_context(|| format!("PUT {path}"))?))
    }

    /// Whatever is answered to a request.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        let request = self.client.request(method.parse()?, format!("{}{path}", self.base)).body(body.to_vec());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send().with_context(|| format!("{method} {path}"))?;
        let media_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
        let media_type = media_type.unwrap_or_default().to_owned();
        Ok(Answer { status: answer.status().as_u16(), media_type, body: answer.bytes()?.to_vec() })
    }

    /// What is answered to a request about a job: the status, and JSON.
    ///
    /// # Errors
    /// When there is no answer, or it is not JSON.
    pub fn ask_of(&self, job: &str, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        let answer = self.ask(method, &format!("/v1/jobs/{job}/{path}"), &[], body.to_string().as_bytes())?;
        Ok((answer.status, serde_json::from_slice(&answer.body)?))
    }

    /// The status of a POST without a body.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn post(&self, path: &str) -> Result<u16> {
        Ok(self.client.post(format!("{}{path}", self.base)).send()?.status().as_u16())
    }

    /// The status of a DELETE.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn delete(&self, path: &str) -> Result<u16> {
        Ok(self.client.delete(format!("{}{path}", self.base)).send()?.status().as_u16())
    }

    /// Every dead letter of a job.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn dead_letters(&self, job: &str) -> Result<Vec<Value>> {
        let mut letters = Vec::new();
        let mut start = Some("0/0".to_owned());
        while let Some(from) = start.take() {
            let (status, page) = self.get(&format!("/v1/jobs/{job}/dead-letters?limit=10&start={from}"))?;
            anyhow::ensure!(status == 200, "reading the dead letters of {job}: {page}");
            letters.extend(page["letters"].as_array().context("a page has letters")?.iter().cloned());
            start = page["next"].as_str().map(str::to_owned);
        }
        Ok(letters)
    }

    /// What became of a job's records: `folded`, `dead`, and each reason for which records were dropped; zeros are left out.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn fates(&self, job: &str) -> Result<BTreeMap<String, u64>> {
        let mut fates = BTreeMap::new();
        for task in self.tasks(job)? {
            let counts = &task["counts"];
            let mut add = |name: &str, count: &Value| {
                *fates.entry(name.to_owned()).or_default() += count.as_u64().unwrap_or_default();
            };
            add("folded", &counts["folded"]);
            add("dead", &counts["dead_records"]);
            add("malformed", &counts["malformed_aggregates"]);
            add("timers", &counts["timers_fired"]);
            add("redriven", &counts["redriven"]);
            counts["dropped"].as_object().into_iter().flatten().for_each(|(reason, count)| add(reason, count));
        }
        fates.retain(|_, count| *count > 0);
        Ok(fates)
    }

    /// Every task of a job.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn tasks(&self, job: &str) -> Result<Vec<Value>> {
        let mut tasks = Vec::new();
        let mut start = Some("0".to_owned());
        while let Some(from) = start.take() {
            let (_, page) = self.get(&format!("/v1/jobs/{job}/tasks?start={from}"))?;
            tasks.extend(page["tasks"].as_array().into_iter().flatten().cloned());
            start = page["next"].as_str().map(str::to_owned);
        }
        Ok(tasks)
    }

    /// Waits until every task has folded and committed all there is.
    ///
    /// # Errors
    /// When that takes longer than the limit, or a task stopped.
    pub fn wait_caught_up(&self, job: &str, limit: Duration) -> Result<()> {
        wait_for("the lag to reach zero", limit, || {
            // The host may still be starting.
            let Ok(tasks) = self.tasks(job) else { return Ok(None) };
            if let Some(stopped) = tasks.iter().find(|task| task["phase"] == "stopped") {
                anyhow::bail!("task {} stopped: {}", stopped["task"], stopped["cause"]);
            }
            let caught_up = !tasks.is_empty() && tasks.iter().all(|task| task["lag_ms"] == 0);
            Ok(caught_up.then_some(()))
        })
    }

    /// The whole state of a job, every value read as a big-endian number; equal keys of several tasks are added up.
    ///
    /// # Errors
    /// When there is no answer, or a value is not a number.
    pub fn counts(&self, job: &str) -> Result<BTreeMap<Vec<u8>, u64>> {
        let mut counts = BTreeMap::new();
        for (_, key, value) in self.state(job)? {
            let count = u64::from_be_bytes(value.as_slice().try_into().context("a count has not 8 bytes")?);
            *counts.entry(key).or_default() += count;
        }
        Ok(counts)
    }

    /// The whole state of a job: task, key and value.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn state(&self, job: &str) -> Result<Vec<StateEntry>> {
        let mut entries = Vec::new();
        for task in 0..self.tasks(job)?.len() as u64 {
            let mut start = Some(String::new());
            while let Some(from) = start.take() {
                let (status, page) =
                    self.get(&format!("/v1/jobs/{job}/tasks/{task}/state?limit=1000&start-base64={from}"))?;
                anyhow::ensure!(status == 200, "reading the state of task {task}: {page}");
                for entry in page["entries"].as_array().context("a page has entries")? {
                    entries.push((task, base64(&entry["key_base64"])?, base64(&entry["value_base64"])?));
                }
                start = page["next_base64"].as_str().map(|next| next.replace('+', "%2B"));
            }
        }
        Ok(entries)
    }
}

/// Decodes standard base64.
///
/// # Errors
/// When it is none.
pub fn base64(value: &Value) -> Result<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = value.as_str().context("expected base64 text")?;
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let digit = ALPHABET.iter().position(|known| *known == letter).context("not base64")?;
        bits = bits << 6 | digit as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Ok(bytes)
}
