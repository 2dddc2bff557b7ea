//! The fake Kinesis: streams whose shards split and merge, listings that lag behind, iterators that expire.

use std::collections::BTreeMap;

use bytes::Bytes;
use pelton_core::id::{ShardId, ShardKey, StreamIndex};
use pelton_core::output::OutputId;
use pelton_core::position::{Position, RecordPlace, WHOLE};
use pelton_core::record::Record;
use pelton_core::sequence::SequenceNumber;
use pelton_core::shard::Shard;
use pelton_core::slice::{HashKey, HashRange};

use crate::rng::Rng;

/// A shard with its records.
#[derive(Debug)]
pub struct FakeShard {
    /// As it is listed.
    pub shard: Shard,
    /// What was put, in order, as readers get it: aggregates whole.
    pub records: Vec<Record>,
    /// The same as producers meant it: aggregates apart, one after another.
    pub meant: Vec<Meant>,
    /// Of `records`, how many can no longer be read.
    pub trimmed: usize,
    /// When it was closed, milliseconds.
    closed_ms: u64,
    /// No listing shows it any more.
    pub forgotten: bool,
}

/// A record as its producer meant it.
#[derive(Clone, Debug)]
pub struct Meant {
    /// The record as logic is to see it.
    pub record: Record,
    /// The hash key that its producer chose, if it chose one.
    pub chosen: Option<HashKey>,
    /// Whether it came in an aggregate.
    pub in_aggregate: bool,
}

/// What a producer puts: one Kinesis record.
#[derive(Clone, Debug)]
pub struct Put {
    /// The Kinesis record's own partition key.
    pub outer_key: String,
    /// Decides the shard.
    pub hash: HashKey,
    /// The Kinesis record's own data.
    pub data: Bytes,
    /// What is in it: itself, or the records of an aggregate, each with its key, chosen hash key, data and output id.
    pub parts: Vec<Part>,
    /// Whether it is an aggregate.
    pub is_aggregate: bool,
}

/// A record within.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its partition key.
    pub key: String,
    /// The hash key that its producer chose.
    pub chosen: Option<HashKey>,
    /// Its payload.
    pub data: Bytes,
    /// The name that a job upstream gave it.
    pub output: Option<OutputId>,
}

/// Where a reader stands.
#[derive(Clone, Copy, Debug)]
pub struct Iterator {
    /// Index of the next record.
    pub next: usize,
    /// When it was taken, milliseconds.
    pub taken_ms: u64,
}

/// What a call brought.
#[derive(Debug)]
pub struct Fetched {
    /// In order.
    pub records: Vec<Record>,
    /// Where to go on.
    pub next: usize,
    /// Whether the closed shard ends here.
    pub end: bool,
    /// Whether nothing more is there yet.
    pub caught_up: bool,
}

#[derive(Debug, Default)]
struct Stream {
    shards: BTreeMap<ShardId, FakeShard>,
    sequence: u64,
    /// Listings as they were, the newest last.
    listings: Vec<Vec<Shard>>,
}

impl FakeShard {
    fn closed_before(&self, before_ms: u64) -> bool {
        self.shard.closed && self.closed_ms < before_ms
    }
}

/// The streams of a job.
#[derive(Debug)]
pub struct Kinesis {
    /// The time, milliseconds since 1970.
    pub now_ms: u64,
    streams: Vec<Stream>,
    /// How often each key was put.
    puts: BTreeMap<String, u32>,
}

impl Kinesis {
    /// Streams of so many shards each.
    pub fn new(rng: &mut Rng, streams: u64, shards: u64) -> Self {
        let mut kinesis = Self { now_ms: 0, streams: Vec::new(), puts: BTreeMap::new() };
        for _ in 0..streams {
            let mut cuts: Vec<u128> = (1..shards).map(|_| HashKey::of(&rng.next().to_string()).0).collect();
            cuts.push(0);
            cuts.sort_unstable();
            cuts.dedup();
            kinesis.streams.push(Stream::default());
            let stream = kinesis.streams.len() - 1;
            for (at, start) in cuts.iter().enumerate() {
                let end = cuts.get(at + 1).map_or(u128::MAX, |next| next - 1);
                kinesis.add(stream, HashRange { start: HashKey(*start), end: HashKey(end) }, Vec::new());
            }
            kinesis.note(stream);
        }
        kinesis
    }

    fn add(&mut self, stream: usize, range: HashRange, parents: Vec<ShardId>) {
        let stream = &mut self.streams[stream];
        let id = ShardId(format!("shardId-{:012}", stream.shards.len()).into());
        let shard = Shard { id: id.clone(), range, parents, closed: false };
        let (records, meant) = (Vec::new(), Vec::new());
        stream.shards.insert(id, FakeShard { shard, records, meant, trimmed: 0, closed_ms: 0, forgotten: false });
    }

    fn note(&mut self, stream: usize) {
        let stream = &mut self.streams[stream];
        let listed = stream.shards.values().filter(|shard| !shard.forgotten);
        stream.listings.push(listed.map(|shard| shard.shard.clone()).collect());
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// The payload of a key's next record: the key, and how often it was put before.
    pub fn payload(&mut self, key: &str) -> Bytes {
        let count = self.puts.entry(key.into()).or_default();
        let data = Bytes::from(format!("{key}#{count}"));
        *count += 1;
        data
    }

    /// Puts a record of a key. Returns what was meant.
    pub fn put(&mut self, stream: usize, key: &str, arrived_ms: u64) -> Vec<(ShardKey, Meant)> {
        let data = self.payload(key);
        let part = Part { key: key.into(), chosen: None, data: data.clone(), output: None };
        let put = Put { outer_key: key.into(), hash: HashKey::of(key), data, parts: vec![part], is_aggregate: false };
        self.put_raw(stream, &put, arrived_ms)
    }

    /// Puts a Kinesis record. Returns what was meant by it.
    pub fn put_raw(&mut self, stream: usize, put: &Put, arrived_ms: u64) -> Vec<(ShardKey, Meant)> {
        let index = StreamIndex(stream as u16);
        let stream = &mut self.streams[stream];
        stream.sequence += 1;
        let sequence = SequenceNumber([1, 7, stream.sequence]);
        let place = RecordPlace { sequence, sub_sequence: 0 };
        let (partition_key, data) = (put.outer_key.clone(), put.data.clone());
        let open = stream.shards.values_mut().find(|shard| !shard.shard.closed && shard.shard.range.contains(put.hash));
        let open = open.expect("open shards tile the space");
        open.records.push(Record { place, arrived_ms, partition_key, data, output: None });
        let meant = put.parts.iter().zip(0..).map(|(part, at)| Meant {
            record: Record {
                place: RecordPlace { sequence, sub_sequence: at },
                arrived_ms,
                partition_key: part.key.clone(),
                data: part.data.clone(),
                output: part.output.map(Box::new),
            },
            chosen: part.chosen,
            in_aggregate: put.is_aggregate,
        });
        let meant: Vec<Meant> = meant.collect();
        open.meant.extend(meant.iter().cloned());
        let key = ShardKey { stream: index, shard: open.shard.id.clone() };
        meant.into_iter().map(|meant| (key.clone(), meant)).collect()
    }

    /// The open shard of a hash key.
    pub fn open_shard(&self, stream: usize, hash: HashKey) -> ShardId {
        let open =
            self.streams[stream].shards.values().find(|shard| !shard.shard.closed && shard.shard.range.contains(hash));
        open.expect("open shards tile the space").shard.id.clone()
    }

    /// The range of an open shard that is picked at random.
    pub fn some_range(&self, rng: &mut Rng, stream: usize) -> HashRange {
        let open = self.open(stream);
        open[rng.below(open.len() as u64) as usize].1
    }

    /// Records that arrived before a time can no longer be read; closed shards of which none is left are gone. Returns
    /// which.
    pub fn trim(&mut self, before_ms: u64) -> Vec<ShardKey> {
        let mut gone = Vec::new();
        for (at, stream) in self.streams.iter_mut().enumerate() {
            for (id, shard) in &mut stream.shards {
                let kept = |record: &Record| record.arrived_ms >= before_ms;
                let first = shard.records[shard.trimmed..].iter().position(kept);
                shard.trimmed = first.map_or(shard.records.len(), |first| shard.trimmed + first);
                let all = shard.trimmed == shard.records.len() && shard.closed_before(before_ms);
                if all && !shard.forgotten {
                    gone.push(ShardKey { stream: StreamIndex(at as u16), shard: id.clone() });
                }
            }
        }
        gone.iter().for_each(|key| self.forget(key));
        gone
    }

    /// Splits a random open shard at a random hash key. Returns what it did.
    pub fn split(&mut self, rng: &mut Rng, stream: usize) -> Option<String> {
        let open = self.open(stream);
        let (id, range) = open[rng.below(open.len() as u64) as usize].clone();
        let width = range.end.0 - range.start.0;
        if width < 1 << 100 {
            return None;
        }
        let cut = range.start.0 + 1 + (u128::from(rng.next()) << 64 | u128::from(rng.next())) % (width - 1);
        self.close(stream, &id);
        self.add(stream, HashRange { start: range.start, end: HashKey(cut - 1) }, vec![id.clone()]);
        self.add(stream, HashRange { start: HashKey(cut), end: range.end }, vec![id.clone()]);
        self.note(stream);
        Some(format!("split {id} of input {stream} at {cut:032x}"))
    }

    /// Merges two random open neighbours. Returns what it did.
    pub fn merge(&mut self, rng: &mut Rng, stream: usize) -> Option<String> {
        let open = self.open(stream);
        if open.len() < 2 {
            return None;
        }
        let at = rng.below(open.len() as u64 - 1) as usize;
        let ((left, low), (right, high)) = (open[at].clone(), open[at + 1].clone());
        self.close(stream, &left);
        self.close(stream, &right);
        self.add(stream, HashRange { start: low.start, end: high.end }, vec![left.clone(), right.clone()]);
        self.note(stream);
        Some(format!("merge {left} and {right} of input {stream}"))
    }

    fn open(&self, stream: usize) -> Vec<(ShardId, HashRange)> {
        let open = self.streams[stream].shards.values().filter(|shard| !shard.shard.closed);
        let mut open: Vec<_> = open.map(|shard| (shard.shard.id.clone(), shard.shard.range)).collect();
        open.sort_by_key(|(_, range)| range.start);
        open
    }

    fn close(&mut self, stream: usize, id: &ShardId) {
        let (now_ms, shard) = (self.now_ms, self.streams[stream].shards.get_mut(id).expect("it was just listed"));
        shard.shard.closed = true;
        shard.closed_ms = now_ms;
    }

    /// Closed shards that listings still show.
    pub fn closed(&self) -> Vec<ShardKey> {
        let keyed = self.shards().filter(|(_, shard)| shard.shard.closed && !shard.forgotten);
        keyed.map(|(key, _)| key).collect()
    }

    /// A shard expires: listings lack it from now on.
    pub fn forget(&mut self, key: &ShardKey) {
        let stream = usize::from(key.stream.0);
        self.streams[stream].shards.get_mut(&key.shard).expect("it exists").forgotten = true;
        self.note(stream);
    }

    /// Every shard ever.
    pub fn shards(&self) -> impl std::iter::Iterator<Item = (ShardKey, &FakeShard)> {
        self.streams.iter().enumerate().flat_map(|(at, stream)| {
            let stream_index = StreamIndex(at as u16);
            stream.shards.iter().map(move |(id, shard)| (ShardKey { stream: stream_index, shard: id.clone() }, shard))
        })
    }

    /// A shard.
    pub fn shard(&self, key: &ShardKey) -> &FakeShard {
        &self.streams[usize::from(key.stream.0)].shards[&key.shard]
    }

    /// The listing of a stream as it was so many changes ago.
    pub fn list(&self, stream: usize, ago: usize) -> Vec<Shard> {
        let listings = &self.streams[stream].listings;
        listings[listings.len().saturating_sub(1 + ago)].clone()
    }

    /// Index of the first record to be read after a position: of an aggregate that is not wholly behind it, all.
    pub fn index(&self, key: &ShardKey, position: Position) -> usize {
        let shard = self.shard(key);
        let records = &shard.records;
        let index = match position {
            Position::TrimHorizon => 0,
            Position::AtTimestamp(ms) => {
                records.iter().position(|record| record.arrived_ms >= ms).unwrap_or(records.len())
            }
            Position::After(RecordPlace { sequence, sub_sequence: WHOLE }) => {
                records.partition_point(|record| record.place.sequence <= sequence)
            }
            Position::After(place) => records.partition_point(|record| record.place.sequence < place.sequence),
            Position::ShardEnd => records.len(),
        };
        index.max(shard.trimmed)
    }

    /// Whether a shard came of another, by any number of splits and merges.
    pub fn descends(&self, shard: &ShardKey, from: &ShardKey) -> bool {
        self.shard(shard).shard.parents.iter().any(|parent| {
            let parent = ShardKey { stream: shard.stream, shard: parent.clone() };
            parent == *from || self.descends(&parent, from)
        })
    }

    /// Whether a record can no longer be read.
    pub fn is_gone(&self, key: &ShardKey, place: RecordPlace) -> bool {
        let shard = self.shard(key);
        let kept = shard.records.get(shard.trimmed);
        shard.forgotten || kept.is_none_or(|kept| place.sequence < kept.place.sequence)
    }

    /// What was meant between two positions, with its index.
    pub fn between(&self, key: &ShardKey, after: Position, up_to: Position) -> impl std::iter::Iterator<Item = &Meant> {
        let meant = &self.shard(key).meant;
        let index = |position| match position {
            Position::TrimHorizon => 0,
            Position::AtTimestamp(ms) => {
                meant.iter().position(|meant| meant.record.arrived_ms >= ms).unwrap_or(meant.len())
            }
            Position::After(place) => meant.partition_point(|meant| meant.record.place <= place),
            Position::ShardEnd => meant.len(),
        };
        let (from, to) = (index(after), index(up_to));
        meant[from.min(to)..to].iter()
    }

    /// Up to `limit` records.
    pub fn fetch(&self, key: &ShardKey, from: usize, limit: usize) -> Fetched {
        let shard = self.shard(key);
        let from = from.max(shard.trimmed);
        let until = shard.records.len().min(from + limit);
        let caught_up = until == shard.records.len();
        // Kinesis may signal the end one read late, and does so where it gives nothing else.
        let end = caught_up && shard.shard.closed && (until == from || from.is_multiple_of(2));
        Fetched { records: shard.records[from..until].to_vec(), next: until, end, caught_up }
    }
}
