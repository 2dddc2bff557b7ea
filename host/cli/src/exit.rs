//! How a command ends, and what its process says by it.

use pelton_engine::guest::ChildFault;

use crate::config::ConfigErrors;

/// Exit code of what failed.
pub const FAILED: u8 = 1;
/// Exit code of a wrong command line or configuration.
const USAGE: u8 = 2;

/// How a command ended that could be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Done,
    /// What was asked is answered, and the answer is bad news, which was told.
    Failed,
}

/// A command line that cannot be carried out.
#[derive(Debug)]
pub struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error of the command line.
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(text.into()))
}

/// The exit code of an error.
pub fn code(error: &anyhow::Error) -> u8 {
    if let Some(fault) = error.downcast_ref::<ChildFault>() {
        return fault.exit_code();
    }
    if error.is::<Usage>() || error.is::<ConfigErrors>() { USAGE } else { FAILED }
}

/// What is said of an error. Those of a configuration bring their own places, and a host tells those of its children itself.
pub fn message(error: &anyhow::Error) -> String {
    if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
        return errors.to_string();
    }
    if let Some(fault) = error.downcast_ref::<ChildFault>() {
        return fault.to_string();
    }
    format!("error: {error:#}")
}
