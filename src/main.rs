//! Parses the command line, runs the verb, and turns its outcome into an exit code.

use std::process::ExitCode;

use axum::Router;
use clap::Parser;
use layerpin::cli::{Command, CommandLine};
use layerpin::{commands, log};

fn main() -> ExitCode {
    layerpin::install_crypto_provider();
    let command_line = CommandLine::parse();
    let _log = log::start(match command_line.command {
        Command::Serve(_) => log::Amount::Work,
        _ => log::Amount::Failures,
    });
    let outcome = match &command_line.command {
        Command::Serve(options) => commands::serve::run(options, Router::new()),
        Command::Check(options) => commands::check::run(options),
        Command::Pin(options) => commands::pin::run(options),
        Command::Base(options) => commands::base::run(options),
        Command::Explain(options) => commands::explain::run(options),
        Command::Completions(options) => commands::completions::run(options),
        Command::Rules(options) => commands::rules::run(options),
    };
    match outcome {
        Ok(ending) => ending.into(),
        Err(error) => {
            eprintln!("error: {}", commands::reasons(&error));
            ExitCode::from(commands::COULD_NOT)
        }
    }
}
