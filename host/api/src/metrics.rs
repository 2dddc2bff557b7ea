//! Metrics, made anew for each scrape from what the tasks tell. One series a job, a phase, a reason or a shard: a job may have
//! thousands of tasks, which `/v1/jobs/{job}/tasks` shows one by one. Counters begin at 0 with the process and never fall.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use pelton_core::dead_letter::LetterCause;
use pelton_core::policy::Oddity;
use pelton_engine::{Job, ShardStatus, TaskStatus};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::context::Context;
use crate::document::HostProblems;
use crate::exposition::Format;
use crate::model::job::{JobView, PhaseCounts};
use crate::parameters::Parameters;
use crate::problem::{Kind, Refusal};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    job: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    job: String,
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    job: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabels {
    job: String,
    stream: String,
    shard: String,
}

type Seconds<Labels> = Family<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>;

/// Why something can be set aside.
const LETTER_CAUSES: [LetterCause; 5] = [
    LetterCause::Odd(Oddity::OutOfRange),
    LetterCause::Odd(Oddity::Stray),
    LetterCause::Poison,
    LetterCause::Failed,
    LetterCause::Gap,
];

/// Every series of one scrape.
#[derive(Default)]
struct Series {
    tasks: Family<PhaseLabels, Gauge>,
    lag: Seconds<JobLabels>,
    mailbox_records: Family<JobLabels, Gauge>,
    mailbox: Family<JobLabels, Gauge>,
    folded: Family<JobLabels, Counter>,
    malformed: Family<JobLabels, Counter>,
    dropped: Family<ReasonLabels, Counter>,
    dead_lettered: Family<ReasonLabels, Counter>,
    redriven: Family<JobLabels, Counter>,
    letters: Family<JobLabels, Gauge>,
    letters_size: Family<JobLabels, Gauge>,
    timers: Family<JobLabels, Gauge>,
    timers_fired: Family<JobLabels, Counter>,
    failed: Family<JobLabels, Counter>,
    commits: Family<JobLabels, Counter>,
    snapshots: Family<JobLabels, Counter>,
    published: Family<JobLabels, Counter>,
    pending: Family<JobLabels, Gauge>,
    service_failures: Family<JobLabels, Counter>,
    in_trouble: Family<JobLabels, Gauge>,
    shard_records: Family<ShardLabels, Counter>,
    shard_fetches: Family<ShardLabels, Counter>,
    shard_failures: Family<ShardLabels, Counter>,
    shard_behind: Seconds<ShardLabels>,
    shard_failing: Family<ShardLabels, Gauge>,
}

impl Series {
    fn register(&self, registry: &mut Registry) {
        registry.register("tasks", "Tasks by where they are in their lives", self.tasks.clone());
        let help = "Greatest age of a record not yet committed; absent where it is not known";
        registry.register_with_unit("lag", help, Unit::Seconds, self.lag.clone());
        registry.register("mailbox_records", "Records waiting in mailboxes", self.mailbox_records.clone());
        let help = "Weight of the records waiting in mailboxes";
        registry.register_with_unit("mailbox", help, Unit::Bytes, self.mailbox.clone());
        registry.register("records_folded", "Records folded into the state of tasks", self.folded.clone());
        let help = "Records folded as they are that begin as an aggregate and are none";
        registry.register("malformed_aggregates", help, self.malformed.clone());
        registry.register("records_dropped", "Records dropped because policy says so", self.dropped.clone());
        let help = "Dead letters committed: records, gaps and timers set aside";
        registry.register("dead_letters_written", help, self.dead_lettered.clone());
        registry.register("dead_letters_redriven", "Dead letters folded after all", self.redriven.clone());
        registry.register("dead_letters", "Dead letters that stand", self.letters.clone());
        let help = "Size of the dead letters that stand, as they are stored";
        registry.register_with_unit("dead_letters_size", help, Unit::Bytes, self.letters_size.clone());
        registry.register("timers", "Timers that are set", self.timers.clone());
        registry.register("timers_fired", "Timers fired", self.timers_fired.clone());
        registry.register("failed_batches", "Guest calls that failed", self.failed.clone());
        registry.register("commits", "Commits appended to the changelog and applied", self.commits.clone());
        registry.register("snapshots", "Snapshots stored", self.snapshots.clone());
        registry.register("outputs_published", "Outputs that the output streams acknowledged", self.published.clone());
        registry.register("outputs_pending", "Outputs committed and not yet acknowledged", self.pending.clone());
        let help = "Requests to the changelog and the output streams that failed and are tried again";
        registry.register("service_failures", help, self.service_failures.clone());
        registry.register("tasks_in_trouble", "Tasks that a service fails now", self.in_trouble.clone());
        registry.register("shard_records_read", "Records read from a shard", self.shard_records.clone());
        registry.register("shard_fetches", "Replies taken from a shard", self.shard_fetches.clone());
        let help = "Requests for an iterator or records of a shard that failed";
        registry.register("shard_failures", help, self.shard_failures.clone());
        let help = "How far reading is behind the newest record of a shard, as Kinesis tells it";
        registry.register_with_unit("shard_behind", help, Unit::Seconds, self.shard_behind.clone());
        let help = "Whether reading a shard fails now (1) or not (0)";
        registry.register("shard_failing", help, self.shard_failing.clone());
    }

    fn add(&self, job: &Job) {
        let tasks = job.tasks();
        let view = JobView::new(job.spec(), job.rollout(), &tasks);
        let labels = JobLabels { job: view.job.clone() };
        if let Some(lag_ms) = view.lag_ms {
            self.lag.get_or_create(&labels).set(seconds(lag_ms));
        }
        self.mailbox_records.get_or_create(&labels).set(view.mailbox_records.cast_signed());
        self.mailbox.get_or_create(&labels).set(view.mailbox_bytes.cast_signed());
        self.folded.get_or_create(&labels).inc_by(view.records_folded);
        self.failed.get_or_create(&labels).inc_by(view.failed_batches);
        self.published.get_or_create(&labels).inc_by(view.outputs_published);
        self.pending.get_or_create(&labels).set(view.outputs_pending.cast_signed());
        let PhaseCounts { claiming, restoring, running, rewinding, draining, stopped } = view.phases;
        let phases = [
            ("claiming", claiming),
            ("restoring", restoring),
            ("running", running),
            ("rewinding", rewinding),
            ("draining", draining),
            ("stopped", stopped),
        ];
        for (phase, count) in phases {
            let labels = PhaseLabels { job: view.job.clone(), phase };
            self.tasks.get_or_create(&labels).set(i64::from(count));
        }
        // A series that comes only with its first record cannot be watched for it.
        for oddity in Oddity::ALL {
            let labels = ReasonLabels { job: view.job.clone(), reason: oddity.name() };
            drop(self.dropped.get_or_create(&labels));
        }
        for cause in LETTER_CAUSES {
            let labels = ReasonLabels { job: view.job.clone(), reason: cause.name() };
            drop(self.dead_lettered.get_or_create(&labels));
        }
        tasks.iter().for_each(|task| self.add_task(&labels, task));
        job.shards().into_iter().for_each(|shard| self.add_shard(&view.job, shard));
    }

    /// Adds to the sums of a job what its view has not.
    fn add_task(&self, labels: &JobLabels, task: &TaskStatus) {
        let (tally, counts) = (&task.tally, task.tally.counts(&task.counts));
        let reason = |reason| ReasonLabels { job: labels.job.clone(), reason };
        self.malformed.get_or_create(labels).inc_by(counts.malformed);
        for (oddity, dropped) in &counts.dropped {
            self.dropped.get_or_create(&reason(oddity.name())).inc_by(*dropped);
        }
        for (cause, written) in &tally.dead_letters {
            self.dead_lettered.get_or_create(&reason(cause)).inc_by(*written);
        }
        self.redriven.get_or_create(labels).inc_by(counts.redriven);
        self.letters.get_or_create(labels).inc_by(task.dead_letters.cast_signed());
        self.letters_size.get_or_create(labels).inc_by(task.dead_letter_bytes.cast_signed());
        self.timers.get_or_create(labels).inc_by(task.timers.cast_signed());
        self.timers_fired.get_or_create(labels).inc_by(counts.timers_fired);
        self.commits.get_or_create(labels).inc_by(tally.commits);
        self.snapshots.get_or_create(labels).inc_by(tally.snapshots);
        self.service_failures.get_or_create(labels).inc_by(tally.service_failures);
        self.in_trouble.get_or_create(labels).inc_by(i64::from(tally.in_trouble));
    }

    fn add_shard(&self, job: &str, shard: ShardStatus) {
        let labels = ShardLabels { job: job.into(), stream: shard.stream, shard: shard.shard.to_string() };
        self.shard_records.get_or_create(&labels).inc_by(shard.records_read);
        self.shard_fetches.get_or_create(&labels).inc_by(shard.fetches);
        self.shard_failures.get_or_create(&labels).inc_by(shard.failures);
        self.shard_failing.get_or_create(&labels).set(i64::from(shard.error.is_some()));
        if let Some(behind_ms) = shard.behind_ms {
            self.shard_behind.get_or_create(&labels).set(seconds(behind_ms));
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// Metrics for Prometheus, as OpenMetrics where that is accepted.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "getMetrics",
    tag = "host",
    responses(
        (
            status = 200,
            description = "Metrics",
            content((String = "text/plain"), (String = "application/openmetrics-text"))
        ),
        HostProblems
    )
)]
pub async fn scrape(
    State(context): State<Arc<Context>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    Parameters::read(query.as_deref(), &[])?;
    let mut registry = Registry::with_prefix("pelton");
    let series = Series::default();
    series.register(&mut registry);
    registry.register(
        "host",
        "This host",
        Info::new(vec![("name", context.host.name.clone()), ("version", context.host.version.to_owned())]),
    );
    context.jobs().iter().for_each(|job| series.add(job));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Refusal::new(Kind::Internal, format!("writing metrics: {error}")))?;
    let format = Format::accepted(&headers);
    Ok(([(header::CONTENT_TYPE, format.media_type())], format.of(text)).into_response())
}
