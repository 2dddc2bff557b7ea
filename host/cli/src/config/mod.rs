//! The configuration: `pelton.toml`, read strictly and resolved. Past [`load`] every default is filled in, every value
//! is in range, and every path is whole; what is wrong is told all at once, each with its file and line.

mod document;
mod errors;
mod value;

mod aws;
mod grants;
mod host;
mod job;
mod keys;
mod limits;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use document::Document;
use keys::TableKind;

pub use aws::AwsConfig;
pub use errors::ConfigErrors;
pub use host::{HostConfig, LISTEN};
pub use job::JobConfig;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "pelton.toml";

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it was read.
    pub file: PathBuf,
    /// This process.
    pub host: HostConfig,
    /// The services.
    pub aws: AwsConfig,
    /// The jobs, by name.
    pub jobs: BTreeMap<String, JobConfig>,
}

/// Reads a file. Paths in it are relative to its folder.
///
/// # Errors
/// When it cannot be read, or [`ConfigErrors`] when something in it is wrong.
pub fn load(file: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(resolve(file, &text)?)
}

/// The named file, or `pelton.toml` where there is one.
///
/// # Errors
/// As [`load`].
pub fn load_if_any(named: Option<&Path>) -> anyhow::Result<Option<Config>> {
    match named {
        Some(file) => load(file).map(Some),
        None if Path::new(DEFAULT_FILE).exists() => load(Path::new(DEFAULT_FILE)).map(Some),
        None => Ok(None),
    }
}

/// Resolves the text of a file.
///
/// # Errors
/// With everything that is wrong in it.
pub fn resolve(file: &Path, text: &str) -> Result<Config, ConfigErrors> {
    let document = Document::new(file, text);
    let parsed = match toml::de::DeTable::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Of keys that are nested too deeply, the parser does not say where they are.
            let message = match error.span() {
                Some(_) => error.message().to_owned(),
                None => format!("the file cannot be read as TOML: {}", error.message()),
            };
            document.fault(error.span(), message);
            return Err(document.into_errors());
        }
    };
    let root = document.root(&parsed);
    let host = host::resolve(root.child("host", TableKind::Host).as_ref(), &document);
    let aws = aws::resolve(root.child("aws", TableKind::Aws).as_ref());
    let mut jobs = BTreeMap::new();
    for (name, table) in root.child("jobs", TableKind::Named).iter().flat_map(|jobs| jobs.children(TableKind::Job)) {
        if let Some(job) = job::resolve(name, &table, &document) {
            jobs.insert(name.to_owned(), job);
        }
    }
    let errors = document.into_errors();
    if errors.is_empty() { Ok(Config { file: file.into(), host, aws, jobs }) } else { Err(errors) }
}
