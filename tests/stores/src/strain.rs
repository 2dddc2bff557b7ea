//! What would cost the host memory or a thread, were it not bounded.

use std::time::{Duration, Instant};

use crate::bindings::wasi::keyvalue0_2_0_draft2::atomics::Cas;
use crate::bindings::wasi::keyvalue0_2_0_draft2::batch;
use crate::bindings::wasi::keyvalue0_2_0_draft2::store::{self, Bucket};
use crate::{Words, words};

/// Sleeps for an hour.
pub fn sleep() -> Result<(), Words> {
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(3_600));
    if began.elapsed() < Duration::from_secs(3_600) { Err("the hour was cut short".into()) } else { Ok(()) }
}

/// Asks for more values than an answer may have.
pub fn answer(bucket: &Bucket) -> Result<(), Words> {
    let large = "large".to_owned();
    bucket.set(&large, &vec![1; 512 * 1024]).map_err(words)?;
    batch::get_many(bucket, &vec![large; 40]).map_err(words).map(drop)
}

/// Holds handles that the host keeps something for.
pub fn hoard(bucket: &Bucket) -> Result<(), Words> {
    let mut held = Vec::new();
    loop {
        held.push(Cas::new(bucket, "key").map_err(words)?);
    }
}

/// Opens and closes buckets.
pub fn open() -> Result<(), Words> {
    (0..20_000).try_for_each(|_| store::open("").map(drop)).map_err(words)
}

/// Opens buckets and keeps them.
pub fn handles() -> Result<(), Words> {
    let mut held = Vec::new();
    loop {
        held.push(store::open("").map_err(words)?);
    }
}

/// Asks for more random bytes than a machine has memory.
pub fn randomness() -> Result<(), Words> {
    let seeds = crate::bindings::wasi::random::random::get_random_bytes(1 << 40);
    Err(format!("{} bytes were given", seeds.len()))
}
