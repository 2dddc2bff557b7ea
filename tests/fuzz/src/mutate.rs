//! Bytes changed at random, by a seed: what plain tests try in place of a fuzzer's ideas.

use bytes::Bytes;

/// Values at which lengths, counts and tags change their meaning.
const TELLING: [u8; 12] = [0, 1, 2, 7, 8, 10, 13, 0x22, 0x7F, 0x80, 0xFE, 0xFF];
/// Most bytes added at a time.
const ADDED_BYTES_MAX: u64 = 16;

/// A sequence of numbers from a seed (SplitMix64).
pub struct Rng(u64);

impl Rng {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.draw() % end as u64) as usize }
    }
}

/// Places in these bytes, spread over them by their contents.
pub fn places(bytes: &[u8], count: usize) -> impl Iterator<Item = usize> {
    let mut rng = Rng::new(u64::from(crc32c::crc32c(bytes)));
    let length = bytes.len();
    (0..count).filter(move |_| length > 0).map(move |_| rng.below(length))
}

/// The same bytes with one bit of one of them changed.
pub fn flipped(bytes: &[u8], at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << (at % 8);
    bytes.into()
}

/// One to four changes; `other` is where pieces are taken from.
pub fn mutated(rng: &mut Rng, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=rng.below(4) {
        change(rng, &mut bytes, other);
    }
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = rng.below(bytes.len());
    let to = at + rng.below(bytes.len() - at + 1);
    match rng.below(8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
        1 if !bytes.is_empty() => bytes[at] = TELLING[rng.below(TELLING.len())],
        2 if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_add(if rng.below(2) == 0 { 1 } else { 255 }),
        3 => drop(bytes.drain(at..to)),
        4 => bytes.truncate(at),
        5 => {
            let again = bytes[at..to].to_vec();
            bytes.splice(at..at, again);
        }
        6 => {
            let from = rng.below(other.len());
            let piece = &other[from..from + rng.below(other.len() - from + 1)];
            bytes.splice(at..at, piece.iter().copied());
        }
        _ => {
            let added = 1 + rng.draw() % ADDED_BYTES_MAX;
            let added: Vec<u8> = (0..added).map(|_| rng.draw() as u8).collect();
            bytes.splice(at..at, added);
        }
    }
}
