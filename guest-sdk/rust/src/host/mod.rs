//! What the host lends a task, behind functions of one shape: the component's imports, or a host in memory for tests.
//! This is all that differs between the two.

#[cfg(target_arch = "wasm32")]
mod imports;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod memory;
mod refusal;

#[cfg(target_arch = "wasm32")]
pub(crate) use imports::{
    Message, Write, cancel_timer, context, emit_many, get, get_many, now_ms, scan, set_timer, write_many,
};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use memory::{
    Message, Write, cancel_timer, context, emit_many, get, get_many, now_ms, scan, set_timer, write_many,
};
pub(crate) use refusal::{EmitRefusal, Refusal, TimerRefusal};

use crate::scan::Entry;

/// One page of a scan.
pub(crate) struct Page {
    /// In the scan's direction.
    pub(crate) entries: Vec<Entry>,
    /// Where to go on; none when the range is exhausted.
    pub(crate) cursor: Option<Vec<u8>>,
}
