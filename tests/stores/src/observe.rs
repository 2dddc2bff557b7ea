//! What can be observed of the world outside: all of it must be the same when a call is made again.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Both clocks, random numbers, and the order of a map that is seeded at random, in one line.
pub fn everything() -> String {
    let began = Instant::now();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let map: HashMap<u32, ()> = (0..40).map(|key| (key, ())).collect();
    let order: Vec<u32> = map.into_keys().collect();
    let seeded = RandomState::new().hash_one("x");
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    format!("{wall} {order:?} {seeded} {:?}", began.elapsed())
}
