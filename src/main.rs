//! Parses the command line, runs the verb, and turns its outcome into an exit code.

use std::process::ExitCode;

use clap::Parser;
use layerpin::cli;
use layerpin::cli::args::{Command, CommandLine};
use layerpin::log;

fn main() -> ExitCode {
    layerpin::install_crypto_provider();
    let command_line = CommandLine::parse();
    let _log = log::start(match command_line.command {
        Command::Serve(_) => log::Verbosity::Work,
        _ => log::Verbosity::Failures,
    });
    let outcome = match &command_line.command {
        Command::Serve(options) => cli::verbs::serve::run(options),
        Command::Check(options) => cli::verbs::check::run(options),
        Command::Pin(options) => cli::verbs::pin::run(options),
        Command::Base(options) => cli::verbs::base::run(options),
        Command::Explain(options) => cli::verbs::explain::run(options),
        Command::Completions(options) => cli::verbs::completions::run(options),
        Command::Rules(options) => cli::verbs::rules::run(options),
    };
    match outcome {
        Ok(ending) => ending.into(),
        Err(error) => {
            eprintln!("error: {}", cli::reasons(&error));
            cli::ExitStatus::Incomplete.into()
        }
    }
}
