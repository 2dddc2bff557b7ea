//! A task made of plain bindings, as one that knows WASI's stores and nothing of the guest SDK. Each record names what to do.

#![cfg(target_arch = "wasm32")]

#[allow(unsafe_code, missing_docs, unused_qualifications, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: r#"
            package test:stores;

            world stores {
                import wasi:random/random@0.2.6;
                include pelton:task/store-task@0.1.0;
                export pelton:task/processor@0.1.0;
            }

            package wasi:random@0.2.6 {
                interface random {
                    get-random-bytes: func(len: u64) -> list<u8>;
                    get-random-u64: func() -> u64;
                }
            }
        "#,
        generate_all,
    });

    export!(Stores);

    use super::Stores;
}

mod observe;
mod start;
mod strain;

use bindings::exports::pelton::task::processor::{Failure, Guest, Record};
use bindings::pelton::task::types::FailureKind;
use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue0_2_0_draft as older;
use bindings::wasi::keyvalue0_2_0_draft2::atomics::{self, Cas, CasError};
use bindings::wasi::keyvalue0_2_0_draft2::batch;
use bindings::wasi::keyvalue0_2_0_draft2::store::{self, Bucket, Error};
use bindings::wasi::logging::logging::{Level, log};

struct Stores;

/// Why a record was not done, in words.
type Words = String;

impl Guest for Stores {
    fn init() -> Result<(), String> {
        start::begin()
    }

    fn process(records: Vec<Record>) -> Result<(), Failure> {
        for (index, record) in records.iter().enumerate() {
            run(record).map_err(|message| Failure { kind: FailureKind::Poison, index: Some(index as u32), message })?;
        }
        Ok(())
    }
}

fn run(record: &Record) -> Result<(), Words> {
    let bucket = store::open("default").map_err(words)?;
    let key = &record.partition_key;
    match record.data.as_slice() {
        b"count" => count(&bucket, key),
        b"swap" => swap(&bucket, key),
        b"list" => list(&bucket),
        b"refused" => refused(&bucket),
        b"observe" => bucket.set(&format!("observed/{key}"), observe::everything().as_bytes()).map_err(words),
        b"began" => bucket.set(&format!("began/{key}"), start::saw().as_bytes()).map_err(words),
        b"sleep" => strain::sleep(),
        b"answer" => strain::answer(&bucket),
        b"hoard" => strain::hoard(&bucket),
        b"open" => strain::open(),
        b"handles" => strain::handles(),
        b"randomness" => strain::randomness(),
        other => Err(format!("{:?} is nothing to do", String::from_utf8_lossy(other))),
    }
}

/// Counts a key in both spellings, which see the same bucket, and notes a value of the configuration.
fn count(bucket: &Bucket, key: &str) -> Result<(), Words> {
    let name = format!("count/{key}");
    let first = atomics::increment(bucket, &name, 3).map_err(words)?;
    let same = older::store::open("").map_err(|error| format!("{error:?}"))?;
    let second = older::atomics::increment(&same, &name, 1).map_err(|error| format!("{error:?}"))?;
    expect(second as i64 == first + 1, "the older spelling adds to the same number")?;
    let third = atomics::increment(bucket, &name, -3).map_err(words)?;
    log(Level::Warn, "count", &format!("{key} stands at {third}"));
    let greeting = config::get("greeting").map_err(|error| format!("{error:?}"))?;
    let all = config::get_all().map_err(|error| format!("{error:?}"))?;
    expect(all.len() == 1 && config::get("none").is_ok_and(|none| none.is_none()), "there is one setting")?;
    bucket.set("greeting", greeting.unwrap_or_default().as_bytes()).map_err(words)
}

/// Swaps a value that nobody changed, and again after having changed it behind the handle's back.
fn swap(bucket: &Bucket, key: &str) -> Result<(), Words> {
    let name = format!("swap/{key}");
    let fresh = Cas::new(bucket, &name).map_err(words)?;
    expect(fresh.current().map_err(words)?.is_none(), "there is nothing yet")?;
    atomics::swap(fresh, b"one").map_err(|_| "nobody changed it")?;
    let stale = Cas::new(bucket, &name).map_err(words)?;
    bucket.set(&name, b"two").map_err(words)?;
    let renewed = match atomics::swap(stale, b"lost") {
        Err(CasError::CasFailed(renewed)) => renewed,
        Ok(()) | Err(CasError::StoreError(_)) => return Err("a changed value was swapped".into()),
    };
    expect(renewed.current().map_err(words)?.as_deref() == Some(b"two"), "a fresh handle sees the change")?;
    atomics::swap(renewed, b"three").map_err(|_| "nobody changed it again".to_owned())
}

/// Lists keys whose values are too large for one page, by both kinds of cursor.
fn list(bucket: &Bucket) -> Result<(), Words> {
    let pairs: Vec<_> = (0..5).map(|at| (format!("large/{at}"), vec![at; 700 * 1024])).collect();
    batch::set_many(bucket, &pairs).map_err(words)?;
    let keys: Vec<String> = pairs.iter().map(|(key, _)| key.clone()).chain(["absent".into()]).collect();
    let found = batch::get_many(bucket, &keys).map_err(words)?;
    expect(found.len() == 6 && found[4].1.as_deref() == Some(&pairs[4].1) && found[5].1.is_none(), "get-many")?;
    let same = older::store::open("").map_err(|error| format!("{error:?}"))?;
    let found = older::batch::get_many(&same, &keys).map_err(|error| format!("{error:?}"))?;
    expect(found[0].as_ref() == Some(&pairs[0]) && found[5].is_none(), "the older get-many")?;

    let (mut newer, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let page = bucket.list_keys(cursor.as_deref()).map_err(words)?;
        newer.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let (mut listed, mut cursor) = (Vec::new(), None);
    loop {
        let page = same.list_keys(cursor).map_err(|error| format!("{error:?}"))?;
        listed.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    expect(pages > 1 && newer == listed, "both list the same")?;
    expect(same.list_keys(Some(99)).is_err() && bucket.list_keys(Some("no")).is_err(), "a made-up cursor is refused")?;
    batch::delete_many(bucket, &keys[..4]).map_err(words)?;
    expect(!bucket.exists("large/3").map_err(words)? && bucket.exists("large/4").map_err(words)?, "exists")?;
    bucket.set("listed", newer.join(" ").as_bytes()).map_err(words)
}

/// Notes what is said of what may not be.
fn refused(bucket: &Bucket) -> Result<(), Words> {
    let mut said = vec![
        store::open("other").err().map(words),
        bucket.set("", b"").err().map(words),
        bucket.get(&"k".repeat(1_025)).err().map(words),
        bucket.set("large", &vec![0; 8 * 1024 * 1024 + 1]).err().map(words),
    ];
    bucket.set("text", b"none").map_err(words)?;
    said.push(atomics::increment(bucket, "text", 1).err().map(words));
    bucket.set("most", i64::MAX.to_string().as_bytes()).map_err(words)?;
    said.push(atomics::increment(bucket, "most", 1).err().map(words));
    let said: Vec<String> = said.into_iter().map(|said| said.unwrap_or_else(|| "nothing".into())).collect();
    bucket.set("said", said.join("\n").as_bytes()).map_err(words)
}

fn words(error: Error) -> Words {
    match error {
        Error::NoSuchStore => "no such store".into(),
        Error::AccessDenied => "access denied".into(),
        Error::Other(words) => words,
    }
}

fn expect(holds: bool, what: &str) -> Result<(), Words> {
    if holds { Ok(()) } else { Err(format!("it does not hold that {what}")) }
}
