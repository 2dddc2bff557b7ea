//! Items read strictly: an attribute that is missing, of another type or not known is an error that names the item, never
//! something to pass over.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use pelton_core::id::CommitNumber;
use pelton_engine::ports::PortError;

use crate::layout::{self, PK, SK};
use crate::mutant::{Mutant, wrong};

/// An item as the SDK has it.
pub(crate) type Attributes = HashMap<String, AttributeValue>;

/// An item being taken apart.
pub(crate) struct Item {
    table: String,
    pk: String,
    /// Its sort key.
    pub sk: String,
    rest: Attributes,
}

impl Item {
    pub fn new(table: &str, mut attributes: Attributes) -> Result<Self, PortError> {
        let mut key = |name: &str| match attributes.remove(name) {
            Some(AttributeValue::S(text)) => Ok(text),
            _ => Err(PortError::Stop(format!("table {table}: an item without the string {name}"))),
        };
        let (pk, sk) = (key(PK)?, key(SK)?);
        Ok(Self { table: table.into(), pk, sk, rest: attributes })
    }

    /// An error about this item.
    pub fn wrong(&self, what: impl std::fmt::Display) -> PortError {
        PortError::Stop(format!("table {}, item {} {}: {what}", self.table, self.pk, self.sk))
    }

    pub fn bytes(&mut self, name: &str) -> Result<Bytes, PortError> {
        match self.rest.remove(name) {
            Some(AttributeValue::B(bytes)) => Ok(bytes.into_inner().into()),
            _ => Err(self.wrong(format!("attribute {name} is missing or not binary"))),
        }
    }

    pub fn number(&mut self, name: &str) -> Result<u64, PortError> {
        let number = match self.rest.remove(name) {
            Some(AttributeValue::N(text)) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.wrong(format!("attribute {name} is missing or not a whole number")))
    }

    /// A number that not every item has.
    pub fn number_if_any(&mut self, name: &str) -> Result<Option<u64>, PortError> {
        self.rest.contains_key(name).then(|| self.number(name)).transpose()
    }

    /// 16 bytes.
    pub fn id(&mut self, name: &str) -> Result<[u8; 16], PortError> {
        let bytes = self.bytes(name)?;
        bytes.as_ref().try_into().map_err(|_| self.wrong(format!("attribute {name} has not 16 bytes")))
    }

    /// The number of the commit that the item's sort key is of.
    pub fn log_number(&self) -> Result<CommitNumber, PortError> {
        layout::log_number(&self.sk).ok_or_else(|| self.wrong("its sort key is not that of a commit"))
    }

    /// Every attribute was taken.
    pub fn end(self) -> Result<(), PortError> {
        match self.rest.keys().min() {
            None => Ok(()),
            Some(_) if wrong(Mutant::StrangeAttributePassed) => Ok(()),
            Some(name) => Err(self.wrong(format!("attribute {name} is not known to this version; run a newer one"))),
        }
    }
}

pub(crate) fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(crate) fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(crate) fn binary(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}
