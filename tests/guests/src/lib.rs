//! A task that does what its records say, however bad: `loop`, `grow`, `trap`, `fatal`, `poison`, `cured`, `long-key`,
//! `big-value`, `write`, `recall` (what `write` wrote), `emit`, `chatter`, `hold` (some memory), `toil` (for some time), `mutter` (a few
//! lines), or else count them.

use pelton_task::{Call, Context, Failure, Map, Record, Task, Value};

/// How often each partition key was seen.
const SEEN: Map<str, u64> = Map::new("");

/// The largest value there can be, of bytes that do not compress.
const BIG: Value<[u8]> = Value::new("big");
const VALUE_BYTES: usize = 8 * 1024 * 1024;

/// Values that are written, and read again, one after another.
const WRITES: u32 = 30;

/// Memory that is taken at once.
const HELD_BYTES: usize = 16 * 1024 * 1024;

/// Steps of a generator, each of which has to wait for the one before: about a second of a core.
const TOIL_STEPS: usize = 300_000_000;

/// States of a xorshift generator that begins with 1.
fn states() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(1u64), |state| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        Some(state ^ (state << 17))
    })
}

/// Bytes of the generator.
fn noise(bytes: usize) -> Vec<u8> {
    states().skip(1).take(bytes).map(|state| (state >> 32) as u8).collect()
}

/// A task that does as it is told.
pub struct Misbehaving;

impl Task for Misbehaving {
    fn init(_: &Context) -> Result<Self, String> {
        Ok(Self)
    }

    fn process(&mut self, record: &Record<'_>, call: &mut Call) -> Result<(), Failure> {
        match record.data() {
            b"loop" => loop {
                std::hint::black_box(());
            },
            b"grow" => {
                let mut held: Vec<Vec<u8>> = Vec::new();
                loop {
                    held.push(std::hint::black_box(vec![1; 1024 * 1024]));
                }
            }
            b"trap" => panic!("told to"),
            b"fatal" => Err(Failure::fatal("told to")),
            b"poison" => Err(Failure::poison("told to")),
            b"cured" if call.context().config("cure").is_none() => Err(Failure::retry("there is no cure yet")),
            b"big-value" => BIG.put(call, &noise(VALUE_BYTES)),
            b"write" => (0..WRITES).try_for_each(|at| call.put(&at.to_be_bytes(), &[0; 100_000])),
            b"recall" => call.prefetch((0..WRITES).map(u32::to_be_bytes)),
            b"emit" => (0..30).try_for_each(|_| call.emit("out", "key", &[0; 100_000])),
            b"chatter" => {
                (0..20_000).for_each(|line| println!("chatter {line}"));
                SEEN.add(call, record.partition_key(), 1)
            }
            b"hold" => {
                std::hint::black_box(vec![1u8; HELD_BYTES]);
                SEEN.add(call, record.partition_key(), 1)
            }
            b"toil" => {
                std::hint::black_box(states().nth(TOIL_STEPS));
                SEEN.add(call, record.partition_key(), 1)
            }
            b"mutter" => {
                (0..40).for_each(|line| println!("mutter {line}"));
                SEEN.add(call, record.partition_key(), 1)
            }
            b"long-key" => SEEN.add(call, &"k".repeat(2_000), 1),
            _ => SEEN.add(call, record.partition_key(), 1),
        }
    }
}

pelton_task::export!(Misbehaving);
