//! Outputs of one upstream task as shards deliver them: `00-7f@20 7/0` is output 0 of commit 7, with a key at 20, from a shard
//! of that range.

use super::*;

fn hash(byte: &str, low: u8) -> HashKey {
    let first = u8::from_str_radix(byte, 16).expect("a byte in hexadecimal");
    HashKey(u128::from_be_bytes(std::array::from_fn(|at| if at == 0 { first } else { low })))
}

fn check(script: &[(&str, bool)]) {
    let mut repeats = Repeats::default();
    // What a restart would restore.
    let mut stored: BTreeMap<(Upstream, HashKey), Mark> = BTreeMap::new();
    for (line, first) in script {
        let (delivered, id) = line.split_once(' ').expect("where and what");
        let (range, at) = delivered.split_once('@').expect("a range and a key");
        let (start, end) = range.split_once('-').expect("a range");
        let range = HashRange { start: hash(start, 0), end: hash(end, 0xff) };
        let (commit, index) = id.split_once('/').expect("an output");
        let id = OutputId {
            incarnation: Incarnation::default(),
            task: TaskId(0),
            commit: CommitNumber(commit.parse().expect("a number")),
            index: index.parse().expect("a number"),
            rewind: None,
        };
        assert_eq!(repeats.take(StreamIndex(0), &id, hash(at, 1), range), *first, "{line} in {script:?}");
        for (upstream, start, mark) in repeats.take_changes() {
            match mark {
                Some(mark) => drop(stored.insert((upstream, start), mark.clone())),
                None => drop(stored.remove(&(upstream, start))),
            }
        }
        let mut restored = Repeats::default();
        stored.iter().for_each(|((upstream, start), mark)| restored.restore(*upstream, *start, mark.clone()));
        assert_eq!(restored.marks, repeats.marks, "what is stored is what is known, after {line}");
        repeats = restored;
    }
    let marks: Vec<_> = repeats.marks.values().flatten().collect();
    assert!(marks.windows(2).all(|pair| pair[0].1.end < *pair[1].0), "marks do not overlap: {marks:?}");
}

#[test]
fn a_smaller_commit_or_a_known_index_is_a_repeat() {
    check(&[
        ("00-ff@20 7/0", true),
        ("00-ff@20 7/0", false),
        ("00-ff@21 7/2", true),
        ("00-ff@20 7/1", true),
        ("00-ff@99 7/1", false),
        ("00-ff@20 8/3", true),
        ("00-ff@21 7/5", false),
        ("00-ff@21 8/2", true),
    ]);
}

#[test]
fn shards_are_told_apart_and_children_go_on_from_their_parents() {
    check(&[
        // Two shards side by side: the lower one is a commit ahead.
        ("00-7f@20 7/0", true),
        ("00-7f@20 8/0", true),
        ("80-ff@90 7/1", true),
        ("80-ff@90 8/1", true),
        // The lower one is split; the upstream task sends commit 8 again.
        ("00-3f@20 8/0", false),
        ("40-7f@50 8/2", true),
        ("40-7f@50 8/2", false),
        ("40-7f@50 9/0", true),
        // A merge of one that is at 8 with one that is at 9.
        ("00-7f@20 8/0", false),
        ("00-7f@50 8/2", false),
        ("00-7f@20 9/1", true),
        ("00-7f@50 9/0", false),
        ("00-7f@50 9/2", true),
        ("00-7f@20 10/0", true),
        ("00-7f@50 9/3", false),
    ]);
}

#[test]
fn indexes_are_kept_as_few_ranges() {
    let mut indexes = Indexes::default();
    for index in [5, 3, 4, 9, 0, 1, 2, 7] {
        assert!(indexes.insert(index) && !indexes.insert(index));
    }
    assert_eq!(indexes.ranges(), [0..=5, 7..=7, 9..=9]);
    assert!(indexes.insert(u32::MAX) && indexes.insert(8) && indexes.insert(6));
    assert_eq!(indexes.ranges(), [0..=9, u32::MAX..=u32::MAX]);
}
