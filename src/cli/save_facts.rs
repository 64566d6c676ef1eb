//! Saves the facts of a run to a file.

use std::path::Path;

use anyhow::Context;

use crate::atomic_file;
use crate::model::facts::Facts;

/// Writes `facts` to `path`, as a whole or not at all.
pub(crate) fn save(path: &Path, facts: &Facts) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(facts).context("facts that cannot be written")?;
    text.push('\n');
    atomic_file::write(path, text.as_bytes())
        .with_context(|| format!("cannot write the facts to {}", path.display()))
}
