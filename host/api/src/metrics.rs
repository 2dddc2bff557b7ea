//! Metrics in the text format of Prometheus (OpenMetrics), made anew for each scrape from what the tasks tell. One
//! series a job, a phase or a shard: a job may have thousands of tasks, which `/v1/jobs/{job}/tasks` shows one by one.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use pelton_engine::Job;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::context::Context;
use crate::model::job::JobView;
use crate::parameters::Parameters;
use crate::problem::{Kind, Refusal};

/// The media type of the text format.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
struct ShardLabels {
    job: String,
    stream: String,
    shard: String,
}

type Seconds<Labels> = Family<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>;

/// Every series of one scrape.
#[derive(Default)]
struct Series {
    folded: Family<JobLabels, Counter>,
    failed: Family<JobLabels, Counter>,
    published: Family<JobLabels, Counter>,
    pending: Family<JobLabels, Gauge>,
    mailbox_records: Family<JobLabels, Gauge>,
    mailbox: Family<JobLabels, Gauge>,
    lag: Seconds<JobLabels>,
    tasks: Family<PhaseLabels, Gauge>,
    shard_records: Family<ShardLabels, Counter>,
    shard_fetches: Family<ShardLabels, Counter>,
    shard_behind: Seconds<ShardLabels>,
    shard_failing: Family<ShardLabels, Gauge>,
}

impl Series {
    fn register(&self, registry: &mut Registry) {
        registry.register("records_folded", "Records folded into the state of tasks", self.folded.clone());
        registry.register("failed_batches", "Guest calls that failed", self.failed.clone());
        registry.register("outputs_published", "Outputs that the output streams acknowledged", self.published.clone());
        registry.register("outputs_pending", "Outputs committed and not yet acknowledged", self.pending.clone());
        registry.register("mailbox_records", "Records waiting in mailboxes", self.mailbox_records.clone());
        let help = "Weight of the records waiting in mailboxes";
        registry.register_with_unit("mailbox", help, Unit::Bytes, self.mailbox.clone());
        let help = "Greatest age of a record not yet committed; absent where it is not known";
        registry.register_with_unit("lag", help, Unit::Seconds, self.lag.clone());
        registry.register("tasks", "Tasks by where they are in their lives", self.tasks.clone());
        registry.register("shard_records_read", "Records read from a shard", self.shard_records.clone());
        registry.register("shard_fetches", "Replies taken from a shard", self.shard_fetches.clone());
        let help = "How far reading is behind the newest record of a shard, as Kinesis tells it";
        registry.register_with_unit("shard_behind", help, Unit::Seconds, self.shard_behind.clone());
        let help = "Whether reading a shard fails now (1) or not (0)";
        registry.register("shard_failing", help, self.shard_failing.clone());
    }

    fn add(&self, job: &Job) {
        let view = JobView::new(job.spec(), &job.tasks());
        let labels = JobLabels { job: view.job.clone() };
        self.folded.get_or_create(&labels).inc_by(view.records_folded);
        self.failed.get_or_create(&labels).inc_by(view.failed_batches);
        self.published.get_or_create(&labels).inc_by(view.outputs_published);
        self.pending.get_or_create(&labels).set(view.outputs_pending.cast_signed());
        self.mailbox_records.get_or_create(&labels).set(view.mailbox_records.cast_signed());
        self.mailbox.get_or_create(&labels).set(view.mailbox_bytes.cast_signed());
        if let Some(lag_ms) = view.lag_ms {
            self.lag.get_or_create(&labels).set(seconds(lag_ms));
        }
        let phases = [
            ("claiming", view.phases.claiming),
            ("restoring", view.phases.restoring),
            ("running", view.phases.running),
            ("draining", view.phases.draining),
            ("stopped", view.phases.stopped),
        ];
        for (phase, count) in phases {
            let labels = PhaseLabels { job: view.job.clone(), phase };
            self.tasks.get_or_create(&labels).set(i64::from(count));
        }
        for shard in job.shards() {
            let labels =
                ShardLabels { job: view.job.clone(), stream: shard.stream.clone(), shard: shard.shard.to_string() };
            self.shard_records.get_or_create(&labels).inc_by(shard.records_read);
            self.shard_fetches.get_or_create(&labels).inc_by(shard.fetches);
            self.shard_failing.get_or_create(&labels).set(i64::from(shard.error.is_some()));
            if let Some(behind_ms) = shard.behind_ms {
                self.shard_behind.get_or_create(&labels).set(seconds(behind_ms));
            }
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// `GET /metrics`
pub async fn scrape(State(context): State<Arc<Context>>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
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
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
}
