//! A reader of events goes on where it was, and is told what it missed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{Request, header};
use futures::StreamExt as _;
use pelton_api::Access;
use pelton_core::id::{CommitNumber, TaskId};
use pelton_engine::EventLog;
use pelton_engine::events::Happening;
use tower::ServiceExt as _;

use crate::fixture::Api;

const LIMIT: Duration = Duration::from_secs(10);

fn api(kept_max: usize) -> Api {
    Api::with_events(Access::loopback(), &[], EventLog::new(kept_max))
}

/// Tells of snapshots at these commits.
fn tell(api: &Api, commits: std::ops::RangeInclusive<u64>) {
    for commit in commits {
        let what = Happening::SnapshotTaken { task: TaskId(3), at: CommitNumber(commit), entries: 1, state_bytes: 2 };
        api.events.tell(9, &Arc::from("orders"), what);
    }
}

/// A reader after the event of an id.
async fn reader(api: &Api, last: Option<&str>) -> BodyDataStream {
    let mut request = Request::builder().uri("/v1/events");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let answer = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
    answer.into_body().into_data_stream()
}

/// Everything until the log ends, each event as `id name commit` or `name data`.
async fn rest(stream: BodyDataStream) -> Vec<String> {
    let text = async {
        let chunks: Vec<_> = stream.map(|chunk| chunk.unwrap().to_vec()).collect().await;
        String::from_utf8(chunks.concat()).unwrap()
    };
    let text = tokio::time::timeout(LIMIT, text).await.expect("the events end with the log");
    let blocks = text.split("\n\n").filter(|block| block.contains("data:"));
    let shown = blocks.map(|block| {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let data: serde_json::Value = serde_json::from_str(field("data:")).unwrap();
        match data.get("missed") {
            Some(missed) => format!("{} {missed}", field("event:")),
            None => format!("{} {} {}", field("id:"), field("event:"), data["commit"]),
        }
    });
    shown.collect()
}

#[tokio::test]
async fn a_reader_begins_now_or_where_it_was() {
    let api = api(10);
    tell(&api, 1..=3);
    let (now, resumed) = (reader(&api, None).await, reader(&api, Some("0-2")).await);
    tell(&api, 4..=4);
    api.events.close();
    assert_eq!(rest(now).await, ["0-4 snapshot-taken 4"]);
    assert_eq!(rest(resumed).await, ["0-3 snapshot-taken 3", "0-4 snapshot-taken 4"]);
}

#[tokio::test]
async fn a_slow_reader_is_told_how_many_it_missed() {
    let api = api(3);
    let slow = reader(&api, None).await;
    tell(&api, 1..=5);
    api.events.close();
    assert_eq!(rest(slow).await, ["missed 2", "0-3 snapshot-taken 3", "0-4 snapshot-taken 4", "0-5 snapshot-taken 5"]);
    assert_eq!(rest(reader(&api, Some("0-1")).await).await[0], "missed 1");
    assert_eq!(rest(reader(&api, Some("0-5")).await).await, [""; 0]);
}

#[tokio::test]
async fn an_id_of_another_process_means_all_that_is_kept() {
    let api = api(3);
    tell(&api, 1..=4);
    api.events.close();
    let expected = ["missed null", "0-2 snapshot-taken 2", "0-3 snapshot-taken 3", "0-4 snapshot-taken 4"];
    for other in ["feed-2", "0-9", "nonsense", ""] {
        assert_eq!(rest(reader(&api, Some(other)).await).await, expected, "{other}");
    }
}
