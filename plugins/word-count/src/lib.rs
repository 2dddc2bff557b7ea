//! Counts words. Every task counts those of its own slice: a word that comes under many partition keys is counted in
//! many tasks, and who wants the whole adds their counts up.
//!
//! **Words.** A record's data is taken as UTF-8, invalid bytes replaced by U+FFFD as browsers do. A word is a run, as
//! long as can be, of ASCII letters, ASCII digits and characters beyond ASCII; `A` to `Z` become `a` to `z` and nothing
//! else changes, so that no two languages and no two versions of Unicode disagree. A word of more than 1,024 bytes is
//! cut after the last character that ends within them.
//!
//! **State.** Under each word's bytes, how often it came: 8 bytes, big-endian.
//!
//! **Output.** If the configuration has `output`, the name of one of the job's outputs, each record with any word emits
//! one message under its own partition key: a line `word=count` for each of its words in the order of their bytes, with
//! the count after this record, each line ended by a line feed. Lines that would pass 1,000,000 bytes go on in another
//! message.

use pelton_task::limits::{DATA_BYTES_MAX, KEY_BYTES_MAX};
use pelton_task::{Call, Context, Failure, Map, Record, Task};

/// How often each word came.
const COUNTS: Map<[u8], u64> = Map::new("");

/// A task that counts words.
pub struct WordCount {
    /// Where counts are told, if anywhere.
    output: Option<String>,
    /// The text of the record at hand, in lower case.
    text: String,
}

impl Task for WordCount {
    fn init(context: &Context) -> Result<Self, String> {
        Ok(Self { output: context.config("output").map(str::to_owned), text: String::new() })
    }

    fn process(&mut self, record: &Record<'_>, call: &mut Call) -> Result<(), Failure> {
        self.text.clear();
        self.text.push_str(&String::from_utf8_lossy(record.data()));
        self.text.make_ascii_lowercase();
        match &self.output {
            None => words(&self.text).try_for_each(|word| COUNTS.add(call, word, 1)),
            Some(output) => tell(output, record.partition_key(), words(&self.text).collect(), call),
        }
    }
}

pelton_task::export!(WordCount);

/// The words of a text that is in lower case.
fn words(text: &str) -> impl Iterator<Item = &[u8]> {
    let between = |byte: &u8| byte.is_ascii() && !byte.is_ascii_alphanumeric();
    text.as_bytes().split(between).filter(|word| !word.is_empty()).map(cut)
}

/// The part of a word that can be a key.
fn cut(word: &[u8]) -> &[u8] {
    if word.len() <= KEY_BYTES_MAX {
        return word;
    }
    let begins = |byte: u8| byte & 0b1100_0000 != 0b1000_0000;
    let end = (0..=KEY_BYTES_MAX).rev().find(|end| begins(word[*end])).expect("the first byte begins a character");
    &word[..end]
}

/// Counts the words of a record and emits their counts.
fn tell(output: &str, partition_key: &str, mut words: Vec<&[u8]>, call: &mut Call) -> Result<(), Failure> {
    words.sort_unstable();
    COUNTS.prefetch(call, words.iter().copied())?;
    let mut lines = Vec::new();
    for same in words.chunk_by(|a, b| a == b) {
        COUNTS.add(call, same[0], same.len() as u64)?;
        let count = COUNTS.get(call, same[0])?.expect("it was added to").to_string();
        if lines.len() + same[0].len() + count.len() + 2 > DATA_BYTES_MAX {
            call.emit(output, partition_key, &lines)?;
            lines.clear();
        }
        lines.extend_from_slice(same[0]);
        lines.push(b'=');
        lines.extend_from_slice(count.as_bytes());
        lines.push(b'\n');
    }
    if lines.is_empty() { Ok(()) } else { call.emit(output, partition_key, &lines) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_task::testing::Harness;

    fn check(texts: &[&[u8]], expected: &str) {
        let mut harness = Harness::<WordCount>::new();
        for text in texts {
            harness.record("lines", "key", text);
        }
        harness.run().unwrap();
        let count = |value: &[u8]| u64::from_be_bytes(value.try_into().unwrap());
        let one = |(word, value): (&Vec<u8>, &Vec<u8>)| format!("{}={}", str::from_utf8(word).unwrap(), count(value));
        assert_eq!(harness.state().iter().map(one).collect::<Vec<_>>().join(" "), expected);
        assert_eq!(harness.host_calls("get") + harness.host_calls("get-many"), u64::from(!expected.is_empty()));
    }

    #[test]
    fn words_are_counted() {
        check(&[b"The wheel, the jet: THE wheel!", b"jet2 jet-2"], "2=1 jet=2 jet2=1 the=3 wheel=2");
        check(&["Öl über öl".as_bytes(), b"a\xff\xfe b"], "a\u{fffd}\u{fffd}=1 b=1 Öl=1 öl=1 über=1");
        check(&[b"", b" .,\n"], "");
        check(&[&[b'x'; 3_000]], &format!("{}=1", "x".repeat(1_024)));
        check(&[format!("x{}", "ü".repeat(600)).as_bytes()], &format!("x{}=1", "ü".repeat(511)));
    }

    #[test]
    fn counts_are_told_to_the_output_named() {
        let mut harness = Harness::<WordCount>::new().config("output", "counts").output("counts");
        harness.record("lines", "k", b"b a B").record("lines", "l", b"a!").record("lines", "k", b"--").run().unwrap();
        harness.record("lines", "k", b"a").run().unwrap();
        let one =
            |m: &pelton_task::testing::Message| format!("{}:{}", m.partition_key, str::from_utf8(&m.data).unwrap());
        let told: Vec<String> = harness.messages("counts").iter().map(one).collect();
        assert_eq!(told, ["k:a=1\nb=2\n", "l:a=2\n", "k:a=3\n"]);
    }

    #[test]
    fn many_words_are_told_in_several_messages() {
        let text: Vec<String> = (0..150_000).map(|number| number.to_string()).collect();
        let mut harness = Harness::<WordCount>::new().config("output", "counts").output("counts");
        harness.record("lines", "k", text.join(" ")).run().unwrap();
        let told = harness.messages("counts");
        assert!(told.len() == 2 && told.iter().all(|message| message.data.len() <= DATA_BYTES_MAX));
        let lines: usize = told.iter().map(|message| message.data.split_inclusive(|byte| *byte == b'\n').count()).sum();
        assert_eq!(lines, text.len());
    }
}
