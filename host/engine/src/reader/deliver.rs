//! What a reply brings, put into the mailboxes of its tasks: sorted once, its bytes shared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pelton_core::feed::Delivery;
use pelton_core::id::TaskId;
use pelton_core::record::{Record, Run};
use pelton_core::route::{RouteRules, Routed, route};

use super::{FeedCommand, ShardReader};

/// A task whose mailbox stays full this long is left out.
const DETACH: Duration = Duration::from_secs(1);

impl ShardReader {
    pub(super) async fn deliver(&mut self, delivery: Delivery, records: Vec<Record>) {
        let spec = &self.job.spec;
        let rules = RouteRules {
            tasks: spec.meta.tasks,
            policies: spec.meta.policies,
            from_job: spec.settings.from_job[usize::from(self.key.stream.0)].is_some(),
        };
        let Routed { fetch, spans } = route(self.shard.range, &rules, records);
        let spans: BTreeMap<TaskId, _> = spans.into_iter().collect();
        let fetch = Arc::new(fetch);
        let mut full = Vec::new();
        for (task, after) in &delivery.members {
            let asides = if *task == self.home { 0..fetch.asides.len() } else { 0..0 };
            let span = spans.get(task).cloned().unwrap_or(0..0);
            let has_records = !span.is_empty() || !asides.is_empty();
            if !has_records && !delivery.mark {
                continue;
            }
            let run = Run {
                after: *after,
                up_to: delivery.up_to,
                unread_from_ms: delivery.unread_from_ms,
                shard: self.key.clone(),
                span,
                asides,
                fetch: has_records.then(|| fetch.clone()),
                gap: None,
            };
            if self.job.cell(*task).offer(&run) {
                self.feed.delivered(*task, run.up_to, run.unread_from_ms);
            } else {
                full.push((*task, run));
            }
        }
        self.wait_for_room(full).await;
    }

    /// Gives runs to tasks whose mailboxes were full, as they get room; those that get none in time are left out.
    async fn wait_for_room(&mut self, full: Vec<(TaskId, Run)>) {
        let deadline = tokio::time::Instant::now() + DETACH;
        for (task, run) in full {
            let cell = self.job.cell(task).clone();
            let room = tokio::time::timeout_at(deadline, cell.mailbox.room()).await;
            if room.is_ok() && cell.offer(&run) {
                self.feed.delivered(task, run.up_to, run.unread_from_ms);
                continue;
            }
            tracing::debug!("task {task}: its mailbox stays full; it catches up with {} apart", self.key);
            self.feed.full(task);
            let commands = self.sender.clone();
            self.job.runtime.spawn(async move {
                cell.mailbox.room().await;
                // A feed that ended with its job needs no answer.
                let _ = commands.send(FeedCommand::Room(task));
            });
        }
    }
}
