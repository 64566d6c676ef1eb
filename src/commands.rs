//! The verbs of the command line, one thin `run` each.

pub mod base;
pub mod explain;
mod output;
pub mod pin;
pub mod rules;
pub mod serve;
mod sources;

use std::process::ExitCode;

/// How a verb ended that could begin; what keeps it from beginning is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Nothing was found that costs more than a warning.
    Clean,
    /// Something is denied, or would be changed.
    Denied,
    /// Part of it could not be done; the rest was.
    Incomplete,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Clean => Self::SUCCESS,
            Ending::Denied => Self::from(DENIED),
            Ending::Incomplete => Self::from(COULD_NOT),
        }
    }
}

/// The exit code for what is denied.
const DENIED: u8 = 1;
/// The exit code for what could not be done; clap uses the same for a wrong command line.
pub const COULD_NOT: u8 = 2;
