//! `--save-facts`: everything that a run asked and was answered, in a file.

use std::io;
use std::path::Path;

use anyhow::Context;

use crate::atomic_file;
use crate::cli::args::RecordArgs;
use crate::cli::{ExitStatus, output, reasons};
use crate::model::facts::Facts;

/// Writes `facts` to the file that the options name, if any; says on standard error why it could not.
pub(crate) fn save(options: &RecordArgs, facts: &Facts) -> ExitStatus {
    let Some(path) = &options.save_facts else { return ExitStatus::Clean };
    let Err(error) = replace(path, facts) else { return ExitStatus::Clean };
    let style = output::style(&io::stderr());
    output::remark(&format!("{}: {}\n", style.error("error"), reasons(&error)));
    ExitStatus::Incomplete
}

/// Writes the whole file or nothing.
fn replace(path: &Path, facts: &Facts) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(facts).context("facts that cannot be written")?;
    text.push('\n');
    atomic_file::write(path, text.as_bytes())
        .with_context(|| format!("cannot write the facts to {}", path.display()))
}
