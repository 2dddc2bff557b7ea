//! How keys and values become bytes. Integers are big-endian with the sign bit of signed ones flipped, so that the
//! order of keys is the order of numbers; text and bytes are themselves.

use std::borrow::Borrow;
use std::fmt;

use crate::failure::Failure;

/// A type that may stand in the state, as a key or a value.
pub trait Codec {
    /// What is read back.
    type Owned: Borrow<Self>;

    /// Appends the bytes that stand for it.
    fn encode(&self, out: &mut Vec<u8>);

    /// The bytes that stand for it, where it is made of them already; spares a copy of each key that has no prefix.
    fn as_bytes(&self) -> Option<&[u8]> {
        None
    }

    /// Reads it back from those bytes.
    fn decode(bytes: &[u8]) -> Result<Self::Owned, Malformed>;
}

/// Bytes that are not what they should be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl Malformed {
    /// The failure this is, when the bytes stand under a key: no record is to blame, and going on would lose them.
    pub(crate) fn at(self, key: &[u8]) -> Failure {
        Failure::fatal(format!(
            "the state under key \"{}\" is not this task's: {self}; was it written by another component?",
            key.escape_ascii()
        ))
        .of_batch()
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

impl Codec for [u8] {
    type Owned = Vec<u8>;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        Some(self)
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        Ok(bytes.to_vec())
    }
}

impl Codec for str {
    type Owned = String;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(str::as_bytes(self));
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        Some(str::as_bytes(self))
    }

    fn decode(bytes: &[u8]) -> Result<String, Malformed> {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| Malformed(format!("not UTF-8: {error}")))
    }
}

impl Codec for Vec<u8> {
    type Owned = Self;

    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        <[u8]>::decode(bytes)
    }
}

impl Codec for String {
    type Owned = Self;

    fn encode(&self, out: &mut Vec<u8>) {
        self.as_str().encode(out);
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        str::decode(bytes)
    }
}

macro_rules! integers {
    ($($integer:ty: $flip:expr;)*) => {$(
        impl Codec for $integer {
            type Owned = Self;

            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&(self ^ $flip).to_be_bytes());
            }

            fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
                let wrong = |_| Malformed(format!("expected {} bytes, found {}", size_of::<Self>(), bytes.len()));
                Ok(Self::from_be_bytes(bytes.try_into().map_err(wrong)?) ^ $flip)
            }
        }
    )*};
}

integers! {
    u8: 0;
    u16: 0;
    u32: 0;
    u64: 0;
    u128: 0;
    i8: i8::MIN;
    i16: i16::MIN;
    i32: i32::MIN;
    i64: i64::MIN;
    i128: i128::MIN;
}

/// Any serde type, kept as JSON, so that `pelton state get` shows what it is.
#[cfg(feature = "serde")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec for Json<T> {
    type Owned = Self;

    /// # Panics
    /// When the type cannot be said in JSON, such as a map whose keys are no text.
    fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, &self.0).expect("the type can be said in JSON");
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        serde_json::from_slice(bytes).map(Self).map_err(|error| Malformed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_is_the_order_of_numbers() {
        let encoded: Vec<Vec<u8>> = [i64::MIN, -2, -1, 0, 1, 255, 256, i64::MAX]
            .iter()
            .map(|number| {
                let mut out = Vec::new();
                number.encode(&mut out);
                assert_eq!(i64::decode(&out), Ok(*number));
                out
            })
            .collect();
        assert!(encoded.is_sorted());
        assert_eq!(u32::decode(&[0, 0, 1, 0]), Ok(256));
    }

    #[test]
    fn bytes_of_another_type_are_refused_with_the_reason() {
        assert_eq!(u64::decode(b"abc"), Err(Malformed("expected 8 bytes, found 3".into())));
        assert!(str::decode(&[0xff]).is_err());
    }
}
