//! The head of a component: which pieces it has, when it was wanted last, and whether it is gone. Each change of one that is not
//! gone raises `touches`, so that who decides by what it read can tell that it still holds.

use pelton_core::id::Digest;
use pelton_engine::ports::{PortError, PutOutcome};

use crate::error::persist;
use crate::item::{Item, number};
use crate::layout::{self, HEAD};
use crate::mutant::{Mutant, wrong};
use crate::table::DynamoTable;

/// What says that all pieces of a component are there, or that it is gone.
#[derive(Clone, Copy)]
pub(super) struct Head {
    /// Bytes of the component.
    pub size: u64,
    /// How many pieces it has.
    pub chunks: u64,
    /// Which pieces: those of each push after a collection are others.
    pub generation: u64,
    /// Rises with each change while it is not gone.
    pub touches: u64,
    /// When it was pushed, or said to be needed, last; none in those of before there was collection.
    pub wanted_ms: Option<u64>,
    /// When it was collected.
    pub gone_ms: Option<u64>,
}

impl Head {
    /// The head of a component.
    pub async fn of(table: &DynamoTable, digest: Digest) -> Result<Option<Self>, PortError> {
        let pk = layout::component(digest);
        persist(|| table.get(&pk, HEAD)).await?.map(Self::read).transpose()
    }

    fn read(mut item: Item) -> Result<Self, PortError> {
        let head = Self {
            size: item.number("size")?,
            chunks: item.number("chunks")?,
            generation: item.number_if_any("generation")?.unwrap_or(0),
            touches: item.number_if_any("touches")?.unwrap_or(0),
            wanted_ms: item.number_if_any("wanted_ms")?,
            gone_ms: item.number_if_any("gone_ms")?,
        };
        item.end()?;
        Ok(head)
    }

    /// Puts the head of what was pushed, where there is none or still the one that is gone.
    pub async fn put(&self, table: &DynamoTable, digest: Digest, gone: Option<&Self>) -> Result<PutOutcome, PortError> {
        let attributes = vec![
            ("size", number(self.size)),
            ("chunks", number(self.chunks)),
            ("generation", number(self.generation)),
            ("touches", number(self.touches)),
            ("wanted_ms", number(self.wanted_ms.unwrap_or(0))),
        ];
        let condition = match gone {
            None => ("attribute_not_exists(pk)", Vec::new()),
            // Nothing but this raises the touches of one that is gone.
            Some(gone) => ("touches = :touches", vec![(":touches", number(gone.touches))]),
        };
        table.put_if((&layout::component(digest), HEAD), attributes, condition).await
    }

    /// Has a component count as wanted now. Whether it is there.
    pub async fn touch(table: &DynamoTable, digest: Digest, now_ms: u64) -> Result<bool, PortError> {
        let pk = layout::component(digest);
        let change = "SET wanted_ms = :now, generation = if_not_exists(generation, :zero) ADD touches :one";
        let condition = Some("attribute_exists(pk) AND attribute_not_exists(gone_ms)");
        let values = || vec![(":now", number(now_ms)), (":zero", number(0)), (":one", number(1))];
        let touched = persist(|| table.update((&pk, HEAD), (change, condition), values())).await?;
        Ok(touched == PutOutcome::Applied)
    }

    /// Says that the component is gone, if nobody wanted it since this was read.
    pub async fn bury(&self, table: &DynamoTable, digest: Digest, now_ms: u64) -> Result<PutOutcome, PortError> {
        let pk = layout::component(digest);
        let condition = if wrong(Mutant::CollectedThoughWanted) {
            "touches >= :touches AND attribute_not_exists(gone_ms)"
        } else {
            "touches = :touches AND attribute_not_exists(gone_ms)"
        };
        let values = || vec![(":now", number(now_ms)), (":touches", number(self.touches))];
        persist(|| table.update((&pk, HEAD), ("SET gone_ms = :now", Some(condition)), values())).await
    }
}
