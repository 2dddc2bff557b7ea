//! A task that does what its records say, however bad: `loop`, `grow`, `trap`, `fatal`, `poison`, `cured`, `long-key`,
//! `big-value`, `write`, `emit`, `chatter`, or else count them.

use pelton_task::{Call, Context, Failure, Map, Record, Task, Value};

/// How often each partition key was seen.
const SEEN: Map<str, u64> = Map::new("");

/// The largest value there can be, of bytes that do not compress.
const BIG: Value<[u8]> = Value::new("big");
const VALUE_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of a xorshift generator that begins with 1.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut noise = Vec::with_capacity(bytes);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.push((state >> 32) as u8);
    }
    noise
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
            b"write" => (0..30u32).try_for_each(|at| call.put(&at.to_be_bytes(), &[0; 100_000])),
            b"emit" => (0..30).try_for_each(|_| call.emit("out", "key", &[0; 100_000])),
            b"chatter" => {
                (0..20_000).for_each(|line| println!("chatter {line}"));
                SEEN.add(call, record.partition_key(), 1)
            }
            b"long-key" => SEEN.add(call, &"k".repeat(2_000), 1),
            _ => SEEN.add(call, record.partition_key(), 1),
        }
    }
}

pelton_task::export!(Misbehaving);
