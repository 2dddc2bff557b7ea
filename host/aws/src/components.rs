//! Components by digest: pieces first, then the head, which says that all are there. A component is gone from the moment that its
//! head says so, and for ever: one that is pushed again is of another generation, with pieces of its own.

mod head;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pelton_core::id::{Digest, Incarnation};
use pelton_core::limits::ITEM_PAYLOAD_BYTES_MAX;
use pelton_engine::digest_of;
use pelton_engine::ports::{Clock, Collected, ComponentStore, ComponentUse, PortError, PutOutcome};

use crate::error::persist;
use crate::item::{Item, binary, number};
use crate::items::Query;
use crate::layout::{self, COMPONENTS, LAST, USED};
use crate::mutant::{Mutant, wrong};
use crate::table::DynamoTable;
use head::Head;

/// `until_ms` of a use whose job says nothing else.
const FOR_AS_LONG: u64 = 0;
/// What is listed is of this generation or an earlier one.
const NOT_LATER: &str = "attribute_not_exists(generation) OR generation <= :generation";

/// The components of a table.
pub struct DynamoComponents {
    table: DynamoTable,
    clock: Arc<dyn Clock>,
}

impl DynamoComponents {
    /// The components kept in a table, by the time of a clock.
    pub fn new(table: DynamoTable, clock: Arc<dyn Clock>) -> Self {
        Self { table, clock }
    }

    /// Has another incarnation of a job use what one does.
    ///
    /// # Errors
    /// When the table cannot be read or written.
    pub async fn carry_over(&self, from: Incarnation, to: Incarnation) -> Result<(), PortError> {
        for (digest, _) in self.lasting(from).await? {
            self.keep(digest, to).await?;
        }
        Ok(())
    }

    /// Ends every use of an incarnation that is no job any more.
    ///
    /// # Errors
    /// When the table cannot be read or written.
    pub async fn forget(&self, job: Incarnation) -> Result<(), PortError> {
        for (digest, known) in self.lasting(job).await? {
            self.release(digest, &known, self.clock.now_ms()).await?;
        }
        Ok(())
    }

    async fn lasting(&self, job: Incarnation) -> Result<Vec<(Digest, ComponentUse)>, PortError> {
        let mut lasting = Vec::new();
        for (digest, _) in self.list().await? {
            let uses = self.uses(digest).await?.into_iter();
            lasting.extend(uses.filter(|used| used.job == job && used.until_ms.is_none()).map(|used| (digest, used)));
        }
        Ok(lasting)
    }

    /// Writes all pieces, and then the head in place of none or of one that is gone. Returns the generation, unless somebody else was
    /// first.
    async fn write(&self, digest: Digest, bytes: &Bytes, gone: Option<Head>) -> Result<Option<u64>, PortError> {
        if let Some(gone) = &gone {
            // Nobody finds them any more once another head is there.
            self.delete_pieces(digest, gone).await?;
        }
        let next = if wrong(Mutant::GenerationKept) { 0 } else { 1 };
        let head = Head {
            size: bytes.len() as u64,
            chunks: bytes.len().div_ceil(ITEM_PAYLOAD_BYTES_MAX) as u64,
            generation: gone.map_or(0, |gone| gone.generation + next),
            touches: gone.map_or(0, |gone| gone.touches) + 1,
            wanted_ms: Some(self.clock.now_ms()),
            gone_ms: None,
        };
        let put_head = || head.put(&self.table, digest, gone.as_ref());
        if wrong(Mutant::ComponentHeadFirst) {
            persist(put_head).await?;
        }
        let pk = layout::component(digest);
        // One partition key takes three pieces a second: throttling is to be expected, and waited out.
        for (index, chunk) in (0..).zip(bytes.chunks(ITEM_PAYLOAD_BYTES_MAX)) {
            let sk = layout::component_chunk(head.generation, index);
            persist(|| self.table.put(&pk, &sk, vec![("data", binary(chunk))])).await?;
        }
        let put = persist(put_head).await?;
        Ok((put == PutOutcome::Applied).then_some(head.generation))
    }

    /// The bytes that a head tells of; where a piece is missing, which.
    async fn read(&self, digest: Digest, head: &Head) -> Result<Result<Bytes, u64>, PortError> {
        let pk = layout::component(digest);
        let mut bytes = BytesMut::new();
        for index in 0..head.chunks {
            let sk = layout::component_chunk(head.generation, index);
            let Some(mut chunk) = persist(|| self.table.get(&pk, &sk)).await? else { return Ok(Err(index)) };
            bytes.extend_from_slice(&chunk.bytes("data")?);
            chunk.end()?;
        }
        let is_whole = bytes.len() as u64 == head.size && digest_of(&bytes) == digest;
        if !is_whole && !wrong(Mutant::ComponentUnchecked) {
            let table = self.table.name();
            return Err(PortError::Stop(format!(
                "component {digest} is damaged in table {table}; delete its item {} and push it again",
                layout::HEAD
            )));
        }
        Ok(Ok(bytes.freeze()))
    }

    /// Deletes the pieces of a component that is gone. Those of a later generation have other keys.
    async fn delete_pieces(&self, digest: Digest, gone: &Head) -> Result<(), PortError> {
        let pk = layout::component(digest);
        let sks: Vec<String> = (0..gone.chunks).map(|index| layout::component_chunk(gone.generation, index)).collect();
        persist(|| self.table.delete(&pk, &sks)).await
    }
}

/// A use as it is kept.
fn use_of(mut item: Item) -> Result<ComponentUse, PortError> {
    let job = item.sk.strip_prefix(USED).unwrap_or_default().parse();
    let job = job.map_err(|error| item.wrong(error))?;
    let until_ms = Some(item.number("until_ms")?).filter(|until_ms| *until_ms != FOR_AS_LONG);
    let used = ComponentUse { job, until_ms, pins: item.number("pins")? };
    item.end()?;
    Ok(used)
}

#[async_trait]
impl ComponentStore for DynamoComponents {
    async fn put(&self, digest: Digest, bytes: Bytes) -> Result<(), PortError> {
        if digest_of(&bytes) != digest {
            return Err(PortError::Stop(format!("these {} bytes are not component {digest}", bytes.len())));
        }
        // Who is not first looks again: what stands then is whole, or is gone by its own time.
        let generation = loop {
            match Head::of(&self.table, digest).await? {
                Some(head) if head.gone_ms.is_none() => {
                    if Head::touch(&self.table, digest, self.clock.now_ms()).await? {
                        break head.generation;
                    }
                }
                gone => {
                    if let Some(generation) = self.write(digest, &bytes, gone).await? {
                        break generation;
                    }
                }
            }
        };
        let (listed, generation) = (digest.to_string(), number(generation));
        let attributes = || vec![("size", number(bytes.len() as u64)), ("generation", generation.clone())];
        let condition = || (NOT_LATER, vec![(":generation", generation.clone())]);
        persist(|| self.table.put_if((COMPONENTS, &listed), attributes(), condition())).await.map(drop)
    }

    async fn get(&self, digest: Digest) -> Result<Option<Bytes>, PortError> {
        let mut missing = None;
        loop {
            let head = Head::of(&self.table, digest).await?.filter(|head| head.gone_ms.is_none());
            let Some(head) = head else { return Ok(None) };
            // Where one is missing, the component was collected meanwhile, or is of another generation now.
            if let Some((generation, index)) = missing
                && generation == head.generation
            {
                let chunks = head.chunks;
                return Err(PortError::Stop(format!("component {digest}: piece {index} of {chunks} is missing")));
            }
            match self.read(digest, &head).await? {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(index) => missing = Some((head.generation, index)),
            }
        }
    }

    async fn list(&self) -> Result<Vec<(Digest, u64)>, PortError> {
        let mut components = Vec::new();
        for mut item in persist(|| self.table.query_all(Query::rising(COMPONENTS, "0", LAST))).await? {
            let digest = item.sk.parse().map_err(|error| item.wrong(error))?;
            components.push((digest, item.number("size")?));
            item.number_if_any("generation")?;
            item.end()?;
        }
        Ok(components)
    }

    async fn keep(&self, digest: Digest, job: Incarnation) -> Result<bool, PortError> {
        // What is not there needs no use, whoever asks for it.
        if Head::of(&self.table, digest).await?.is_none_or(|head| head.gone_ms.is_some()) {
            return Ok(false);
        }
        let (pk, sk) = (layout::component(digest), layout::component_use(job));
        let values = || vec![(":until", number(FOR_AS_LONG)), (":one", number(1))];
        let pin = || self.table.update((&pk, &sk), ("SET until_ms = :until ADD pins :one", None), values());
        persist(pin).await?;
        // Only after the use. Who collects reads the head, and then the uses: who read them too early to see this one finds the head
        // touched, and lets it be.
        Head::touch(&self.table, digest, self.clock.now_ms()).await
    }

    async fn uses(&self, digest: Digest) -> Result<Vec<ComponentUse>, PortError> {
        let (pk, last) = (layout::component(digest), format!("{USED}{LAST}"));
        let items = persist(|| self.table.query_all(Query::rising(&pk, USED, &last))).await?;
        items.into_iter().map(use_of).collect()
    }

    async fn release(&self, digest: Digest, known: &ComponentUse, until_ms: u64) -> Result<PutOutcome, PortError> {
        let (pk, sk) = (layout::component(digest), layout::component_use(known.job));
        let condition = if wrong(Mutant::ReleasedThoughKept) {
            "pins >= :pins AND until_ms = :lasting"
        } else {
            "pins = :pins AND until_ms = :lasting"
        };
        let values = || {
            let (lasting, pins) = (number(FOR_AS_LONG), number(known.pins));
            vec![(":until", number(until_ms)), (":lasting", lasting), (":pins", pins)]
        };
        persist(|| self.table.update((&pk, &sk), ("SET until_ms = :until", Some(condition)), values())).await
    }

    async fn collect(&self, digest: Digest, unwanted_ms: u64) -> Result<Collected, PortError> {
        let Some(head) = Head::of(&self.table, digest).await? else { return Ok(Collected::Kept) };
        if head.gone_ms.is_none() {
            let now_ms = self.clock.now_ms();
            let Some(wanted_ms) = head.wanted_ms else {
                // Of before there was collection: whoever runs it has from now on as long as ever to say so.
                Head::touch(&self.table, digest, now_ms).await?;
                return Ok(Collected::Kept);
            };
            if now_ms < wanted_ms.saturating_add(unwanted_ms) {
                return Ok(Collected::Kept);
            }
            let is_used = self.uses(digest).await?.iter().any(|used| used.holds(now_ms));
            if is_used && !wrong(Mutant::CollectedThoughUsed) {
                return Ok(Collected::Kept);
            }
            if head.bury(&self.table, digest, now_ms).await? == PutOutcome::Exists {
                return Ok(Collected::Kept);
            }
        }
        self.delete_pieces(digest, &head).await?;
        // Last, since by this a deletion that was cut short is found.
        let (listed, generation) = (digest.to_string(), (":generation", number(head.generation)));
        persist(|| self.table.delete_if((COMPONENTS, &listed), (NOT_LATER, generation.clone()))).await?;
        Ok(Collected::Gone)
    }
}
