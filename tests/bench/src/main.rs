//! `make bench`: every figure beside its target, as a table on stdout and in `target/bench/figures.json`.

mod parts;
mod whole;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use pelton_bench::{KEYS, key, texts};

/// Records that the part which does nothing is given at a time.
const PART_RECORDS: usize = 10_000;

/// What each figure should be; those without a target are reported.
const TARGETS: [(&str, Option<Target>); 15] = [
    ("route_vs_md5", Some(Target::AtMost(1.5))),
    ("noop_records_per_s", Some(Target::AtLeast(1_000_000.0))),
    ("wordcount_vs_native", Some(Target::AtMost(1.3))),
    ("commits_per_s", None),
    ("state_get_vs_redb", Some(Target::AtMost(2.0))),
    ("state_get_single_vs_redb", None),
    ("restore_mb_per_s", Some(Target::AtLeast(100.0))),
    ("loop_records_per_s", None),
    ("e2e_noop_records_per_s", None),
    ("e2e_noop_vs_loop", Some(Target::AtLeast(0.7))),
    ("e2e_wordcount_records_per_s", Some(Target::AtLeast(60_000.0))),
    ("shadow_slowdown", Some(Target::AtLeast(0.9))),
    ("swap_pause_ms_p99", Some(Target::AtMost(1.0))),
    ("start_to_first_record_ms", Some(Target::AtMost(2_000.0))),
    ("idle_rss_mb", Some(Target::AtMost(300.0))),
];

#[derive(Clone, Copy)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

fn main() -> Result<()> {
    let target = target_folder()?;
    let mut figures = BTreeMap::new();
    parts::figures(&target.join("criterion"), &mut figures)?;
    whole::figures(&mut figures)?;
    println!("{:<30} {:>14} {:>14}", "figure", "measured", "target");
    for (name, target) in TARGETS {
        let measured = figures.get(name).with_context(|| format!("{name} was not measured"))?;
        let (told, holds) = match target {
            None => ("-".to_owned(), true),
            Some(Target::AtMost(most)) => (format!("≤ {most}"), *measured <= most),
            Some(Target::AtLeast(least)) => (format!("≥ {least}"), *measured >= least),
        };
        println!("{name:<30} {measured:>14.2} {told:>14}{}", if holds { "" } else { "  missed" });
    }
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("figures.json");
    std::fs::write(&file, serde_json::to_string_pretty(&figures)? + "\n")?;
    eprintln!("written to {}", file.display());
    Ok(())
}

/// The folder this program was built into.
fn target_folder() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let folder = me.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "target"));
    folder.map(PathBuf::from).context("this program is not in a target folder")
}
