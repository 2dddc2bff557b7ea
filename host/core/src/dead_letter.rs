//! Dead letters: what a task set aside instead of folding it, with its cause. They are system state, so that a record leaves
//! the way of records and becomes a dead letter in one commit, and is folded after all and stops being one in another.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{CommitNumber, ShardKey};
use crate::mutant::{Mutant, wrong};
use crate::policy::Oddity;
use crate::position::Position;
use crate::record::Record;
use crate::task::{FoldedBefore, Item};

/// Something set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why.
    pub cause: LetterCause,
    /// For the people who run the job.
    pub message: String,
    /// How often the logic failed with it.
    pub attempts: u32,
    /// When it was set aside, milliseconds since 1970; no earlier than the invocation before.
    pub at_ms: u64,
    /// What it is.
    pub content: Content,
    /// Whether that was folded before a rewind.
    pub folded_before: Option<FoldedBefore>,
}

/// A dead letter that somebody asked to be forgotten. A rewind to before that has to know that what it held was not folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgottenLetter {
    /// What it held.
    pub item: Item,
    /// Whether that was folded before a rewind.
    pub folded_before: Option<FoldedBefore>,
    /// The commit with which it went.
    pub number: CommitNumber,
}

/// Why something was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterCause {
    /// Policy set the record aside, for what was odd about it.
    Odd(Oddity),
    /// The logic says that it cannot be processed, now or later.
    Poison,
    /// The logic failed with it as often as is allowed.
    Failed,
    /// Records are gone before they could be read.
    Gap,
}

impl LetterCause {
    /// Its name for people and machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Odd(oddity) => oddity.name(),
            Self::Poison => "poison",
            Self::Failed => "failed",
            Self::Gap => "gap",
        }
    }
}

/// What a dead letter holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A record.
    Record(ShardKey, Record),
    /// A part of a shard that can no longer be read.
    Gap {
        /// Of which shard.
        shard: ShardKey,
        /// The last position reached.
        from: Position,
        /// The first from which records can be read.
        to: Position,
    },
    /// A timer.
    Timer(Timer),
}

impl Content {
    /// What it is, for people.
    pub fn what(&self) -> String {
        match self {
            Self::Record(shard, record) => format!("the record at {} of {shard}", record.place),
            Self::Gap { shard, from, .. } => format!("a gap after {from} of {shard}"),
            Self::Timer(timer) => format!("the timer {:?}", timer.name),
        }
    }
}

/// A timer of a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// When it is due, milliseconds since 1970.
    pub due_ms: u64,
    /// The name its task gave it.
    pub name: String,
}

/// What a machine keeps in memory of its dead letters; their content stays in the state.
#[derive(Debug, Default)]
pub struct DeadLetters {
    notes: BTreeMap<u64, Note>,
    bytes: u64,
    forgotten: BTreeMap<u64, ForgottenLetter>,
}

#[derive(Debug)]
struct Note {
    bytes: u64,
    attempts: u32,
    about: About,
    folded_before: Option<FoldedBefore>,
}

/// What a letter is about: after a rewind its number may be another's.
#[derive(Debug, PartialEq, Eq)]
enum About {
    Item(Item),
    /// Where a gap begins and ends.
    Gap(ShardKey, Position, Position),
}

impl About {
    fn of(content: &Content) -> Self {
        match content {
            Content::Record(shard, record) => Self::Item(Item::Record(shard.clone(), record.place)),
            Content::Timer(timer) => Self::Item(Item::Timer(timer.clone())),
            Content::Gap { shard, from, to } => Self::Gap(shard.clone(), *from, *to),
        }
    }
}

/// How many dead letters a task may have, and how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterBounds {
    /// How many.
    pub letters_max: u64,
    /// Bytes of all, as they are stored.
    pub bytes_max: u64,
}

impl DeadLetters {
    /// Takes note of a letter that stands in the state.
    pub fn note(&mut self, number: u64, bytes: u64, letter: &DeadLetter) {
        let DeadLetter { attempts, content, folded_before, .. } = letter;
        let bytes = bytes + if folded_before.is_none() { FOLDED_BEFORE_BYTES } else { 0 };
        self.bytes += bytes;
        let note = Note { bytes, attempts: *attempts, about: About::of(content), folded_before: *folded_before };
        let before = self.notes.insert(number, note);
        self.bytes -= before.map_or(0, |before| before.bytes);
    }

    /// A letter stands no more. Returns whether it did.
    pub fn remove(&mut self, number: u64) -> bool {
        self.take(number).is_some()
    }

    fn take(&mut self, number: u64) -> Option<Note> {
        let taken = self.notes.remove(&number);
        self.bytes -= taken.as_ref().map_or(0, |note| note.bytes);
        taken
    }

    /// A letter stands no more, and was not folded. Returns what is to be known of it.
    pub fn forget(&mut self, number: u64, with: CommitNumber) -> Option<&ForgottenLetter> {
        let Note { about, folded_before, .. } = self.take(number)?;
        let About::Item(item) = about else { return None };
        self.note_forgotten(number, ForgottenLetter { item, folded_before, number: with });
        self.forgotten.get(&number)
    }

    /// Takes note of a letter that was forgotten.
    pub fn note_forgotten(&mut self, number: u64, letter: ForgottenLetter) {
        self.forgotten.insert(number, letter);
    }

    /// Of the letters that went with a commit up to this one nothing is to be known any more. Takes out one of them, until there is
    /// none; one behind another that went later goes with that.
    pub fn take_forgotten(&mut self, up_to: CommitNumber) -> Option<u64> {
        let first = self.forgotten.first_entry()?;
        (first.get().number <= up_to).then(|| first.remove_entry().0)
    }

    /// How often the logic failed with a letter that stands.
    pub fn attempts(&self, number: u64) -> Option<u32> {
        self.notes.get(&number).map(|note| note.attempts)
    }

    /// Whether a letter stands.
    pub fn contains(&self, number: u64) -> bool {
        self.notes.contains_key(&number)
    }

    /// Whether a letter stands that says what somebody saw of it: a gap may have grown since, and after a rewind another letter may
    /// have its number.
    pub fn is_as_seen(&self, number: u64, seen: &Content) -> bool {
        let Some(note) = self.notes.get(&number) else { return false };
        match (&note.about, About::of(seen)) {
            (About::Gap(..), About::Gap(..)) if wrong(Mutant::GrownGapForgotten) => true,
            (about, seen) => *about == seen,
        }
    }

    /// What was never folded of what letters hold: of those that stand, and of those that were forgotten, the ones with such numbers.
    pub fn unfolded(&self, stands: impl Fn(u64) -> bool, was_forgotten: impl Fn(u64) -> bool) -> BTreeSet<Item> {
        let standing = self.notes.iter().filter(|(number, _)| stands(**number));
        let standing = standing.filter_map(|(_, note)| match &note.about {
            About::Item(item) => Some((item, note.folded_before)),
            About::Gap(..) => None,
        });
        let forgotten = self.forgotten.iter().filter(|(number, _)| was_forgotten(**number));
        let forgotten = forgotten.map(|(_, letter)| (&letter.item, letter.folded_before));
        let unfolded = standing.chain(forgotten).filter(|(_, folded_before)| folded_before.is_none());
        unfolded.map(|(item, _)| item.clone()).collect()
    }

    /// Whether what a letter holds that stands was folded before a rewind.
    pub fn folded_before(&self, number: u64) -> Option<FoldedBefore> {
        self.notes.get(&number)?.folded_before
    }

    /// Whether what a letter holds was folded before the rewind that brings it back: one that neither stands nor was forgotten was,
    /// and else it is as with that.
    pub fn folded_until(&self, rewind: FoldedBefore, number: u64) -> Option<FoldedBefore> {
        let standing = self.notes.get(&number).map(|note| note.folded_before);
        let known = standing.or_else(|| Some(self.forgotten.get(&number)?.folded_before));
        known.unwrap_or(Some(rewind))
    }

    /// The letter that stands for the gap that begins here, if there is one.
    pub fn gap(&self, shard: &ShardKey, from: Position) -> Option<u64> {
        let begins = |note: &Note| matches!(&note.about, About::Gap(of, at, _) if of == shard && *at == from);
        self.notes.iter().find(|(_, note)| begins(note)).map(|(number, _)| *number)
    }

    /// Whether so many more letters, of so many bytes in all, still fit.
    pub fn has_room(&self, bounds: LetterBounds, letters: u64, bytes: u64) -> bool {
        let count_fits = self.len() + letters <= bounds.letters_max || wrong(Mutant::LettersUnbounded);
        let bytes_fit = self.bytes + bytes + letters * FOLDED_BEFORE_BYTES <= bounds.bytes_max;
        let bytes_fit = bytes_fit || wrong(Mutant::LetterBytesUnbounded);
        count_fits && bytes_fit
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.notes.len() as u64
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// Bytes of all, as they are stored, with room for what a rewind adds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What a letter takes at most beyond what is stored of it once a rewind has it say that it was folded, in bytes.
const FOLDED_BEFORE_BYTES: u64 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(numbers: std::ops::Range<u64>) -> DeadLetters {
        let mut letters = DeadLetters::default();
        for number in numbers {
            let timer = Timer { due_ms: number, name: "t".into() };
            let letter = DeadLetter {
                cause: LetterCause::Failed,
                message: "why".into(),
                attempts: 1,
                at_ms: number,
                content: Content::Timer(timer),
                folded_before: None,
            };
            letters.note(number, 10, &letter);
        }
        letters
    }

    fn due_ms(items: BTreeSet<Item>) -> Vec<u64> {
        let due_ms = |item| if let Item::Timer(timer) = item { timer.due_ms } else { panic!("it is a timer") };
        items.into_iter().map(due_ms).collect()
    }

    #[test]
    fn what_was_forgotten_is_known_for_as_long_as_the_log_goes_back_before_that() {
        let mut letters = letters(0..3);
        for (number, with) in [(0, 7), (1, 9)] {
            assert!(letters.forget(number, CommitNumber(with)).is_some());
        }
        let taken = |letters: &mut DeadLetters, floor| letters.take_forgotten(CommitNumber(floor));
        assert_eq!([6, 7, 7].map(|floor| taken(&mut letters, floor)), [None, Some(0), None]);
        assert_eq!(due_ms(letters.unfolded(|_| true, |_| true)), [1, 2]);
        assert_eq!([8, 100, 100].map(|floor| taken(&mut letters, floor)), [None, Some(1), None]);
        assert!(letters.contains(2));
    }

    #[test]
    fn of_letters_that_a_rewind_leaves_as_they_are_it_remembers_nothing() {
        let mut letters = letters(0..4);
        letters.forget(0, CommitNumber(5));
        letters.forget(1, CommitNumber(6));
        assert_eq!(due_ms(letters.unfolded(|number| number == 3, |number| number == 1)), [1, 3]);
        assert_eq!(due_ms(letters.unfolded(|_| false, |_| false)), []);
    }
}
