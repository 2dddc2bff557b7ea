//! Dead letters: what a task set aside instead of folding it, with its cause. They are system state, so that a record leaves
//! the way of records and becomes a dead letter in one commit, and is folded after all and stops being one in another.

use std::collections::BTreeMap;

use crate::id::ShardKey;
use crate::mutant::{Mutant, wrong};
use crate::policy::Oddity;
use crate::position::{Position, RecordPlace};
use crate::record::Record;
use crate::task::Unfolded;

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
}

#[derive(Debug)]
struct Note {
    bytes: u64,
    attempts: u32,
    about: About,
}

/// What a letter is about: after a rewind its number may be another's.
#[derive(Debug, PartialEq, Eq)]
enum About {
    Record(ShardKey, RecordPlace),
    Timer(Timer),
    /// Where a gap begins and ends.
    Gap(ShardKey, Position, Position),
}

impl About {
    fn of(content: &Content) -> Self {
        match content {
            Content::Record(shard, record) => Self::Record(shard.clone(), record.place),
            Content::Timer(timer) => Self::Timer(timer.clone()),
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
        self.bytes += bytes;
        let note = Note { bytes, attempts: letter.attempts, about: About::of(&letter.content) };
        let before = self.notes.insert(number, note);
        self.bytes -= before.map_or(0, |before| before.bytes);
    }

    /// A letter stands no more. Returns whether it did.
    pub fn remove(&mut self, number: u64) -> bool {
        let removed = self.notes.remove(&number);
        self.bytes -= removed.as_ref().map_or(0, |note| note.bytes);
        removed.is_some()
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

    /// What the letters hold that was never folded.
    pub fn unfolded(&self) -> Unfolded {
        let about = || self.notes.values().map(|note| &note.about);
        let record = |about: &About| match about {
            About::Record(shard, place) => Some((shard.clone(), *place)),
            About::Timer(_) | About::Gap(..) => None,
        };
        let timer = |about: &About| match about {
            About::Timer(timer) => Some(timer.clone()),
            About::Record(..) | About::Gap(..) => None,
        };
        Unfolded { records: about().filter_map(record).collect(), timers: about().filter_map(timer).collect() }
    }

    /// The letter that stands for the gap that begins here, if there is one.
    pub fn gap(&self, shard: &ShardKey, from: Position) -> Option<u64> {
        let begins = |note: &Note| matches!(&note.about, About::Gap(of, at, _) if of == shard && *at == from);
        self.notes.iter().find(|(_, note)| begins(note)).map(|(number, _)| *number)
    }

    /// Whether so many more letters, of so many bytes in all, still fit.
    pub fn has_room(&self, bounds: LetterBounds, letters: u64, bytes: u64) -> bool {
        let count_fits = self.len() + letters <= bounds.letters_max || wrong(Mutant::LettersUnbounded);
        let bytes_fit = self.bytes + bytes <= bounds.bytes_max || wrong(Mutant::LetterBytesUnbounded);
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

    /// Bytes of all, as they are stored.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
