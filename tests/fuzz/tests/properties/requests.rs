//! Any request is answered, with a problem where it is wrong, and what is refused changes nothing. The target says what is expected.

use pelton_fuzz::{http, seeds};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::check;

/// What a header may be, with bytes that are no text.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let name = select(vec!["host", "origin", "content-type", "accept", "authorization", "last-event-id", "x-other"]);
    let known = select(vec![
        "localhost",
        "127.0.0.1:7777",
        "[::1]:1",
        "example.com",
        "http://localhost",
        "null",
        "application/wasm",
        "application/json",
        "*/*;q=0.1",
        "Bearer x",
        "0-1",
    ]);
    let any_value = vec(any::<u8>(), 0..20);
    let value = prop_oneof![4 => known.prop_map(|value| value.as_bytes().to_vec()), 1 => any_value];
    (name, value).prop_map(|(name, value)| [name.as_bytes(), b":", &value].concat())
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = select(vec!["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH"]);
    // Names that some address knows, and values with whole escapes, of text or not.
    let query = "((limit|start|start-base64|partition-key|key|key-base64|[a-z]{1,6})=([0-9a-zA-Z+/=-]|%[0-9A-F]{2}){0,6}&?){0,3}";
    let path = prop_oneof![
        4 => select(http::ADDRESSES.to_vec()).prop_map(|address| address.split_once(' ').unwrap().1.to_owned()),
        1 => "(/[a-zA-Z0-9%.:-]{0,8}){0,6}",
    ];
    (method, path, option::of(query), vec(header(), 0..4), vec(any::<u8>(), 0..60)).prop_map(
        |(method, path, query, headers, body)| {
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            let mut request = format!("{method} {path}{query}").into_bytes();
            headers.iter().for_each(|header| request.extend([b"\n", &header[..]].concat()));
            [&request[..], b"\n\n", &body].concat()
        },
    )
}

#[test]
fn any_request_is_answered() {
    check(5_000, request(), |request| pelton_fuzz::http_body(&request));
}

#[test]
fn any_body_is_a_body_for_every_address() {
    check(300, vec(any::<u8>(), 0..300), |body| pelton_fuzz::http_body(&body));
}

fn task() -> Vec<u8> {
    seeds::all().into_iter().find(|seed| (seed.target, seed.name) == ("component", "task")).unwrap().bytes
}

#[test]
fn a_component_cut_short_or_with_a_byte_changed_is_refused_or_runs() {
    let task = task();
    // All that a task needs is there before the names of its parts, which are a section of their own, of kind 0.
    let names = task.windows(16).position(|bytes| bytes.ends_with(b"component-name")).unwrap();
    assert_eq!(task[names - 1], 0);
    for end in 0..names - 1 {
        http::refuses_component(&task[..end]);
    }
    check(500, (any::<Index>(), any::<u8>()), |(at, byte)| {
        let mut changed = task.clone();
        changed[at.index(task.len())] = byte;
        pelton_fuzz::component(&changed);
    });
}
