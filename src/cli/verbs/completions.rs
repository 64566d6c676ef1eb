//! `layerpin completions`: what a shell needs to complete this command line.

use clap::CommandFactory;

use crate::cli::ExitStatus;
use crate::cli::args::{CommandLine, CompletionsArgs};
use crate::cli::output;

/// Writes the script to standard output.
pub fn run(options: &CompletionsArgs) -> anyhow::Result<ExitStatus> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut CommandLine::command(), "layerpin", &mut script);
    output::data(&String::from_utf8_lossy(&script))?;
    Ok(ExitStatus::Clean)
}
