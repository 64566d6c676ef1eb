//! `layerpin completions`: what a shell needs to complete this command line.

use clap::CommandFactory;

use crate::cli::Ending;
use crate::cli::args::{CommandLine, Completions};
use crate::cli::output;

/// Writes the script to standard output.
pub fn run(options: &Completions) -> anyhow::Result<Ending> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut CommandLine::command(), "layerpin", &mut script);
    output::data(&String::from_utf8_lossy(&script))?;
    Ok(Ending::Clean)
}
