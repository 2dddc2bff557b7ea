//! Kinesis sequence numbers: up to 56 decimal digits, so wider than 128 bits. Compared as numbers, given back as they came.

use std::fmt;
use std::str::FromStr;

/// A sequence number as a 192-bit unsigned number, its highest 64 bits first, so that the derived order is the numeric one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber(pub [u64; 3]);

/// Ten to this power is the largest that fits 64 bits.
const CHUNK_DIGITS: usize = 19;

/// Text that is not a sequence number Pelton can give back as it came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a sequence number: expected up to 57 decimal digits without leading zeros")]
pub struct InvalidSequenceNumber(pub String);

impl FromStr for SequenceNumber {
    type Err = InvalidSequenceNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSequenceNumber(text.into());
        let digits = text.as_bytes();
        let canonical = text == "0" || (!digits.is_empty() && digits[0] != b'0');
        if !canonical || !digits.iter().all(u8::is_ascii_digit) {
            return Err(invalid());
        }
        let mut limbs = [0u64; 3];
        let head = digits.len() % CHUNK_DIGITS;
        let (first, rest) = digits.split_at(head);
        for chunk in std::iter::once(first).chain(rest.chunks(CHUNK_DIGITS)).filter(|chunk| !chunk.is_empty()) {
            let value = chunk.iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
            let mut carry = u128::from(value);
            for limb in limbs.iter_mut().rev() {
                let wide = u128::from(*limb) * u128::from(10u64.pow(chunk.len() as u32)) + carry;
                *limb = wide as u64;
                carry = wide >> 64;
            }
            if carry != 0 {
                return Err(invalid());
            }
        }
        Ok(Self(limbs))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut limbs = self.0;
        let mut chunks = Vec::with_capacity(4);
        while limbs != [0; 3] {
            let mut rest = 0u128;
            for limb in &mut limbs {
                let wide = (rest << 64) | u128::from(*limb);
                *limb = (wide / 10u128.pow(CHUNK_DIGITS as u32)) as u64;
                rest = wide % 10u128.pow(CHUNK_DIGITS as u32);
            }
            chunks.push(rest as u64);
        }
        let Some(first) = chunks.pop() else { return f.write_str("0") };
        write!(f, "{first}")?;
        chunks.iter().rev().try_for_each(|chunk| write!(f, "{chunk:019}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_came_and_compare_as_numbers() {
        let rising = [
            "0",
            "7",
            "18446744073709551615",
            "18446744073709551616",
            "9223372036854775807000000000000000000",
            "49590338271490256608559692538361571095921575989136588898",
            "49590338271490256608559692538361571095921575989136588899",
        ];
        let parsed: Vec<SequenceNumber> = rising.iter().map(|text| text.parse().unwrap()).collect();
        for (text, number) in rising.iter().zip(&parsed) {
            assert_eq!(number.to_string(), *text);
        }
        assert!(parsed.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn what_could_not_be_given_back_is_refused() {
        for text in ["", "007", "12a", "-1", " 1", &"9".repeat(58)] {
            assert!(text.parse::<SequenceNumber>().is_err(), "{text:?}");
        }
    }
}
