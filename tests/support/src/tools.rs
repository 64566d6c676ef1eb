//! External tools, without which a test is skipped, and images of other projects for them.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Returns from the test where one of these tools is not installed, as [`skip`] does.
#[macro_export]
macro_rules! needs {
    ($($tool:literal),+) => {
        if let Some(missing) = $crate::tools::missing(&[$($tool),+]) {
            $crate::tools::skip(&format!("{missing} is not on PATH"));
            return;
        }
    };
}
pub use needs;

/// The first of these tools that is not on `PATH`.
pub fn missing<'a>(tools: &[&'a str]) -> Option<&'a str> {
    let path = search_path();
    let is_there = |tool: &str| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    tools.iter().copied().find(|tool| !is_there(tool))
}

/// Prints that a test is skipped, and why.
///
/// # Panics
///
/// When `LAYERPIN_REQUIRE_TOOLS` is 1, as in CI.
pub fn skip(reason: &str) {
    let required = std::env::var_os("LAYERPIN_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(!required, "{reason}, and LAYERPIN_REQUIRE_TOOLS is 1");
    // Not `eprintln!`: the test harness does not show what a passing test prints with it.
    let _ = std::io::stderr().write_all(format!("skipped: {reason}\n").as_bytes());
}

/// `PATH`, for a program that gets no other environment variable.
pub fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The command that runs another one, which follows it, in these namespaces of its own; otherwise why the
/// system does not allow that. `--mount` is such a namespace.
pub fn unshare(namespaces: &[&'static str]) -> Result<Vec<&'static str>, String> {
    let mut problem = String::new();
    // Root may. Others may as the root of a user namespace, if the system lets them make one.
    for user in [&[][..], &["--user", "--map-root-user"]] {
        let command = [&["unshare"], user, namespaces, &["--"]].concat();
        match Command::new("unshare").args(&command[1..]).arg("true").output() {
            Ok(tried) if tried.status.success() => return Ok(command),
            Ok(tried) => problem = String::from_utf8_lossy(&tried.stderr).trim().to_owned(),
            Err(error) => problem = error.to_string(),
        }
    }
    Err(format!("{} cannot be unshared: {problem}", namespaces.join(" ")))
}

/// Runs a command that must succeed, and returns its standard output.
///
/// # Panics
///
/// When it fails, with its standard error.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The archive of an image in `tests/images`.
pub fn archive(name: &str) -> PathBuf {
    crate::repository().join(format!("tests/images/{name}.tar"))
}
