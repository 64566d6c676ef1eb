//! The verbs of the command line, one thin `run` each.

pub mod rules;
pub mod serve;
mod sources;
