//! `layerpin completions`: what a shell needs to complete this command line.

use clap::CommandFactory;

use super::{Ending, output};
use crate::cli::{CommandLine, Completions};

/// Writes the script to standard output.
pub fn run(options: &Completions) -> anyhow::Result<Ending> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut CommandLine::command(), "layerpin", &mut script);
    output::data(&String::from_utf8_lossy(&script))?;
    Ok(Ending::Clean)
}
