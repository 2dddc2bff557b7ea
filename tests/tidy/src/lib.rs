//! How the tree must look. Each rule reads the files git knows of and names every breach as `file:line: what, and why`.

pub mod arrows;
pub mod links;
pub mod rust;
pub mod words;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// A file of the tree.
#[derive(Clone, Debug)]
pub struct File {
    /// Relative to the root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl File {
    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is Rust that runs outside tests: the rules on length are for it.
    pub fn is_product(&self) -> bool {
        self.is_rust() && !self.path.starts_with("tests/")
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every text file that is tracked or would be.
///
/// # Errors
/// When git does not list them.
pub fn files() -> anyhow::Result<Vec<File>> {
    let root = root();
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let listed = Command::new("git").arg("-C").arg(&root).args(arguments).output().context("git ls-files")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).context("git ls-files gives paths that are not UTF-8")?;
    let mut files = Vec::new();
    for path in paths.split('\0').filter(|path| !path.is_empty()) {
        // What cannot be read as text is deleted, a submodule, or no text.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            files.push(File { path: path.into(), text });
        }
    }
    ensure!(files.iter().any(|file| file.path == "Cargo.toml"), "the tree has no Cargo.toml at its root");
    Ok(files)
}
