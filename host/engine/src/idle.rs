//! Positions that tasks pass with nothing to commit: kept now and then, and found again at the next start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pelton_core::id::TaskId;

use crate::cell::IdlePassed;
use crate::job::JobShared;
use crate::ports::{Changelog, IdlePositions, PortError};

/// How often the positions of idle tasks are kept.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// What hosts before this one kept.
pub(crate) type IdleByTask = BTreeMap<TaskId, Vec<IdlePassed>>;

/// What is kept of every task.
///
/// # Errors
/// When the table cannot be read.
pub(crate) async fn kept(changelog: &dyn Changelog) -> Result<IdleByTask, PortError> {
    let mut by_task = IdleByTask::new();
    for idle in changelog.idle().await? {
        by_task.entry(idle.task).or_default().push((idle.step_id, idle.entries));
    }
    Ok(by_task)
}

/// Keeps the positions of idle tasks until the job closes.
pub(crate) async fn keep(shared: Arc<JobShared>) {
    let mut others_forgotten = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(IDLE_INTERVAL) => put(&shared).await,
            () = shared.closed() => return,
        }
        // Every task has taken over what hosts before this one kept; what they left would only pile up.
        if !others_forgotten && shared.tasks_ready.load(Ordering::Relaxed) == shared.spec.meta.tasks.get() {
            let forgotten = shared.ports.changelog.forget_idle_of_others(shared.spec.host).await;
            others_forgotten = forgotten.is_ok();
        }
    }
}

/// Keeps the positions of the tasks that are idle now.
pub(crate) async fn put(shared: &JobShared) {
    let positions = shared.cells().into_iter().filter_map(|cell| {
        let (step_id, entries) = cell.idle_positions()?;
        Some(IdlePositions { task: cell.id, step_id, entries })
    });
    let positions: Vec<IdlePositions> = positions.collect();
    if let Err(error) = shared.ports.changelog.put_idle(shared.spec.host, &positions).await {
        tracing::warn!("job {}: keeping the positions of idle tasks: {error}", shared.spec.meta.name);
    }
}
