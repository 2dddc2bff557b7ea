//! The folds that Pelton's results are held against. They share no code with it or its plugins.

use std::collections::BTreeMap;

/// How often each word occurs: runs of ASCII letters, ASCII digits and anything beyond ASCII, `A` to `Z` as `a` to `z`.
pub fn word_counts<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeMap<Vec<u8>, u64> {
    let mut counts = BTreeMap::new();
    for text in texts {
        let between = |letter: char| letter.is_ascii() && !letter.is_ascii_alphanumeric();
        for word in text.split(between).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_ascii_lowercase().into_bytes()).or_default() += 1;
        }
    }
    counts
}

/// The first few words whose counts differ, for people.
pub fn differences(found: &BTreeMap<Vec<u8>, u64>, expected: &BTreeMap<Vec<u8>, u64>) -> Vec<String> {
    let words = found.keys().chain(expected.keys().filter(|word| !found.contains_key(*word)));
    let differing = words.filter(|word| found.get(*word) != expected.get(*word));
    let line = |word: &Vec<u8>| {
        let (found, expected) = (found.get(word).unwrap_or(&0), expected.get(word).unwrap_or(&0));
        format!("{}: {found} found, {expected} expected", String::from_utf8_lossy(word))
    };
    differing.take(10).map(line).collect()
}
