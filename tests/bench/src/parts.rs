//! What criterion measured of the parts, read from the estimates that it leaves behind.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Nanoseconds that one iteration of a part took, the mean of all.
fn mean_ns(criterion: &Path, part: &str) -> Result<f64> {
    let file = criterion.join(part).join("new/estimates.json");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("reading {}; run `cargo bench --workspace --bench parts` first", file.display()))?;
    let estimates: serde_json::Value = serde_json::from_str(&text)?;
    estimates["mean"]["point_estimate"].as_f64().with_context(|| format!("{} has no mean", file.display()))
}

/// The figures of the parts, by name.
///
/// # Errors
/// When they were not measured.
pub fn figures(criterion: &Path, figures: &mut BTreeMap<&'static str, f64>) -> Result<()> {
    let mean = |part: &str| mean_ns(criterion, part);
    figures.insert("route_vs_md5", mean("routing/route")? / mean("routing/md5")?);
    figures.insert("noop_records_per_s", crate::PART_RECORDS as f64 / (mean("noop/guest")? / 1e9));
    figures.insert("wordcount_vs_native", mean("word-count/guest")? / mean("word-count/native")?);
    figures.insert("state_get_vs_redb", mean("state-get/many")? / mean("state-get/redb")?);
    figures.insert("state_get_single_vs_redb", mean("state-get/single")? / mean("state-get/redb")?);
    Ok(())
}
