//! The corpus: a folder a target, a file an input, whose name says what it is. Those of [`crate::seeds`] can be made anew; the
//! others once broke something.

use std::fs;
use std::path::{Path, PathBuf};

/// An input.
#[derive(Clone, Debug)]
pub struct Input {
    /// The name of its file.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Where the inputs of a target are.
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The inputs of a target, by name.
///
/// # Errors
/// When they cannot be read.
pub fn inputs(target: &str) -> std::io::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for file in fs::read_dir(folder(target))? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        inputs.push(Input { name, bytes: fs::read(file.path())? });
    }
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(inputs)
}
