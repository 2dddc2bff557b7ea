//! Components: what cannot run as a task is refused with why, and what can is the same whenever it is looked at.

use std::sync::{Arc, LazyLock};

use pelton_engine::{Compiler, GuestRuntime, Room, digest_of};
use tempfile::TempDir;

/// How a component begins.
const COMPONENT: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];

static GUESTS: LazyLock<(TempDir, Arc<GuestRuntime>)> = LazyLock::new(|| {
    let cache = tempfile::tempdir().unwrap();
    let guests = GuestRuntime::new(cache.path(), Room::for_tasks(1), Compiler::Here).unwrap();
    (cache, guests)
});

/// The bytes of a component, or of its sections.
pub fn component(data: &[u8]) {
    check(data);
    if !data.starts_with(&COMPONENT) {
        check(&[&COMPONENT, data].concat());
    }
}

fn check(bytes: &[u8]) {
    let guests = &GUESTS.1;
    let report = match guests.check(bytes) {
        Ok(report) => report,
        Err(error) => {
            assert!(!error.to_string().trim().is_empty(), "refused, and nobody says why");
            let digest = digest_of(bytes);
            assert!(guests.load(digest, bytes).is_err(), "{error}, and yet it is loaded");
            return;
        }
    };
    assert_eq!((report.digest, report.size_bytes), (digest_of(bytes), bytes.len() as u64));
    assert!(report.exports.iter().any(|export| export == report.processor), "{report:?}");
    // Compiled, and then from what was kept.
    for _ in 0..2 {
        assert_eq!(guests.load(report.digest, bytes).expect("it was checked").digest(), report.digest);
    }
}
