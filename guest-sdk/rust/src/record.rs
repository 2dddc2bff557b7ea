//! The records of a call: one flat arena and offsets into it. A record is a view; nothing is copied out of the arena.

use std::fmt;

use crate::failure::Failure;

/// Offsets a record has in [`Batch::spans`]: stream, shard, end of its key, end of its data.
const SPANS: usize = 4;
/// Numbers a record has in [`Batch::numbers`]: arrival, sub-sequence number, three limbs of the sequence number.
const NUMBERS: usize = 5;

/// A Kinesis sequence number: up to 56 decimal digits, rising within a shard. Its text is the decimal one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber {
    /// Its high, middle and low 64 bits, so that the derived order is the numeric one.
    pub limbs: [u64; 3],
}

/// The records of one call, in their order; laid out as `pelton:task/batch-processor` says.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    streams: Vec<String>,
    shards: Vec<String>,
    arena: Vec<u8>,
    spans: Vec<u32>,
    numbers: Vec<u64>,
}

/// One record of an input stream.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    stream: &'a str,
    shard: &'a str,
    numbers: &'a [u64],
    partition_key: &'a [u8],
    data: &'a [u8],
}

impl Batch {
    /// A batch from its parts.
    ///
    /// # Panics
    /// When the parts do not have as many records each.
    #[doc(hidden)]
    pub fn new(streams: Vec<String>, shards: Vec<String>, arena: Vec<u8>, spans: Vec<u32>, numbers: Vec<u64>) -> Self {
        assert_eq!(spans.len() % SPANS, 0, "four spans a record");
        assert_eq!(spans.len() / SPANS * NUMBERS, numbers.len(), "five numbers a record");
        assert_eq!(spans.last().map_or(0, |end| *end as usize), arena.len(), "the last record ends the arena");
        Self { streams, shards, arena, spans, numbers }
    }

    /// Appends a record, as the host lays it out.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn push(&mut self, [stream, shard]: [&str; 2], numbers: [u64; NUMBERS], key: &str, data: &[u8]) {
        let stream = place(&mut self.streams, stream);
        let shard = place(&mut self.shards, shard);
        self.arena.extend_from_slice(key.as_bytes());
        let key_end = self.arena.len() as u32;
        self.arena.extend_from_slice(data);
        self.spans.extend([stream, shard, key_end, self.arena.len() as u32]);
        self.numbers.extend(numbers);
    }

    /// How many records it has.
    pub fn len(&self) -> usize {
        self.spans.len() / SPANS
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// One of its records, by index from 0.
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        if index >= self.len() {
            return None;
        }
        let at = index * SPANS;
        let start = if index == 0 { 0 } else { self.spans[at - 1] as usize };
        let [key_end, data_end] = [self.spans[at + 2] as usize, self.spans[at + 3] as usize];
        Some(Record {
            stream: &self.streams[self.spans[at] as usize],
            shard: &self.shards[self.spans[at + 1] as usize],
            numbers: &self.numbers[index * NUMBERS..(index + 1) * NUMBERS],
            partition_key: &self.arena[start..key_end],
            data: &self.arena[key_end..data_end],
        })
    }

    /// Its records, in their order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Processes its records in their order up to the first failure, which is blamed on its record unless it says
    /// otherwise.
    pub fn each(&self, mut process: impl FnMut(&Record<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        for (index, record) in self.records().enumerate() {
            process(&record).map_err(|failure| failure.or_at(index))?;
        }
        Ok(())
    }
}

impl<'a> Record<'a> {
    /// Name of the stream, as the job's configuration spells it.
    pub fn stream(&self) -> &'a str {
        self.stream
    }

    /// Id of the shard that delivered it, such as `shardId-000000000003`.
    pub fn shard(&self) -> &'a str {
        self.shard
    }

    /// Its place in its shard.
    pub fn sequence_number(&self) -> SequenceNumber {
        SequenceNumber { limbs: [self.numbers[2], self.numbers[3], self.numbers[4]] }
    }

    /// Its place in a KPL aggregate, from 0; 0 for a plain record.
    pub fn sub_sequence_number(&self) -> u64 {
        self.numbers[1]
    }

    /// Approximate arrival at Kinesis, milliseconds since 1970-01-01 UTC. Not monotonic.
    pub fn arrived_ms(&self) -> u64 {
        self.numbers[0]
    }

    /// The partition key. Its MD5 decided which task the record came to.
    pub fn partition_key(&self) -> &'a str {
        std::str::from_utf8(self.partition_key).expect("the host gives partition keys in UTF-8")
    }

    /// The payload, as the producer put it.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 192 bits have at most 58 digits.
        let mut digits = [b'0'; 58];
        let mut limbs = self.limbs;
        let mut first = digits.len();
        while first == digits.len() || limbs != [0; 3] {
            let mut rest = 0;
            for limb in &mut limbs {
                let wide = (u128::from(rest) << 64) | u128::from(*limb);
                *limb = (wide / 10) as u64;
                rest = (wide % 10) as u64;
            }
            first -= 1;
            digits[first] = b'0' + rest as u8;
        }
        f.write_str(std::str::from_utf8(&digits[first..]).expect("digits are ASCII"))
    }
}

/// The index of a name, added if it is new.
#[cfg(not(target_arch = "wasm32"))]
fn place(names: &mut Vec<String>, name: &str) -> u32 {
    let index = names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    index as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_have_their_decimal_text() {
        let check = |limbs, text: &str| assert_eq!(SequenceNumber { limbs }.to_string(), text);
        check([0, 0, 0], "0");
        check([0, 0, 10], "10");
        check([0, 1, 0], "18446744073709551616");
        check([u64::MAX; 3], "6277101735386680763835789423207666416102355444464034512895");
    }

    #[test]
    fn records_are_cut_from_the_arena_in_order() {
        let mut batch = Batch::default();
        batch.push(["a", "shard-1"], [7, 1, 0, 0, 5], "k", b"first");
        batch.push(["b", "shard-1"], [8, 0, 0, 0, 6], "", b"");
        batch.push(["a", "shard-2"], [9, 0, 0, 0, 7], "key", b"third");
        let seen: Vec<String> = batch
            .records()
            .map(|r| {
                let data = String::from_utf8_lossy(r.data());
                let place = format!("{}/{}/{}/{}", r.stream(), r.shard(), r.sequence_number(), r.sub_sequence_number());
                format!("{place} {} {}={data}", r.arrived_ms(), r.partition_key())
            })
            .collect();
        assert_eq!(seen, ["a/shard-1/5/1 7 k=first", "b/shard-1/6/0 8 =", "a/shard-2/7/0 9 key=third"]);
        assert!(batch.get(3).is_none());
    }
}
