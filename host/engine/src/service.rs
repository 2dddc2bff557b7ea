//! What a task asks of the services, done on the async side and answered into its mailbox. Reads are repeated until they
//! succeed or fail for good; a put is tried once an ask, because what a lost reply means is for the task to settle.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pelton_core::append::PutReply;
use pelton_core::cause::StopCause;
use pelton_core::claim::Tail;
use pelton_core::commit::{Outgoing, StoredCommit};
use pelton_core::id::{CommitNumber, Epoch};
use pelton_core::limits::backoff_ms;
use pelton_core::output::Package;
use pelton_core::restore::LogEntry;
use pelton_core::snapshot::Manifest;
use pelton_core::task::Event;

use crate::cell::{TaskCell, lock};
use crate::fault::{self, FaultPoint};
use crate::log::{self, PARTS_AT_ONCE};
use crate::ports::{PortError, PutOutcome};

/// Repeats a request until it is answered, with growing pauses; none when the service refuses for good, in which case the
/// task was told.
macro_rules! persist {
    ($cell:expr, $request:expr) => {{
        let mut attempt = 0;
        loop {
            match $request.await {
                Ok(answer) => {
                    $cell.trouble(None);
                    break Some(answer);
                }
                Err(error) => {
                    if !$cell.take_error(error, &mut attempt).await {
                        break None;
                    }
                }
            }
        }
    }};
}
pub(crate) use persist;

impl TaskCell {
    /// Takes note of what a service fails with, or that it answers again.
    pub(crate) fn trouble(&self, text: Option<String>) {
        lock(&self.tally).service_failures += u64::from(text.is_some());
        let mut trouble = lock(&self.trouble);
        if *trouble != text {
            if let Some(text) = &text {
                tracing::warn!("task {} of job {}: {text}; trying again", self.id, self.spec().meta.name);
            }
            *trouble = text;
        }
    }

    /// Takes note of a failed request. Returns whether to try again, after having waited.
    pub(crate) async fn take_error(&self, error: PortError, attempt: &mut u32) -> bool {
        match error {
            PortError::Stop(text) => {
                self.tell(Event::Broken(StopCause::Service(text)));
                false
            }
            PortError::Retry(text) => {
                *attempt += 1;
                self.trouble(Some(text));
                tokio::time::sleep(Duration::from_millis(backoff_ms(*attempt))).await;
                true
            }
        }
    }

    pub(crate) async fn claim(self: Arc<Self>) {
        let changelog = self.changelog();
        if let Some(epoch) = persist!(self, changelog.claim(self.id, self.spec().host)) {
            self.tell(Event::Claimed(epoch));
        }
    }

    pub(crate) async fn read_tail(self: Arc<Self>) {
        let changelog = self.changelog();
        if let Some(tail) = persist!(self, changelog.tail(self.id)) {
            let tail = tail.map(|item| Tail { number: item.number, id: item.id, epoch: item.epoch });
            self.tell(Event::TailRead(tail.unwrap_or_default()));
        }
    }

    pub(crate) async fn read_item(self: Arc<Self>, number: CommitNumber) {
        let changelog = self.changelog();
        if let Some(item) = persist!(self, changelog.read(self.id, number)) {
            self.tell(Event::ItemRead(item.map(|item| item.id)));
        }
    }

    pub(crate) async fn read_manifests(self: Arc<Self>) {
        if let Some(manifests) = self.manifests().await {
            self.tell(Event::ManifestsRead(manifests));
        }
    }

    pub(crate) async fn manifests(&self) -> Option<Vec<Manifest>> {
        let changelog = self.changelog();
        persist!(self, changelog.manifests(self.id))
    }

    pub(crate) async fn put(self: Arc<Self>, commit: Arc<Outgoing>, epoch: Epoch, attempt: u32) {
        tokio::time::sleep(Duration::from_millis(backoff_ms(attempt))).await;
        fault::pass(FaultPoint::BeforeAppend);
        let commit = commit.stored();
        let outcome = match self.stage(commit).await {
            Ok(()) => self.changelog().put(self.id, epoch, commit).await,
            Err(error) => Err(error),
        };
        fault::pass(FaultPoint::AfterAppend);
        let event = match outcome {
            Ok(PutOutcome::Applied) => Event::Put(PutReply::Applied),
            Ok(PutOutcome::Exists) => Event::Put(PutReply::Exists),
            Err(PortError::Retry(text)) => {
                self.trouble(Some(text));
                self.tell(Event::Put(PutReply::Unknown));
                return;
            }
            Err(PortError::Stop(text)) => Event::Broken(StopCause::Service(text)),
        };
        self.trouble(None);
        self.tell(event);
    }

    async fn stage(&self, commit: &StoredCommit) -> Result<(), PortError> {
        use futures::stream::{StreamExt, TryStreamExt};
        let changelog = self.changelog();
        let put = |(index, part): (usize, &Bytes)| {
            changelog.put_part(self.id, commit.number, commit.id, index as u32, part.clone())
        };
        futures::stream::iter(commit.parts.iter().enumerate().map(put))
            .buffer_unordered(PARTS_AT_ONCE)
            .try_collect()
            .await
    }

    pub(crate) async fn read_log(self: Arc<Self>, from: CommitNumber) {
        if let Some(entries) = self.log_page(from).await {
            self.tell(Event::LogRead(entries));
        }
    }

    pub(crate) async fn log_page(&self, from: CommitNumber) -> Option<Vec<LogEntry>> {
        let changelog = self.changelog();
        let items = persist!(self, changelog.read_from(self.id, from))?;
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            entries.push(persist!(self, log::entry(changelog, self.id, &item))?);
        }
        Some(entries)
    }

    pub(crate) async fn publish(self: Arc<Self>, packages: Vec<Package>, attempt: u32) {
        tokio::time::sleep(Duration::from_millis(backoff_ms(attempt))).await;
        fault::pass(FaultPoint::BeforePublish);
        let results = self.sink().publish(&packages).await;
        fault::pass(FaultPoint::AfterPublish);
        let failure = results.iter().find_map(|result| result.as_ref().err());
        self.trouble(failure.map(|error| format!("publishing: {error}")));
        self.tell(Event::Published(results.iter().map(Result::is_ok).collect()));
    }

    pub(crate) async fn trim(self: Arc<Self>, floor: CommitNumber) {
        fault::pass(FaultPoint::BeforeTrim);
        let changelog = self.changelog();
        if persist!(self, changelog.trim(self.id, floor)).is_some() {
            self.tell(Event::Trimmed);
        }
    }
}
