//! The numbers and ids that name things. Each is a type of its own, so that an epoch is never taken for a commit.

use std::fmt;
use std::sync::Arc;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A task of a job, from 0.
    TaskId(u16)
}
number! {
    /// Place of a commit in its task's changelog. The first commit is 1; 0 stands for "before the first".
    CommitNumber(u64)
}
number! {
    /// Raised on each change of a task's owner; never falls along a changelog.
    Epoch(u64)
}
number! {
    /// Number of a deployment within its job, from 1.
    DeploymentNumber(u64)
}
number! {
    /// Index of an input stream in its job's list of inputs, which is fixed when the job is created.
    StreamIndex(u16)
}

impl CommitNumber {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident[$len:literal]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = || InvalidId { text: text.into(), bytes: $len };
                if text.len() != 2 * $len || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(invalid());
                }
                let mut bytes = [0; $len];
                for (at, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| invalid())?;
                }
                Ok(Self(bytes))
            }
        }
    };
}

/// Text that should have been an id in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id of {bytes} bytes in hexadecimal")]
pub struct InvalidId {
    /// The text as given.
    pub text: String,
    /// How many bytes such an id has.
    pub bytes: usize,
}

id! {
    /// Random id of a commit: tells whose commit stands at a number. All zero stands for "before the first".
    CommitId[16]
}
id! {
    /// Random id a job gets when it is created; part of every key and output id.
    Incarnation[16]
}
id! {
    /// Random id of one `pelton` process.
    HostId[16]
}
id! {
    /// SHA-256 of a component's bytes.
    Digest[32]
}

/// Id of a Kinesis shard, such as `shardId-000000000003`. Ids of one stream rise with the time of their creation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub Arc<str>);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<&str> for ShardId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// A shard of one of a job's input streams.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardKey {
    /// Which input stream.
    pub stream: StreamIndex,
    /// Which of its shards.
    pub shard: ShardId,
}

impl fmt::Display for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of input {}", self.shard, self.stream)
    }
}
