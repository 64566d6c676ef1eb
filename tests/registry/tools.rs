//! Tools that others made, and genuine images for them.

use std::path::{Path, PathBuf};

/// Returns from the test where a tool is missing, and fails it where all tools must be there.
macro_rules! needs {
    ($($tool:literal),+) => {
        if let Some(missing) = $crate::tools::missing(&[$($tool),+]) {
            $crate::tools::skip(&format!("{missing} is not on PATH"));
            return;
        }
    };
}
pub(crate) use needs;

pub(crate) fn missing<'a>(tools: &[&'a str]) -> Option<&'a str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &str| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    tools.iter().copied().find(|tool| !is_there(tool))
}

/// Tells that a test is skipped, and why. Fails it where all that tests need must be there.
pub(crate) fn skip(reason: &str) {
    let required = std::env::var_os("LAYERPIN_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(!required, "{reason}, and LAYERPIN_REQUIRE_TOOLS is 1");
    eprintln!("skipped: {reason}");
}

/// The archive of a genuine image.
pub(crate) fn archive(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/images/{name}.tar"))
}
