//! What a run leaves behind: its facts, in a file.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::model::facts::Facts;

/// Writes `facts` to `path`, as a whole or not at all.
pub(crate) fn save(path: &Path, facts: &Facts) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(facts).context("facts that cannot be written")?;
    text.push('\n');
    write(path, text.as_bytes()).with_context(|| format!("cannot write the facts to {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // A pipe or a device cannot be replaced, and a link is to keep leading where it leads.
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return std::fs::write(path, bytes);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path)).inspect_err(|_| {
        // What is left of it is of no use; that it cannot be removed is the lesser fault.
        let _ = std::fs::remove_file(&temporary);
    })
}
