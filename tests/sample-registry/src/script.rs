//! Scripts for programs under test to run.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a script for `sh` that its owner can run.
///
/// Another process writes it. Were it open for writing in this one, a child that another test starts just
/// then would have it open as well until it runs its own program, and the system would refuse to run this
/// one: `Text file busy`.
pub fn write_script(path: &Path, script: &str) -> io::Result<()> {
    let mut writer = Command::new("sh")
        .args(["-e", "-c", "cat >\"$1\"; chmod 700 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()?;
    let mut input = writer.stdin.take().expect("a pipe");
    input.write_all(format!("#!/bin/sh\n{script}\n").as_bytes())?;
    drop(input);
    match writer.wait()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("{} cannot be written: {status}", path.display()))),
    }
}
