//! Going through a range of the state, page by page. A scan holds one page and no borrow of the call, so that a task
//! may read and write while it scans.

use std::vec;

use crate::call::Call;
use crate::failure::Failure;
use crate::host;
use crate::limits::PAGE_ENTRIES;

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Rising keys.
    Forward,
    /// Falling keys.
    Back,
}

/// A key with its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// A scan that is under way; see [`Call::scan`].
#[derive(Debug)]
pub struct Scan {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    direction: Direction,
    page: vec::IntoIter<Entry>,
    after: After,
}

/// What follows the page at hand.
#[derive(Debug)]
enum After {
    /// The first page.
    First,
    /// The page at this cursor.
    Cursor(Vec<u8>),
    /// Nothing.
    End,
}

impl Scan {
    pub(crate) fn new(start: Vec<u8>, end: Option<Vec<u8>>, direction: Direction) -> Self {
        Self { start, end, direction, page: Vec::new().into_iter(), after: After::First }
    }

    /// The next entry, or none at the end of the range.
    pub fn next(&mut self, call: &mut Call) -> Result<Option<Entry>, Failure> {
        loop {
            if let Some(entry) = self.page.next() {
                return Ok(Some(entry));
            }
            let cursor = match &self.after {
                After::First => None,
                After::Cursor(cursor) => Some(cursor.as_slice()),
                After::End => return Ok(None),
            };
            call.hand_over_writes()?;
            let page = host::scan(&self.start, self.end.as_deref(), self.direction, PAGE_ENTRIES, cursor)?;
            self.page = page.entries.into_iter();
            self.after = page.cursor.map_or(After::End, After::Cursor);
        }
    }
}
