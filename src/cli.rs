//! The command line: its options, what it reads and prints, and its [`verbs`].

pub mod args;
pub(crate) mod connect;
pub mod inputs;
pub(crate) mod load;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod save_facts;
pub(crate) mod session;
pub mod verbs;

use std::process::ExitCode;

use crate::errors;

/// How a verb ended that could begin; what keeps it from beginning is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitStatus {
    /// Nothing was found that costs more than a warning.
    Clean = 0,
    /// Something is denied, or would be changed.
    Denied = 1,
    /// Part of it could not be done; the rest was. clap uses the same code for a wrong command line.
    Incomplete = 2,
}

impl From<ExitStatus> for ExitCode {
    fn from(ending: ExitStatus) -> Self {
        Self::from(ending as u8)
    }
}

/// An error and what caused it, on one line.
pub fn reasons(error: &anyhow::Error) -> String {
    error.chain().map(errors::words).collect::<Vec<_>>().join(": ")
}
