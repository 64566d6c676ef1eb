//! Parses the command line, runs the verb, and turns its outcome into an exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use axum::Router;
use clap::Parser;
use layerpin::cli::{Command, CommandLine};
use layerpin::commands;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    layerpin::install_crypto_provider();
    let command_line = CommandLine::parse();
    log(&command_line.command);
    let outcome = match &command_line.command {
        Command::Serve(options) => commands::serve::run(options, Router::new()),
        Command::Pin(options) => commands::pin::run(options),
        Command::Rules(options) => commands::rules::run(options),
    };
    match outcome {
        Ok(ending) => ending.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(commands::COULD_NOT)
        }
    }
}

/// Logs to standard error: text on a terminal, a JSON object a line otherwise. `RUST_LOG` filters.
///
/// A server logs its work. The other verbs say on standard error what a person must know, so their
/// log holds failures of this program alone.
fn log(command: &Command) {
    let level = if matches!(command, Command::Serve(_)) { "info" } else { "error" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
