//! Standard output and standard error.
//!
//! Data goes to standard output, everything else to standard error. Owns when there is colour, and that
//! a closed pipe (`| head`) is not a failure.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;

use crate::cli::inputs::ReadError;
use crate::report::Style;

/// Writes data to standard output. A reader that closed the pipe is not an error.
pub(crate) fn data(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// Writes lines to standard error. There is nowhere to report a failure.
pub(crate) fn remark(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The lines about an input that could not be judged: what is wrong, and one thing to do.
pub(crate) fn unread(severity: &str, fault: &ReadError, style: Style) -> String {
    let help = fault.help.as_deref().map(|help| style.line("help", help));
    format!("{severity}: {fault}\n{}", help.unwrap_or_default())
}

/// How text on `stream` looks: colour on a terminal, unless `NO_COLOR` is set (<https://no-color.org>)
/// or the terminal is dumb.
pub(crate) fn style(stream: &impl IsTerminal) -> Style {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    if stream.is_terminal() && !is_set("NO_COLOR") && !is_dumb { Style::Colour } else { Style::Plain }
}
