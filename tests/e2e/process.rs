//! Programs that the tests start, and that end with the tests however these end.
//!
//! The cluster lives in a static, which is never dropped, and a test process may be killed. So every
//! program runs on a leash: a shell that kills it once the pipe from the test process is closed, which
//! the kernel sees to. Refuses nothing and waits for nothing; see `eventually`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program on its leash; dropping it kills the program and waits for its end.
pub(crate) struct Process {
    leash: Child,
    output: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts `program` in `folder`, with standard output in `NAME.out` and standard error in `NAME.log`
    /// there, and with nothing of the caller's environment but the search path.
    pub(crate) fn start<A: AsRef<OsStr>>(name: &str, folder: &Path, program: &Path, arguments: &[A]) -> Self {
        let (output, log) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.log")));
        let leash = shell(LEASH, folder)
            .arg(program)
            .args(arguments)
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { leash, output, log }
    }

    /// Tells whether the program has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.leash.try_wait().unwrap().is_some()
    }

    /// What it has written to standard output so far.
    pub(crate) fn output(&self) -> String {
        read(&self.output)
    }

    /// What it has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        read(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        // Nobody is left to tell about a shell that cannot be waited for.
        let _ = self.leash.wait();
    }
}

/// Removes `folder` when the test process has ended, once the programs in it have let go of it.
pub(crate) fn sweep_at_the_end(folder: &Path) -> Child {
    shell(SWEEP, Path::new("/")).arg(folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn shell(script: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).current_dir(folder).stdin(Stdio::piped()).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// `cat` ends when the pipe is closed. The program must be killed by a process of its own: the shell
/// waits for it, so that one which ends by itself takes the leash with it and is seen to have ended.
const LEASH: &str = r#"
trap '' INT HUP TERM
exec 3<&0 </dev/null
"$@" 3<&- &
program=$!
{ cat; kill -KILL "$program"; } <&3 >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$program"
status=$?
kill -KILL "$watcher"
exit "$status"
"#;

const SWEEP: &str = r#"
trap '' INT HUP TERM
cat
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$1" && break
    sleep 1
done
"#;
