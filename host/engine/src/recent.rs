//! The newest of what is told, numbered without a gap. A reader is a place in it, so one that is slow holds up nobody, and knows
//! how many it missed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What a reader finds after the last number it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// How many after that one are kept no more.
    pub missed: u64,
    /// The next ones with their numbers, in order.
    pub items: Vec<(u64, T)>,
}

/// The newest of what is told: the first has number 1, and the oldest make room.
#[derive(Debug)]
pub struct Recent<T> {
    kept: Mutex<Kept<T>>,
    weight_max: usize,
    newest: watch::Sender<Newest>,
}

#[derive(Debug)]
struct Kept<T> {
    /// With the weight of each.
    items: VecDeque<(usize, T)>,
    weight: usize,
    /// Of the first that is kept.
    first: u64,
}

/// The newest number, and whether it stays so.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    number: u64,
    closed: bool,
}

impl<T: Clone> Recent<T> {
    /// Nothing yet, and room for so much weight.
    pub fn new(weight_max: usize) -> Self {
        let kept = Kept { items: VecDeque::new(), weight: 0, first: 1 };
        Self { kept: Mutex::new(kept), weight_max, newest: watch::Sender::default() }
    }

    /// Adds one of a weight.
    pub(crate) fn add(&self, weight: usize, item: T) {
        let mut kept = self.kept();
        kept.weight += weight;
        kept.items.push_back((weight, item));
        while kept.weight > self.weight_max
            && let Some((weight, _)) = kept.items.pop_front()
        {
            kept.weight -= weight;
            kept.first += 1;
        }
        let number = kept.first + kept.items.len() as u64 - 1;
        // While they are locked, so that the newest number never falls.
        self.newest.send_modify(|newest| newest.number = number);
    }

    /// The newest number; 0 before the first.
    pub fn newest(&self) -> u64 {
        self.newest.borrow().number
    }

    /// Up to `limit` of those after a number.
    pub fn after(&self, number: u64, limit: usize) -> Found<T> {
        let kept = self.kept();
        let next = number.saturating_add(1).max(kept.first);
        let skipped = usize::try_from(next - kept.first).unwrap_or(usize::MAX);
        let items = kept.items.iter().skip(skipped).take(limit);
        Found {
            missed: kept.first.saturating_sub(number.saturating_add(1)),
            items: (next..).zip(items.map(|(_, item)| item.clone())).collect(),
        }
    }

    /// Returns when there are some after a number: true; or when there will never be any: false.
    pub async fn more_than(&self, number: u64) -> bool {
        let mut newest = self.newest.subscribe();
        // The sender lives as long as this.
        let found = newest.wait_for(|newest| newest.number > number || newest.closed).await;
        found.is_ok_and(|newest| newest.number > number)
    }

    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it: readers get what is kept and then the end.
    pub fn close(&self) {
        self.newest.send_modify(|newest| newest.closed = true);
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    /// Expects these numbers after one, having missed so many.
    fn check(recent: &Recent<u64>, after: u64, limit: usize, missed: u64, expected: &[u64]) {
        let found = recent.after(after, limit);
        let numbers: Vec<u64> = found.items.iter().map(|(number, _)| *number).collect();
        assert_eq!((found.missed, numbers.as_slice()), (missed, expected), "after {after}");
        assert!(found.items.iter().all(|(number, item)| number == item));
    }

    #[tokio::test]
    async fn the_oldest_make_room_and_are_counted() {
        let recent = Recent::new(3);
        check(&recent, 0, 10, 0, &[]);
        (1..=5).for_each(|number| recent.add(1, number));
        check(&recent, 0, 10, 2, &[3, 4, 5]);
        check(&recent, 1, 10, 1, &[3, 4, 5]);
        check(&recent, 2, 2, 0, &[3, 4]);
        check(&recent, 4, 10, 0, &[5]);
        check(&recent, 5, 10, 0, &[]);
        check(&recent, u64::MAX, 10, 0, &[]);
        assert_eq!(recent.newest(), 5);
        assert!(recent.more_than(4).await);
        recent.close();
        assert!(recent.more_than(4).await, "what is kept can be read after the end");
        assert!(!recent.more_than(5).await);
        recent.add(3, 6);
        check(&recent, 4, 10, 1, &[6]);
        recent.add(4, 7);
        check(&recent, 6, 10, 1, &[]);
        assert_eq!(recent.newest(), 7);
    }
}
