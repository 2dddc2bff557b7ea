//! Why an instance did not come to be, or a call of it failed.

use wasmtime::{PoolConcurrencyLimitError, Store, Trap};

use super::{FailureKind, HostState};
use crate::guest::component::ComponentError;
use crate::guest::limits::{Limit, MESSAGE_BYTES_MAX, Refused};

/// Why a call failed. The instance is gone with it.
#[derive(Debug, thiserror::Error)]
pub enum GuestFault {
    /// It says so itself.
    #[error("the logic failed{}: {message}{}", at(*.index), also(*.refused))]
    Failed {
        /// What it asks for.
        kind: FailureKind,
        /// The record it names.
        index: Option<u32>,
        /// Its words.
        message: String,
        /// What it was refused before.
        refused: Option<Refused>,
    },
    /// It needs what its deployment is not granted.
    #[error(transparent)]
    NotGranted(#[from] ComponentError),
    /// Its `init` says that it cannot begin.
    #[error("its init failed: {0}")]
    Init(String),
    /// It needs more than it may have in order to begin.
    #[error("it cannot be started: {refused} ({detail})")]
    TooLarge {
        /// What it needs.
        refused: Refused,
        /// What became of it.
        detail: String,
    },
    /// This host has as many instances as it can have.
    #[error("it cannot be started: this host has no room for another instance ({0})")]
    NoRoom(String),
    /// It ran for too long.
    #[error("the call was cut off after {limit_ms} ms, the `batch-timeout` in [jobs.NAME.limits]")]
    Deadline {
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// It trapped.
    #[error("it trapped: {trap}{}", also(*.refused))]
    Trap {
        /// How.
        trap: String,
        /// What it was refused before.
        refused: Option<Refused>,
    },
}

fn also(refused: Option<Refused>) -> String {
    refused.map(|refused| format!("; before that {refused}")).unwrap_or_default()
}

fn at(index: Option<u32>) -> String {
    index.map(|index| format!(" at record {index} of the batch")).unwrap_or_default()
}

pub(super) fn fault(store: &Store<HostState>, error: &wasmtime::Error) -> GuestFault {
    let state = store.data();
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return GuestFault::Deadline { limit_ms: state.identity.limits.batch_timeout_ms };
    }
    GuestFault::Trap { trap: cut(format!("{error:#}")), refused: state.growth.refused }
}

/// Why an instance did not come to be. One that needs more than it may have will not come to be later either.
pub(super) fn unstarted(store: &Store<HostState>, error: &wasmtime::Error) -> GuestFault {
    let state = store.data();
    let detail = cut(format!("{error:#}"));
    if error.is::<PoolConcurrencyLimitError>() {
        return GuestFault::NoRoom(detail);
    }
    // The engine counts the parts by itself, and tells in no other way.
    let parts = detail.contains("resource limit exceeded");
    let parts =
        parts.then(|| Refused { limit: Limit::CoreParts, allowed: state.identity.limits.core_parts_max.into() });
    match parts.or(state.growth.refused) {
        Some(refused) => GuestFault::TooLarge { refused, detail },
        None => fault(store, error),
    }
}

/// Cuts a text from outside to what is kept of one.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
    }
    text
}
