//! The fake Kinesis: streams whose shards split and merge, listings that lag behind, iterators that expire.

use std::collections::BTreeMap;

use bytes::Bytes;
use pelton_core::id::{ShardId, ShardKey, StreamIndex};
use pelton_core::position::{Position, RecordPlace};
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
    /// What was put, in order.
    pub records: Vec<Record>,
    /// No listing shows it any more.
    pub forgotten: bool,
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

/// The streams of a job.
#[derive(Debug)]
pub struct Kinesis {
    streams: Vec<Stream>,
    /// How often each key was put.
    puts: BTreeMap<String, u32>,
}

impl Kinesis {
    /// Streams of so many shards each.
    pub fn new(rng: &mut Rng, streams: u64, shards: u64) -> Self {
        let mut kinesis = Self { streams: Vec::new(), puts: BTreeMap::new() };
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
        stream.shards.insert(id, FakeShard { shard, records: Vec::new(), forgotten: false });
    }

    fn note(&mut self, stream: usize) {
        let stream = &mut self.streams[stream];
        let listed = stream.shards.values().filter(|shard| !shard.forgotten);
        stream.listings.push(listed.map(|shard| shard.shard.clone()).collect());
    }

    /// From now on no listing is older than the newest one.
    pub fn settle(&mut self) {
        for stream in &mut self.streams {
            stream.listings.drain(..stream.listings.len() - 1);
        }
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Puts a record; its data is the key and how often the key was put before.
    pub fn put(&mut self, stream: usize, key: &str, arrived_ms: u64) -> Record {
        let count = self.puts.entry(key.into()).or_default();
        let data = Bytes::from(format!("{key}#{count}"));
        *count += 1;
        let hash = HashKey::of(key);
        let stream = &mut self.streams[stream];
        stream.sequence += 1;
        let sequence = SequenceNumber([1, 7, stream.sequence]);
        let place = RecordPlace { sequence, sub_sequence: 0 };
        let record = Record { place, arrived_ms, partition_key: key.into(), data };
        let open = stream.shards.values_mut().find(|shard| !shard.shard.closed && shard.shard.range.contains(hash));
        open.expect("open shards tile the space").records.push(record.clone());
        record
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
        self.streams[stream].shards.get_mut(id).expect("it was just listed").shard.closed = true;
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

    /// Index of the first record that is not behind a position.
    pub fn index(&self, key: &ShardKey, position: Position) -> usize {
        let records = &self.shard(key).records;
        match position {
            Position::TrimHorizon => 0,
            Position::AtTimestamp(ms) => {
                records.iter().position(|record| record.arrived_ms >= ms).unwrap_or(records.len())
            }
            Position::After(place) => records.partition_point(|record| record.place <= place),
            Position::ShardEnd => records.len(),
        }
    }

    /// Up to `limit` records.
    pub fn fetch(&self, key: &ShardKey, from: usize, limit: usize) -> Fetched {
        let shard = self.shard(key);
        let until = shard.records.len().min(from + limit);
        let caught_up = until == shard.records.len();
        // Kinesis may signal the end one read late, and does so where it gives nothing else.
        let end = caught_up && shard.shard.closed && (until == from || from.is_multiple_of(2));
        Fetched { records: shard.records[from..until].to_vec(), end, caught_up }
    }
}
