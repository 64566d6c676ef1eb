//! Programs that the tests start, and that end with the tests however these end.
//!
//! The cluster lives in a static, which is never dropped, and a test process may be killed. So every
//! program runs on a leash: a shell that kills it once the pipe from the test process is closed, which
//! the kernel sees to. Refuses nothing.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use layerpin_sample_registry::printed_file;
use layerpin_test_support::eventually::eventually_blocking;
use rustix::process::{Pid, Signal, kill_process};

/// A program on its leash; dropping it kills the program and waits for its end.
pub(crate) struct Process {
    leash: Child,
    output: PathBuf,
    log: PathBuf,
    /// Holds the number of the program's process, once it is started.
    number: PathBuf,
}

impl Process {
    /// Starts `program` in `folder`, with standard output in `NAME.out` and standard error in `NAME.log`
    /// there, and with nothing of the caller's environment but the search path.
    pub(crate) fn start<A: AsRef<OsStr>>(name: &str, folder: &Path, program: &Path, arguments: &[A]) -> Self {
        let file = |ending: &str| folder.join(format!("{name}.{ending}"));
        Self::start_printing_to(file("out"), file("log"), file("pid"), folder, program, arguments)
    }

    /// The same, with standard output and standard error where `tests/printed.sh` looks for credentials.
    pub(crate) fn start_searched<A: AsRef<OsStr>>(
        name: &str,
        folder: &Path,
        program: &Path,
        arguments: &[A],
    ) -> Self {
        let file = |ending: &str| folder.join(format!("{name}.{ending}"));
        let printed = |ending: &str| printed_file("programs").unwrap_or_else(|| file(ending));
        Self::start_printing_to(printed("out"), printed("log"), file("pid"), folder, program, arguments)
    }

    fn start_printing_to<A: AsRef<OsStr>>(
        output: PathBuf,
        log: PathBuf,
        number: PathBuf,
        folder: &Path,
        program: &Path,
        arguments: &[A],
    ) -> Self {
        // A program of that name may have been there before.
        let _ = fs::remove_file(&number);
        let leash = shell(LEASH, folder)
            .arg(&number)
            .arg(program)
            .args(arguments)
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { leash, output, log, number }
    }

    /// Sends a signal to the program.
    pub(crate) fn signal(&self, signal: Signal) {
        let process = eventually_blocking("the program has a number", || {
            let number: i32 = read(&self.number).trim_end().parse()?;
            Ok::<_, std::num::ParseIntError>(Pid::from_raw(number).unwrap())
        });
        kill_process(process, signal).unwrap();
    }

    /// Waits until the program has ended by itself or by a signal, and says how: 128 and the signal's
    /// number for the latter.
    pub(crate) fn end(&mut self) -> ExitStatus {
        eventually_blocking("the program ends", || {
            self.leash.try_wait().unwrap().ok_or_else(|| read(&self.log))
        })
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
number=$1
shift
"$@" 3<&- &
program=$!
echo "$program" >"$number"
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
