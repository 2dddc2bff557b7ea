//! What is wrong with a configuration.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The line it is in, from 1, where that is known.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Everything that is wrong with a file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file.
    pub file: String,
    /// What is wrong.
    pub errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let newline = if index > 0 { "\n" } else { "" };
            match error.line {
                Some(line) => write!(f, "{newline}{}:{line}: {}", self.file, error.message)?,
                None => write!(f, "{newline}{}: {}", self.file, error.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
