//! What happens on this host, sent as it happens.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;

use crate::context::Context;
use crate::document::HostProblems;
use crate::model::event::EventView;
use crate::parameters::Parameters;
use crate::problem::Refusal;
use crate::sent::{Reader, json};

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
) -> Result<Response, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let show = |event| {
        let view = EventView::from(event);
        Some((view.what.name(), json(&view)))
    };
    Ok(Reader::new(context.events.clone(), &context.host.id, show).resumed(&headers).answer())
}
