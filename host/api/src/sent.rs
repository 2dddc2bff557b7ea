//! Server-sent events of what is told on a host. A reader keeps its own place among them, so that one that is slow holds up nobody:
//! it is told how many it missed and goes on with those still kept.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures::stream::unfold;
use pelton_engine::Recent;
use serde::Serialize;

use crate::model::event::MissedView;

/// How often a reader that hears of nothing is told that it is still connected.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What is taken at a time: all that a reader holds.
const TAKEN_AT_ONCE: usize = 64;
/// The header by which a reader says where it was.
const LAST_EVENT_ID: &str = "last-event-id";

/// Makes name and data of an event, where the reader is to see it.
type Show<T> = Box<dyn Fn(T) -> Option<(&'static str, String)> + Send>;

/// One reader.
pub struct Reader<T> {
    log: Arc<Recent<T>>,
    show: Show<T>,
    /// Id of this process: numbers of another one mean nothing here.
    process: String,
    /// The last number taken.
    number: u64,
    /// The last number that it is given; none if it stays for what is told later.
    until: Option<u64>,
    taken: VecDeque<Event>,
}

impl<T: Clone + Send + 'static> Reader<T> {
    /// A reader that begins now and stays.
    pub fn new(
        log: Arc<Recent<T>>,
        process: &str,
        show: impl Fn(T) -> Option<(&'static str, String)> + Send + 'static,
    ) -> Self {
        let (number, process) = (log.newest(), process.to_owned());
        Self { log, show: Box::new(show), process, number, until: None, taken: VecDeque::new() }
    }

    /// Begins behind this number.
    pub fn after(mut self, number: u64) -> Self {
        self.number = number;
        self
    }

    /// Ends with what is kept now.
    pub fn until_now(mut self) -> Self {
        self.until = Some(self.log.newest());
        self
    }

    /// Goes on after the event that a request names, if it names one.
    pub fn resumed(mut self, headers: &HeaderMap) -> Self {
        let Some(last) = headers.get(LAST_EVENT_ID) else {
            // Without data it is no event, but tells where a reader that is cut off at once was.
            self.taken.push_back(Event::default().id(self.id(self.number)).comment("watching"));
            return self;
        };
        let known = last.to_str().unwrap_or_default().strip_prefix(self.process.as_str());
        let known = known.and_then(|rest| rest.strip_prefix('-')?.parse().ok());
        match known.filter(|number| *number <= self.log.newest()) {
            Some(number) => {
                self.number = number;
                self.taken.push_back(Event::default().id(self.id(number)).comment("watching"));
            }
            None => {
                // What is kept of this process is all new to it; what was before is gone.
                self.number = self.log.after(0, 0).missed;
                self.taken.push_back(missed(None));
            }
        }
        self
    }

    /// The answer: events until the reader or the host goes.
    pub fn answer(self) -> Response {
        Sse::new(unfold(self, Self::next)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.process)
    }

    /// The next event; none at the end.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        while self.taken.is_empty() {
            if self.until.is_some_and(|until| self.number >= until) || !self.log.more_than(self.number).await {
                return None;
            }
            let found = self.log.after(self.number, TAKEN_AT_ONCE);
            if found.missed > 0 {
                self.taken.push_back(missed(Some(found.missed)));
                self.number += found.missed;
            }
            for (number, item) in found.items {
                self.number = number;
                if let Some((name, data)) = (self.show)(item) {
                    self.taken.push_back(Event::default().id(self.id(number)).event(name).data(data));
                }
            }
        }
        let event = self.taken.pop_front()?;
        Some((Ok(event), self))
    }
}

fn missed(missed: Option<u64>) -> Event {
    Event::default().event("missed").data(json(&MissedView { missed }))
}

/// A view as JSON.
pub fn json(view: &impl Serialize) -> String {
    serde_json::to_string(view).expect("views have text for keys")
}
