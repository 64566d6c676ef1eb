//! The program under test: run to its end, or started, watched, and killed when the test is over.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use layerpin_sample_registry::{Authority, TlsIdentity, keep_printed};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::documents::{auth_file, policy};
use crate::eventually::{PATIENCE, eventually};

/// The program that Cargo built together with the tests.
///
/// # Panics
///
/// When Cargo did not start this process.
pub fn layerpin() -> PathBuf {
    let path = std::env::var_os("CARGO_BIN_EXE_layerpin");
    path.expect("`cargo test` and `cargo bench` set CARGO_BIN_EXE_layerpin").into()
}

/// A temporary folder that programs are run in.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// An empty folder.
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, and makes the folders above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Reads a file that is text.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The names of everything in the folder, sorted, hidden files too.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// `layerpin` with these arguments, in this folder and with an empty environment.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(layerpin());
        command.args(arguments).current_dir(self.0.path()).env_clear().stdin(Stdio::null());
        command
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

/// How a program ended, and all that it wrote.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit status.
    pub status: i32,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub error: String,
}

impl Ended {
    /// How a command ends that is run without input.
    pub fn of(command: Command) -> Self {
        assert_cmd::Command::from_std(command).timeout(PATIENCE).output().unwrap().into()
    }

    /// How a command ends that reads `input`.
    pub fn with_input(command: Command, input: impl Into<Vec<u8>>) -> Self {
        let mut command = assert_cmd::Command::from_std(command);
        command.write_stdin(input).timeout(PATIENCE).output().unwrap().into()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| {
            keep_printed("programs", &bytes);
            String::from_utf8(bytes).unwrap()
        };
        let (status, error) = (output.status.code(), text(output.stderr));
        let status = status.unwrap_or_else(|| panic!("killed: {error}"));
        Self { status, output: text(output.stdout), error }
    }
}

/// A program before its start: a folder of its own, arguments, and no environment but what is given.
pub struct Setup {
    folder: Folder,
    command: Command,
    authority: Option<String>,
}

impl Setup {
    /// `layerpin serve` on free ports.
    pub fn serve() -> Self {
        Self::verb("serve").arguments(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
    }

    /// `layerpin VERB` and nothing else.
    pub fn verb(verb: &str) -> Self {
        let folder = Folder::new();
        Self { command: folder.command([verb]), folder, authority: None }
    }

    /// Adds arguments.
    pub fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Serves under a policy called `test` with this `spec`, indented by two.
    pub fn policy(self, spec: &str) -> Self {
        let path = self.write("policy.yaml", &policy(spec));
        self.arguments([OsStr::new("--policy"), path.as_os_str()])
    }

    /// Sends these `auths` to registries.
    pub fn auths(self, auths: &Value) -> Self {
        let path = self.write("auth.json", &auth_file(auths));
        self.arguments([OsStr::new("--authfile"), path.as_os_str()])
    }

    /// Serves with a certificate from `authority` for loopback.
    pub fn certificate(self, authority: &Authority) -> Self {
        let identity = authority.issue(&["127.0.0.1"]);
        let certificate = self.write("tls.crt", identity.certificate_pem());
        let key = self.write("tls.key", identity.key_pem());
        self.known_by(authority).arguments([
            OsStr::new("--tls-cert"),
            certificate.as_ref(),
            "--tls-key".as_ref(),
            key.as_ref(),
        ])
    }

    /// The CA that clients trust, where the server does not make its own.
    pub fn known_by(mut self, authority: &Authority) -> Self {
        self.authority = Some(authority.ca_pem());
        self
    }

    /// Writes a file into the program's folder.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        self.folder.write(name, content)
    }

    /// The path of a file in the program's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    /// Starts the program, and returns when it has printed its addresses.
    pub fn start(mut self) -> Layerpin {
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        let output = child.stdout.take().unwrap();
        let guard = Guard(child);
        let [address, admin_address] = addresses(output, || format!("{log:?}"));
        let authority = self.authority.unwrap_or_else(|| self.folder.read("certs/dev-ca.crt"));
        Layerpin {
            webhooks: Client::new(address, &authority),
            admin: Client::new(admin_address, &authority),
            address,
            admin_address,
            authority,
            log,
            guard,
            folder: self.folder,
        }
    }

    /// Runs a program that ends by itself: exit status, standard output, standard error.
    pub fn ended(self) -> (i32, String, String) {
        let Ended { status, output, error } = Ended::of(self.command);
        (status, output, error)
    }
}

/// A running server; dropping it kills it.
pub struct Layerpin {
    /// Sends requests to the webhooks.
    pub webhooks: Client,
    /// Sends requests to the admin address.
    pub admin: Client,
    /// Of the webhooks.
    pub address: SocketAddr,
    /// Of probes and metrics.
    pub admin_address: SocketAddr,
    /// The CA of its certificate, in PEM.
    pub authority: String,
    /// What it has logged so far.
    pub log: Log,
    guard: Guard,
    folder: Folder,
}

impl Layerpin {
    /// A server with default settings.
    pub fn start() -> Self {
        Setup::serve().start()
    }

    /// The path of a file in the program's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    /// Replaces a file in one step.
    pub fn replace(&self, name: &str, content: &str) {
        let new = self.path("replacement");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// All metrics, as text.
    pub async fn metrics(&self) -> String {
        self.admin.get("/metrics").await.text
    }

    /// The value of one series. `None` while it does not exist.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        metric(&self.metrics().await, series)
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.guard.0.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.guard.0), signal).unwrap();
    }

    /// Waits for the end of the program.
    pub async fn end(&mut self) -> ExitStatus {
        eventually("the program ends", async || self.guard.0.try_wait().unwrap()).await
    }
}

/// The value of one series in a text of metrics.
pub fn metric(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

/// The lines of a log, which are added as they are written.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// All lines so far, as they were written.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    /// All lines so far. Each must be a JSON object.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.0.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// All lines so far with this message.
    pub fn with_message(&self, message: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["message"] == message).collect()
    }

    /// Waits for a line with this message, and returns the first.
    pub async fn message(&self, message: &str) -> Value {
        let claim = format!("the log says: {message}");
        eventually(&claim, async || self.with_message(message).into_iter().next()).await
    }

    fn of(source: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let lines = Arc::clone(&log.0);
        thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                keep_printed("programs", line.as_bytes());
                lines.lock().unwrap().push(line);
            }
        });
        log
    }
}

/// Kills a program when it is dropped.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only when the program has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the program prints its addresses: that of the webhooks, then that of probes and metrics.
/// `context` is what a failure shows.
///
/// # Panics
///
/// When it prints something else, or nothing.
pub fn addresses(output: ChildStdout, context: impl Fn() -> String) -> [SocketAddr; 2] {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            keep_printed("programs", line.as_bytes());
            // Nobody receives once both addresses are known.
            let _ = sender.send(line);
        }
    });
    ["listening on https://", "admin listening on https://"].map(|words| {
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {words}: {}", context()));
        line.strip_prefix(words).unwrap_or_else(|| panic!("{words}: {line}")).parse().unwrap()
    })
}

/// An identity as the files of a Secret of type `kubernetes.io/tls`.
pub fn secret_of(identity: &TlsIdentity) -> [(&'static str, &str); 2] {
    [("tls.crt", identity.certificate_pem()), ("tls.key", identity.key_pem())]
}

/// The query that gives a review a budget short enough to use up in a test.
pub const SHORT: &str = "timeout=1s";
/// The longest time that an answer with such a budget may take on a busy machine. Without the budget a host
/// that does not answer would take fifteen seconds.
pub const ANSWERED: Duration = Duration::from_secs(10);
