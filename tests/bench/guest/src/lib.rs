//! A task that does nothing with a record, but for these: `many N` reads 16 keys from number N on at once, `each N` the same one
//! by one, and `fill N` writes 1,000 values of 1,000 bytes under keys from number N on.

use pelton_task::{Call, Context, Failure, Record, Task};

/// Keys read for one record.
const KEYS: u64 = 16;
const VALUES: u64 = 1_000;
const VALUE_BYTES: usize = 1_000;

/// A task that is in nobody's way.
pub struct Bench;

impl Task for Bench {
    fn init(_: &Context) -> Result<Self, String> {
        Ok(Self)
    }

    fn process(&mut self, record: &Record<'_>, call: &mut Call) -> Result<(), Failure> {
        let data = record.data();
        if data.len() < 6 || !data[..5].is_ascii() || data[4] != b' ' {
            return Ok(());
        }
        let number = || std::str::from_utf8(&data[5..]).ok()?.parse::<u64>().ok();
        match (&data[..4], number()) {
            (b"many", Some(from)) => call.prefetch((from..from + KEYS).map(key)),
            (b"each", Some(from)) => (from..from + KEYS).try_for_each(|number| call.get(&key(number)).map(drop)),
            (b"fill", Some(from)) => fill(call, from),
            _ => Ok(()),
        }
    }
}

pelton_task::export!(Bench);

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Values that do not compress: bytes of a xorshift generator.
fn fill(call: &mut Call, from: u64) -> Result<(), Failure> {
    let mut state = from.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut value = [0; VALUE_BYTES];
    for number in from..from + VALUES {
        for piece in value.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.copy_from_slice(&state.to_le_bytes()[..piece.len()]);
        }
        call.put(&key(number), &value)?;
    }
    Ok(())
}
