//! An item of the log, decoded with the parts that were staged for it.

use bytes::Bytes;
use futures::stream::{StreamExt as _, TryStreamExt as _};
use pelton_core::codec::{self, Placement};
use pelton_core::id::TaskId;
use pelton_core::restore::LogEntry;

use crate::ports::{Changelog, LogItem, PortError};

/// Parts staged or read at a time.
pub(crate) const PARTS_AT_ONCE: usize = 8;

/// Decodes an item; what is wrong with it is said in the entry.
///
/// # Errors
/// When its parts cannot be read.
pub(crate) async fn entry(changelog: &dyn Changelog, task: TaskId, item: &LogItem) -> Result<LogEntry, PortError> {
    let mut stored_bytes = item.head.len() as u64;
    let commit = match codec::placement(&item.head) {
        Err(error) => Err(error.to_string()),
        Ok(Placement::Inline) => codec::decode(&item.head, &[]).map_err(|error| error.to_string()),
        Ok(Placement::Staged(count)) => {
            let read = |index| changelog.read_part(task, item.number, item.id, index);
            let parts: Vec<Option<Bytes>> =
                futures::stream::iter((0..count).map(read)).buffered(PARTS_AT_ONCE).try_collect().await?;
            let missing = parts.iter().position(Option::is_none);
            let parts: Vec<Bytes> = parts.into_iter().flatten().collect();
            stored_bytes += parts.iter().map(|part| part.len() as u64).sum::<u64>();
            match missing {
                Some(index) => Err(format!("part {index} of {count} is missing")),
                None => codec::decode(&item.head, &parts).map_err(|error| error.to_string()),
            }
        }
    };
    Ok(LogEntry { number: item.number, id: item.id, epoch: item.epoch, commit, stored_bytes })
}
