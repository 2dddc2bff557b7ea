//! A slice: the contiguous part of the 128-bit hash space that one task owns. A slice never changes.
//! Nothing here knows that Kinesis has shards.

use std::fmt;

use md5::{Digest as _, Md5};

use crate::id::TaskId;

/// A point of the hash space: an MD5 read as an unsigned big-endian number, as Kinesis does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashKey(pub u128);

impl HashKey {
    /// The place of a partition key.
    pub fn of(partition_key: &str) -> Self {
        Self(u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into()))
    }
}

/// A range of the hash space, both ends inclusive, as Kinesis gives the ranges of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HashRange {
    /// The first hash key of the range.
    pub start: HashKey,
    /// The last hash key of the range.
    pub end: HashKey,
}

impl HashRange {
    /// The whole hash space.
    pub const ALL: Self = Self { start: HashKey(0), end: HashKey(u128::MAX) };

    /// Whether the range holds this hash key.
    pub fn contains(&self, hash: HashKey) -> bool {
        self.start <= hash && hash <= self.end
    }

    /// What two ranges share, if anything.
    pub fn common(&self, other: &Self) -> Option<Self> {
        let common = Self { start: self.start.max(other.start), end: self.end.min(other.end) };
        (common.start <= common.end).then_some(common)
    }

    /// What is left of the range without another: up to two ranges, in order.
    pub fn without(&self, other: &Self) -> impl Iterator<Item = Self> + use<> {
        let below = other.start.0.checked_sub(1).map(|end| Self { start: self.start, end: self.end.min(HashKey(end)) });
        let above =
            other.end.0.checked_add(1).map(|start| Self { start: self.start.max(HashKey(start)), end: self.end });
        [below, above].into_iter().flatten().filter(|left| left.start <= left.end)
    }

    /// Whether two ranges share a hash key.
    pub fn touches(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

impl fmt::Display for HashRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}..={:032x}", self.start.0, self.end.0)
    }
}

/// How many tasks a job has: 1 to 65,536, fixed when the job is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskCount(u32);

impl TaskCount {
    /// The most tasks a job can have: task ids are 16 bits wide.
    pub const MAX: u32 = 1 << 16;

    /// None unless `1 ≤ count ≤ 65,536`.
    pub fn new(count: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&count).then_some(Self(count))
    }

    /// The number itself.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Every task, in order.
    pub fn tasks(self) -> impl Iterator<Item = TaskId> {
        (0..self.0).map(|task| TaskId(task as u16))
    }

    /// The task that owns a hash key: ⌊hash · N / 2^128⌋, which is the inverse of [`TaskCount::slice`].
    pub fn task_of(self, hash: HashKey) -> TaskId {
        let count = u128::from(self.0);
        let low = (hash.0 & u128::from(u64::MAX)) * count;
        let high = (hash.0 >> 64) * count + (low >> 64);
        TaskId((high >> 64) as u16)
    }

    /// The slice of a task: `[⌈i·2^128/N⌉, ⌈(i+1)·2^128/N⌉)`.
    ///
    /// # Panics
    /// When the task is not one of this many.
    pub fn slice(self, task: TaskId) -> HashRange {
        assert!(u32::from(task.0) < self.0, "task {task} of {} tasks", self.0);
        let first = u128::from(task.0);
        let end = if first + 1 == u128::from(self.0) { u128::MAX } else { self.boundary(first + 1) - 1 };
        HashRange { start: HashKey(self.boundary(first)), end: HashKey(end) }
    }

    /// ⌈i·2^128/N⌉ for i < N, by 2^128 = quotient·N + rest.
    fn boundary(self, i: u128) -> u128 {
        let count = u128::from(self.0);
        if i == 0 {
            return 0;
        }
        let (quotient, rest) = match u128::MAX % count + 1 {
            whole if whole == count => (u128::MAX / count + 1, 0),
            rest => (u128::MAX / count, rest),
        };
        i * quotient + (i * rest).div_ceil(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_range_lies_on_both_sides_of_another() {
        let range = |start, end| HashRange { start: HashKey(start), end: HashKey(end) };
        let left = |other| range(10, 19).without(&other).map(|left| (left.start.0, left.end.0)).collect::<Vec<_>>();
        assert_eq!(left(range(12, 14)), [(10, 11), (15, 19)]);
        assert_eq!(left(range(0, 14)), [(15, 19)]);
        assert_eq!(left(range(19, u128::MAX)), [(10, 18)]);
        assert_eq!(left(range(30, 40)), [(10, 19)]);
        assert_eq!(left(range(0, 9)), [(10, 19)]);
        assert!(left(HashRange::ALL).is_empty());
    }

    #[test]
    fn slices_tile_the_space_and_agree_with_task_of() {
        for count in [1, 2, 3, 7, 255, 256, 257, 1000, 65_535, 65_536] {
            let count = TaskCount::new(count).unwrap();
            let mut next = Some(0u128);
            for task in count.tasks() {
                let slice = count.slice(task);
                assert_eq!(Some(slice.start.0), next, "task {task} of {}", count.get());
                assert_eq!(count.task_of(slice.start), task);
                assert_eq!(count.task_of(slice.end), task);
                next = slice.end.0.checked_add(1);
            }
            assert_eq!(next, None, "the last slice ends the space");
        }
    }

    #[test]
    fn a_partition_key_hashes_as_kinesis_documents() {
        // MD5("a") = 0cc175b9c0f1b6a831c399e269772661
        assert_eq!(HashKey::of("a").0, 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
    }
}
