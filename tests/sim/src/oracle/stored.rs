//! What is stored, read by the layout that is documented and by nothing else: a commit's head and body, and the entries of the
//! system state. It knows protobuf's fields and no messages, so that it cannot be wrong in the way the rules are.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use pelton_core::commit::{Commit, CommitKind, Invocation, InvocationKind, InvokedRun, StoredCommit};
use pelton_core::counts::Counts;
use pelton_core::dead_letter::{Content, DeadLetter, LetterCause, Timer};
use pelton_core::id::{CommitId, CommitNumber, DeploymentNumber, Epoch, Incarnation, ShardKey, StreamIndex, TaskId};
use pelton_core::output::{Output, OutputId};
use pelton_core::policy::Oddity;
use pelton_core::position::{Position, PositionEntry, RecordPlace};
use pelton_core::record::Record;
use pelton_core::sequence::SequenceNumber;
use pelton_core::slice::{HashKey, HashRange};
use pelton_core::task::{Attempts, FoldedBefore, Item, RefoldedOutputs};
use zstd::bulk::Decompressor;

/// An entry of the system state, as far as the oracle looks at it.
#[derive(Debug)]
pub enum Entry {
    /// How far the task has come in a shard.
    Position(ShardKey, PositionEntry),
    /// What a commit emitted.
    Outbox(CommitNumber, Vec<Output>),
    /// What became of every record.
    Counts(Counts),
    /// Something set aside, by its number.
    Letter(u64, Box<DeadLetter>),
    /// What logic fails with.
    Attempts(Attempts),
    /// A timer.
    Timer(Timer),
    /// The deployments of the task's commits.
    Pins(Vec<Pinned>),
    /// Of a task that was rewound: the rewind, whether outputs are emitted again, and the time up to which timers were due before.
    Refold(CommitNumber, bool, u64),
    /// Something the oracle has no opinion of.
    Other,
}

/// A deployment of commits from one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    pub revision: u64,
    pub deployment: DeploymentNumber,
    /// The first of them.
    pub number: CommitNumber,
    /// Id of the commit before.
    pub previous_id: CommitId,
    /// What was unread at the commit before arrived no earlier, in milliseconds since 1970.
    pub unread_from_ms: u64,
}

/// What cannot be read, and why.
type Read<T> = Result<T, &'static str>;

/// A field's value: a number, or bytes.
#[derive(Clone, Debug)]
enum Value {
    Number(u64),
    Bytes(Bytes),
}

/// The fields of a protobuf message, by their numbers, in order.
#[derive(Clone, Debug, Default)]
struct Message(BTreeMap<u64, Vec<Value>>);

fn varint(bytes: &mut Bytes) -> Read<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().map_err(|_| "a number ends early")?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err("a number has too many bytes")
}

impl Message {
    fn read(mut bytes: Bytes) -> Read<Self> {
        let mut message = Self::default();
        while bytes.has_remaining() {
            let tag = varint(&mut bytes)?;
            let value = match tag & 7 {
                0 => Value::Number(varint(&mut bytes)?),
                1 => Value::Number(bytes.try_get_u64_le().map_err(|_| "a fixed number ends early")?),
                2 => {
                    let length = varint(&mut bytes)? as usize;
                    if length > bytes.len() {
                        return Err("a field ends early");
                    }
                    Value::Bytes(bytes.split_to(length))
                }
                _ => return Err("a field of a kind that is not written"),
            };
            message.0.entry(tag >> 3).or_default().push(value);
        }
        Ok(message)
    }

    fn number(&self, field: u64) -> u64 {
        match self.0.get(&field).and_then(|values| values.last()) {
            Some(Value::Number(number)) => *number,
            Some(Value::Bytes(_)) | None => 0,
        }
    }

    fn all(&self, field: u64) -> impl Iterator<Item = Bytes> {
        let values = self.0.get(&field).into_iter().flatten();
        values.filter_map(|value| match value {
            Value::Bytes(bytes) => Some(bytes.clone()),
            Value::Number(_) => None,
        })
    }

    fn optional(&self, field: u64) -> Option<Bytes> {
        self.all(field).last()
    }

    fn bytes(&self, field: u64) -> Bytes {
        self.optional(field).unwrap_or_default()
    }

    fn text(&self, field: u64) -> Read<String> {
        String::from_utf8(self.bytes(field).to_vec()).map_err(|_| "text is not UTF-8")
    }

    fn messages(&self, field: u64) -> impl Iterator<Item = Read<Self>> {
        self.all(field).map(Self::read)
    }

    fn message(&self, field: u64) -> Read<Self> {
        self.optional(field).map_or(Err("a message is missing"), Self::read)
    }

    fn id(&self, field: u64) -> Read<CommitId> {
        self.bytes(field).as_ref().try_into().map(CommitId).map_err(|_| "an id has not 16 bytes")
    }

    fn hash(&self, field: u64) -> Read<HashKey> {
        let bytes = self.bytes(field).as_ref().try_into().map_err(|_| "a hash key has not 16 bytes")?;
        Ok(HashKey(u128::from_be_bytes(bytes)))
    }

    fn shard(&self, stream: u64, shard: u64) -> Read<ShardKey> {
        let stream = StreamIndex(self.number(stream) as u16);
        Ok(ShardKey { stream, shard: self.text(shard)?.as_str().into() })
    }

    fn place(&self) -> Read<RecordPlace> {
        let mut limbs = self.bytes(3);
        let mut limb = || limbs.try_get_u64().map_err(|_| "a sequence number has not 24 bytes");
        Ok(RecordPlace { sequence: SequenceNumber([limb()?, limb()?, limb()?]), sub_sequence: self.number(4) })
    }

    fn position(&self) -> Read<Position> {
        match self.number(1) {
            0 => Ok(Position::TrimHorizon),
            1 => Ok(Position::AtTimestamp(self.number(2))),
            2 => Ok(Position::After(self.place()?)),
            3 => Ok(Position::ShardEnd),
            _ => Err("an unknown kind of position"),
        }
    }

    fn timer(&self) -> Read<Timer> {
        Ok(Timer { name: self.text(1)?, due_ms: self.number(2) })
    }
}

// A context costs more than a commit.
thread_local! {
    static DECOMPRESSOR: RefCell<Decompressor<'static>> =
        RefCell::new(Decompressor::new().expect("a context needs nothing but memory"));
}

/// A commit of the changelog.
pub fn commit(stored: &StoredCommit) -> Read<Commit> {
    let head = &stored.head;
    if head.len() < 14 || head[..5] != *b"PLTC\x01" {
        return Err("a head begins with PLTC and format 1");
    }
    let compressed = match head[5] {
        0 => head[14..].to_vec(),
        _ => stored.parts.concat(),
    };
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = number(10) as usize;
    let body = DECOMPRESSOR.with_borrow_mut(|decompressor| decompressor.decompress(&compressed, length));
    let body = body.map_err(|_| "the body is no zstd frame")?;
    if crc32c::crc32c(&compressed) != number(6) || body.len() != length {
        return Err("checksum or length is not that of the body");
    }
    let body = Message::read(body.into())?;
    let write = |write: Read<Message>| write.map(|write| (write.bytes(1), write.optional(2)));
    Ok(Commit {
        number: CommitNumber(body.number(1)),
        id: body.id(2)?,
        previous_id: body.id(3)?,
        epoch: Epoch(body.number(4)),
        deployment: DeploymentNumber(body.number(5)),
        kind: match body.number(6) {
            0 => CommitKind::Fence,
            1 => CommitKind::Step,
            2 => CommitKind::Rewind(CommitNumber(body.number(10))),
            _ => return Err("an unknown kind of commit"),
        },
        born: CommitNumber(body.number(7)),
        invocations: body.messages(8).map(|message| invocation(&message?)).collect::<Read<_>>()?,
        writes: Arc::new(body.messages(9).map(write).collect::<Read<Vec<_>>>()?.into_iter().collect()),
    })
}

fn invocation(message: &Message) -> Read<Invocation> {
    let run = |run: Message| {
        Ok(InvokedRun {
            shard: run.shard(1, 2)?,
            after: run.message(3)?.position()?,
            up_to: run.message(4)?.position()?,
            records: run.number(5) as u32,
        })
    };
    let mut timers = message.messages(6).map(|timer| timer?.timer()).collect::<Read<Vec<_>>>()?;
    let kind = match message.number(5) {
        0 => InvocationKind::Records,
        1 => InvocationKind::SetAside(timers.pop()),
        2 => InvocationKind::Timers(timers),
        3 => InvocationKind::Redrive(message.number(7)),
        _ => return Err("an unknown kind of invocation"),
    };
    Ok(Invocation {
        time_ms: message.number(1),
        failed_attempts: message.number(2) as u32,
        born: message.number(4) == 1,
        kind,
        runs: message.messages(3).map(|message| run(message?)).collect::<Read<_>>()?,
    })
}

/// An entry of the system state, from its key behind the space byte.
pub fn entry(key: &[u8], value: &Bytes) -> Read<Entry> {
    let number = |bytes: &[u8]| Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| "a number has not 8 bytes")?));
    let message = || Message::read(value.clone());
    match (key[0], &key[1..]) {
        (b'p', key) => {
            let stream = StreamIndex(u16::from_be_bytes([key[0], key[1]]));
            let shard = std::str::from_utf8(&key[2..]).map_err(|_| "a shard id is not UTF-8")?;
            let message = message()?;
            let range = HashRange { start: message.hash(3)?, end: message.hash(4)? };
            let position = message.message(1)?.position()?;
            let entry = PositionEntry { position, unread_from_ms: message.number(2), range };
            Ok(Entry::Position(ShardKey { stream, shard: shard.into() }, entry))
        }
        (b'o', key) => {
            let output = |output: Message| {
                let rewind = output.0.contains_key(&4).then(|| CommitNumber(output.number(4)));
                Ok(Output { output: output.text(1)?, partition_key: output.text(2)?, data: output.bytes(3), rewind })
            };
            let outputs = message()?.messages(1).map(|message| output(message?)).collect::<Read<_>>()?;
            Ok(Entry::Outbox(CommitNumber(number(key)?), outputs))
        }
        (b'n', _) => Ok(Entry::Counts(counts(&message()?)?)),
        (b'd', key) => Ok(Entry::Letter(number(key)?, Box::new(letter(&message()?)?))),
        (b'a', _) => {
            let message = message()?;
            let suspect = match message.optional(5) {
                Some(place) => Item::Record(message.shard(3, 4)?, Message::read(place)?.place()?),
                None => Item::Timer(message.message(6)?.timer()?),
            };
            Ok(Entry::Attempts(Attempts { suspect, attempts: message.number(1) as u32, message: message.text(2)? }))
        }
        (b'h', _) => {
            let pin = |pin: Message| {
                Ok(Pinned {
                    revision: pin.number(1),
                    deployment: DeploymentNumber(pin.number(2)),
                    number: CommitNumber(pin.number(3)),
                    previous_id: pin.id(4)?,
                    unread_from_ms: pin.number(5),
                })
            };
            Ok(Entry::Pins(message()?.messages(1).map(|message| pin(message?)).collect::<Read<_>>()?))
        }
        (b'w', _) => {
            let message = message()?;
            Ok(Entry::Refold(CommitNumber(message.number(1)), message.number(2) == 1, message.number(3)))
        }
        (b't', key) => {
            let name = String::from_utf8(key.to_vec()).map_err(|_| "a timer's name is not UTF-8")?;
            Ok(Entry::Timer(Timer { due_ms: number(value)?, name }))
        }
        _ => Ok(Entry::Other),
    }
}

fn counts(message: &Message) -> Read<Counts> {
    let dropped = |message: Read<Message>| message.and_then(|one| Ok((oddity(one.number(1))?, one.number(2))));
    Ok(Counts {
        folded: message.number(1),
        malformed: message.number(2),
        dropped: message.messages(3).map(dropped).collect::<Read<_>>()?,
        dead_letters: message.number(4),
        dead_records: message.number(5),
        redriven: message.number(6),
        timers_fired: message.number(7),
    })
}

fn oddity(number: u64) -> Read<Oddity> {
    match number {
        0 => Ok(Oddity::OutOfRange),
        1 => Ok(Oddity::Stray),
        2 => Ok(Oddity::WithStray),
        3 => Ok(Oddity::Repeat),
        _ => Err("an unknown oddity"),
    }
}

fn letter(message: &Message) -> Read<DeadLetter> {
    let content = match (message.optional(7), message.optional(8), message.optional(10)) {
        (Some(inner), ..) => Content::Record(message.shard(5, 6)?, record(&Message::read(inner)?)?),
        (None, Some(from), _) => Content::Gap {
            shard: message.shard(5, 6)?,
            from: Message::read(from)?.position()?,
            to: message.message(9)?.position()?,
        },
        (None, None, Some(timer)) => Content::Timer(Message::read(timer)?.timer()?),
        (None, None, None) => return Err("a letter holds nothing"),
    };
    let cause = match message.number(1) {
        8 => LetterCause::Poison,
        9 => LetterCause::Failed,
        10 => LetterCause::Gap,
        odd => LetterCause::Odd(oddity(odd)?),
    };
    let (attempts, at_ms) = (message.number(3) as u32, message.number(4));
    let folded_before = message.optional(11).map(Message::read).transpose()?.map(|before| FoldedBefore {
        rewind: CommitNumber(before.number(1)),
        outputs: if before.number(2) == 1 { RefoldedOutputs::Again } else { RefoldedOutputs::Withhold },
        clock_ms: before.number(3),
    });
    Ok(DeadLetter { cause, message: message.text(2)?, attempts, at_ms, content, folded_before })
}

fn record(message: &Message) -> Read<Record> {
    let name = message.text(5)?;
    Ok(Record {
        place: message.message(1)?.place()?,
        arrived_ms: message.number(2),
        partition_key: message.text(3)?,
        data: message.bytes(4),
        output: if name.is_empty() { None } else { Some(Box::new(output_id(&name)?)) },
    })
}

/// An output's name: incarnation in hexadecimal digits, task, commit and index, with slashes between.
fn output_id(name: &str) -> Read<OutputId> {
    let wrong = "an output's name is no name";
    let mut parts = name.split('/').collect::<Vec<_>>();
    let rewind = if parts.len() > 4 { parts.pop() } else { None };
    let [incarnation, task, commit, index] = parts[..] else { return Err(wrong) };
    let incarnation = u128::from_str_radix(incarnation, 16).map_err(|_| wrong)?.to_be_bytes();
    Ok(OutputId {
        incarnation: Incarnation(incarnation),
        task: TaskId(task.parse().map_err(|_| wrong)?),
        commit: CommitNumber(commit.parse().map_err(|_| wrong)?),
        index: index.parse().map_err(|_| wrong)?,
        rewind: rewind.map(str::parse).transpose().map_err(|_| wrong)?.map(CommitNumber),
    })
}
