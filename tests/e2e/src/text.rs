//! Real text that every machine with this project built has: the licences, readmes and change logs of the crates it is
//! built from.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Lines of real text with at least so many words in all, in a fixed order.
///
/// # Errors
/// When the crates' sources are not where cargo keeps them.
pub fn lines(words_min: usize) -> Result<Vec<String>> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo"),
    };
    let mut files = Vec::new();
    for index in std::fs::read_dir(home.join("registry/src")).context("cargo keeps no crate sources here")? {
        for package in std::fs::read_dir(index?.path())? {
            for name in ["README.md", "LICENSE-APACHE", "LICENSE-MIT", "LICENSE", "CHANGELOG.md"] {
                files.push(package.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?.path().join(name));
            }
        }
    }
    files.sort();
    let (mut lines, mut words) = (Vec::new(), 0);
    for text in files.iter().filter_map(|file| std::fs::read_to_string(file).ok()) {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && line.len() < 1_000) {
            words += line.split_whitespace().count();
            lines.push(line.to_owned());
        }
        if words >= words_min {
            return Ok(lines);
        }
    }
    anyhow::bail!("the crates' texts have only {words} words, {words_min} are needed")
}
