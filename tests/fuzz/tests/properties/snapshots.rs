//! A state goes into a snapshot and comes out of it the same, entry by entry. The target says what is expected of each.

use pelton_fuzz::packing::snapshot_entry;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::arbitrary::state;
use crate::check;

fn contents<'e>(entries: impl IntoIterator<Item = (&'e Vec<u8>, &'e Vec<u8>)>) -> Vec<u8> {
    entries.into_iter().flat_map(|(key, value)| snapshot_entry(key, value)).collect()
}

#[test]
fn a_state_comes_back_whole() {
    check(200, state(), |state| pelton_fuzz::snapshot(&contents(&state)));
}

#[test]
fn entries_out_of_order_and_contents_cut_short_are_no_snapshot() {
    let entries = vec((vec(any::<u8>(), 0..3), vec(any::<u8>(), 0..5)), 1..8);
    check(1_000, (entries, any::<Index>()), |(entries, cut)| {
        let contents = contents(entries.iter().map(|(key, value)| (key, value)));
        pelton_fuzz::snapshot(&contents);
        pelton_fuzz::snapshot(&contents[..cut.index(contents.len())]);
    });
}

#[test]
fn any_bytes_are_loaded_or_refused() {
    check(1_000, vec(any::<u8>(), 0..200), |data| pelton_fuzz::snapshot(&data));
}
