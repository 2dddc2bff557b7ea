//! What happens on this host, sent as it happens. A reader keeps its own place in the event log, so that one that is slow holds
//! up nobody: it is told how many events it missed and goes on with those still kept.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::Stream;
use futures::stream::unfold;
use pelton_engine::EventLog;
use pelton_engine::events::HostEvent;
use serde::Serialize;

use crate::context::Context;
use crate::document::HostProblems;
use crate::model::event::{EventView, MissedView};
use crate::parameters::Parameters;
use crate::problem::Refusal;

/// How often a reader that hears of nothing is told that it is still connected.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events taken from the log at a time: what a reader holds beside it.
const EVENTS_AT_ONCE: usize = 64;
/// The header by which a reader says where it was.
const LAST_EVENT_ID: &str = "last-event-id";

/// One reader.
struct Reader {
    log: Arc<EventLog>,
    /// Id of this process: numbers of another one mean nothing here.
    process: String,
    /// The last event taken.
    number: u64,
    taken: VecDeque<Event>,
}

impl Reader {
    /// A reader that goes on after the event of an id, or else begins now.
    fn new(log: Arc<EventLog>, process: &str, last: Option<&str>) -> Self {
        let newest = log.newest();
        let known = last.map(|last| {
            let number = last.strip_prefix(process).and_then(|rest| rest.strip_prefix('-'));
            number.and_then(|number| number.parse().ok()).filter(|number| *number <= newest)
        });
        let mut reader =
            Self { log, process: process.into(), number: known.flatten().unwrap_or(newest), taken: VecDeque::new() };
        if known == Some(None) {
            // What is kept of this process is all new to it; what was before is gone.
            reader.number = reader.log.after(0, 0).missed;
            reader.taken.push_back(missed(None));
            return reader;
        }
        // Without data it is no event, but tells where a reader that is cut off at once was.
        reader.taken.push_back(Event::default().id(reader.id(reader.number)).comment("watching"));
        reader
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.process)
    }

    fn event(&self, event: HostEvent) -> Event {
        let id = self.id(event.number);
        let view = EventView::from(event);
        Event::default().id(id).event(view.what.name()).data(json(&view))
    }

    /// The next event; none when the host stops.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        while self.taken.is_empty() {
            if !self.log.more_than(self.number).await {
                return None;
            }
            let found = self.log.after(self.number, EVENTS_AT_ONCE);
            if found.missed > 0 {
                self.taken.push_back(missed(Some(found.missed)));
            }
            self.number = found.events.last().map_or(self.number, |last| last.number);
            let events: Vec<Event> = found.events.into_iter().map(|event| self.event(event)).collect();
            self.taken.extend(events);
        }
        let event = self.taken.pop_front()?;
        Some((Ok(event), self))
    }
}

fn missed(missed: Option<u64>) -> Event {
    Event::default().event("missed").data(json(&MissedView { missed }))
}

fn json(view: &impl Serialize) -> String {
    serde_json::to_string(view).expect("views have text for keys")
}

/// What happens on this host, as it happens.
///
/// Server-sent events. The data of each is an `EventView`, but for that of `missed`, a `MissedView`: it says that the events up
/// to the next one are no longer kept. The newest few thousand are. A reader begins with what happens from now on, or goes on
/// after the event that `Last-Event-ID` names.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "watchEvents",
    tag = "host",
    params(("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was received")),
    responses(
        (status = 200, description = "Events until the host stops", body = String, content_type = "text/event-stream"),
        HostProblems
    )
)]
pub async fn watch(
    State(context): State<Arc<Context>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let last = headers.get(LAST_EVENT_ID).map(|last| last.to_str().unwrap_or_default());
    let reader = Reader::new(context.events.clone(), &context.host.id, last);
    Ok(Sse::new(unfold(reader, Reader::next)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}
