//! The events of a host, as a test watches them.

use std::io::{BufRead as _, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::api::{Answer, Api};

/// An event that arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Its id; empty for `missed`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: Value,
}

/// A reader of events.
#[derive(Debug)]
pub struct Watch {
    arriving: Receiver<Arrived>,
    /// What the host answered, but for the events.
    pub answer: Answer,
}

impl Watch {
    /// Watches from now on, or from after the event of an id.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn begin(api: &Api, last: Option<&str>) -> Result<Self> {
        let client = reqwest::blocking::Client::builder().no_proxy().timeout(None).build()?;
        let mut request = client.get(format!("{}/v1/events", api.base));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let answer = request.send()?.error_for_status()?;
        let media_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
        let media_type = media_type.unwrap_or_default().to_owned();
        let begun = Answer { status: answer.status().as_u16(), media_type, body: Vec::new() };
        let (sender, arriving) = channel();
        // It ends with the host, or when nobody waits for the next event any more.
        std::thread::spawn(move || {
            let (mut id, mut name) = (String::new(), String::new());
            for line in BufReader::new(answer).lines().map_while(Result::ok) {
                if let Some((field, value)) = line.split_once(": ") {
                    match field {
                        "id" => id = value.to_owned(),
                        "event" => name = value.to_owned(),
                        "data" => {
                            let data = serde_json::from_str(value).unwrap_or_default();
                            let (id, name) = (std::mem::take(&mut id), std::mem::take(&mut name));
                            if sender.send(Arrived { id, name, data }).is_err() {
                                return;
                            }
                        }
                        _ => {}
                    }
                }
            }
        });
        Ok(Self { arriving, answer: begun })
    }

    /// Waits for an event, passing those before it.
    ///
    /// # Errors
    /// When it does not come within the limit.
    pub fn wait(&self, what: &str, limit: Duration, is_it: impl Fn(&Arrived) -> bool) -> Result<Arrived> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let arrived = self.arriving.recv_timeout(left).with_context(|| format!("waiting for {what}"))?;
            if is_it(&arrived) {
                return Ok(arrived);
            }
            if left.is_zero() {
                bail!("{what} does not come within {} s", limit.as_secs());
            }
        }
    }
}
