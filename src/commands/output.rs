//! Standard output and standard error as the verbs use them.
//!
//! Data goes to standard output, everything else to standard error. Owns when there may be colour,
//! and that a reader who has seen enough (`| head`) is no failure.

use std::io::{self, Write};

use anyhow::Context;

/// Writes data to standard output. A reader that went away is no error: it has what it wanted.
pub(super) fn data(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
