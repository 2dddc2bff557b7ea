//! `pelton shadow`: what came of comparing a deployment with what the tasks run.

use clap::Args;
use pelton_api::model::shadow::{DifferenceView, FindingsView};

use crate::client::{HostArgs, HostClient};
use crate::exit::Outcome;
use crate::print::{self, Table};

/// Show what came of comparing a shadow with what the tasks run.
#[derive(Debug, Args)]
pub struct ShadowArgs {
    /// The job.
    pub job: String,
    /// Which host.
    #[command(flatten)]
    pub host: HostArgs,
}

/// Shows it.
///
/// # Errors
/// When there is no shadow, or the host does not answer.
pub async fn run(args: &ShadowArgs, json: bool) -> anyhow::Result<Outcome> {
    let host = HostClient::new(&args.host)?;
    let found: FindingsView = host.get(&["v1", "jobs", &args.job, "shadow"], &[]).await?;
    if json {
        print::json(&found)?;
        return Ok(Outcome::Done);
    }
    let compared = &found.compared;
    print::line(&format!(
        "deployment {}: {} differences in {} records, {} calls, {} windows; for {} % of the tasks' time",
        found.deployment,
        found.differences.total(),
        compared.records,
        compared.calls,
        compared.windows,
        found.share_percent
    ))?;
    let mut table = Table::new(&["", "COMPARED", "DIFFERENT"]);
    for (what, compared, different) in [
        ("outputs", compared.outputs, found.differences.outputs),
        ("keys written", compared.keys, found.differences.keys),
        ("timers", compared.timers, found.differences.timers),
        ("failures", compared.calls, found.differences.failures),
    ] {
        table.row([what.to_owned(), compared.to_string(), different.to_string()]);
    }
    table.print()?;
    costs(&found)?;
    for (count, why) in
        [(found.cut, "more of the state differed than is kept"), (found.late, "a call of the shadow took too long")]
    {
        if count > 0 {
            print::line(&format!("{count} windows ended because {why}"))?;
        }
    }
    if let Some(why) = &found.obstacle {
        print::line(&format!("a window could not begin: {why}"))?;
    }
    examples(&found)?;
    Ok(Outcome::Done)
}

fn costs(found: &FindingsView) -> anyhow::Result<()> {
    let mut table = Table::new(&["", "LIVE", "SHADOW"]);
    let (live, shadow) = (&found.live, &found.shadow);
    for (what, live_ns, shadow_ns) in [
        ("time for a record", live.record_ns, shadow.record_ns),
        ("p50", live.record_ns_p50, shadow.record_ns_p50),
        ("p99", live.record_ns_p99, shadow.record_ns_p99),
    ] {
        let shown = |ns| format!("{:.1}µs", ns as f64 / 1_000.0);
        table.row([what.to_owned(), shown(live_ns), shown(shadow_ns)]);
    }
    table.row(["memory".into(), print::size(live.memory_bytes), print::size(shadow.memory_bytes)]);
    table.print()
}

fn examples(found: &FindingsView) -> anyhow::Result<()> {
    if found.examples.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["DIFFERENCE", "TASK", "GIVEN", "WHAT", "LIVE", "SHADOW"]);
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    for example in &found.examples {
        let kind = match example.kind {
            DifferenceView::Output => "output",
            DifferenceView::Key => "key",
            DifferenceView::Timer => "timer",
            DifferenceView::Failure => "failure",
        };
        let (task, what) = (example.task.to_string(), example.what.clone());
        table.row([kind.into(), task, example.given.clone(), what, shown(&example.live), shown(&example.shadow)]);
    }
    table.print()
}
