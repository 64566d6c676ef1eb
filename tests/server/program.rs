//! The program: set up, started, watched, and gone when the test is over.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use layerpin_sample_registry::{Authority, TlsIdentity, keep_printed};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::eventually::{PATIENCE, eventually};

/// A program before its start: a folder of its own, arguments, and no environment but what is given.
pub(crate) struct Setup {
    folder: TempDir,
    command: Command,
    authority: Option<String>,
}

impl Setup {
    /// `layerpin serve` on free ports.
    pub(crate) fn serve() -> Self {
        Self::verb("serve").arguments(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
    }

    /// `layerpin VERB` and nothing else.
    pub(crate) fn verb(verb: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_layerpin"));
        command.arg(verb).current_dir(folder.path()).env_clear().stdin(Stdio::null());
        Self { folder, command, authority: None }
    }

    /// Adds arguments.
    pub(crate) fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub(crate) fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Serves under a policy called `test` with this `spec`, indented by two.
    pub(crate) fn policy(self, spec: &str) -> Self {
        let path = self.write("policy.yaml", &policy(spec));
        self.arguments([OsStr::new("--policy"), path.as_os_str()])
    }

    /// Shows these `auths` to registries.
    pub(crate) fn auths(self, auths: &Value) -> Self {
        let path = self.write("auth.json", &auth_file(auths));
        self.arguments([OsStr::new("--authfile"), path.as_os_str()])
    }

    /// Serves with a certificate from `authority` for loopback.
    pub(crate) fn certificate(mut self, authority: &Authority) -> Self {
        let identity = authority.issue(&["127.0.0.1"]);
        let certificate = self.write("tls.crt", identity.certificate_pem());
        let key = self.write("tls.key", identity.key_pem());
        self.authority = Some(authority.ca_pem());
        self.arguments([OsStr::new("--tls-cert"), certificate.as_ref(), "--tls-key".as_ref(), key.as_ref()])
    }

    /// The CA by which the server will be known, where it does not make its own.
    pub(crate) fn known_by(mut self, authority: &Authority) -> Self {
        self.authority = Some(authority.ca_pem());
        self
    }

    /// Writes a file into the program's folder.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The path of a file in the program's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the program, and returns when it has told its addresses.
    pub(crate) fn start(mut self) -> Layerpin {
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        let (sender, addresses) = mpsc::channel();
        let output = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                keep_printed("programs", line.as_bytes());
                // Nobody listens once both addresses are known.
                let _ = sender.send(line);
            }
        });
        let guard = Guard(child);
        let address_after = |words: &str| -> SocketAddr {
            let line = addresses.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {words}: {log:?}"));
            line.strip_prefix(words).unwrap_or_else(|| panic!("{words}: {line}")).parse().unwrap()
        };
        let address = address_after("listening on https://");
        let admin_address = address_after("admin listening on https://");
        let authority = self
            .authority
            .unwrap_or_else(|| std::fs::read_to_string(self.folder.path().join("certs/dev-ca.crt")).unwrap());
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

    /// Runs a program that is to end by itself: exit code, standard output, standard error.
    pub(crate) fn ended(self) -> (i32, String, String) {
        let output = assert_cmd::Command::from_std(self.command).timeout(PATIENCE).output().unwrap();
        let text = |bytes: Vec<u8>| {
            keep_printed("programs", &bytes);
            String::from_utf8(bytes).unwrap()
        };
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

/// A running server; dropping it kills it.
pub(crate) struct Layerpin {
    pub(crate) webhooks: Client,
    pub(crate) admin: Client,
    pub(crate) address: SocketAddr,
    pub(crate) admin_address: SocketAddr,
    /// The CA of its certificate, in PEM.
    pub(crate) authority: String,
    pub(crate) log: Log,
    guard: Guard,
    folder: TempDir,
}

impl Layerpin {
    /// A server that has everything by default.
    pub(crate) fn start() -> Self {
        Setup::serve().start()
    }

    /// The path of a file in the program's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file anew, as a whole.
    pub(crate) fn replace(&self, name: &str, content: &str) {
        let new = self.path("replacement");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    /// All metrics, as text.
    pub(crate) async fn metrics(&self) -> String {
        self.admin.get("/metrics").await.text
    }

    /// The value of one series; `None` while there is no such series.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        metric(&self.metrics().await, series)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.guard.0), signal).unwrap();
    }

    /// Waits for the end of the program.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        eventually("the program ends", async || self.guard.0.try_wait().unwrap()).await
    }
}

/// The value of one series in a text of metrics.
pub(crate) fn metric(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

/// The lines of a log, as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// All lines so far, as they were written.
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    /// All lines so far. Each must be a JSON object.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let lines = self.0.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// The lines so far with this message.
    pub(crate) fn with_message(&self, message: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["message"] == message).collect()
    }

    /// Waits for a line with this message, and returns the first.
    pub(crate) async fn message(&self, message: &str) -> Value {
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

struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only if the program has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A policy file called `test` with this `spec`, indented by two.
pub(crate) fn policy(spec: &str) -> String {
    format!("apiVersion: layerpin.io/v1alpha1\nkind: OSImagePolicy\nmetadata: {{name: test}}\nspec:\n{spec}")
}

/// The text of an auth file.
pub(crate) fn auth_file(auths: &Value) -> String {
    serde_json::json!({"auths": auths}).to_string()
}

/// An identity as the files of a Secret of type `kubernetes.io/tls`.
pub(crate) fn secret_of(identity: &TlsIdentity) -> [(&'static str, &str); 2] {
    [("tls.crt", identity.certificate_pem()), ("tls.key", identity.key_pem())]
}

/// A budget short enough to be spent in a test.
pub(crate) const SHORT: &str = "timeout=1s";
/// By when an answer with such a budget must be there, on a machine that has other work too. Were the
/// budget of no account, a host that does not answer would be given up after fifteen seconds.
pub(crate) const ANSWERED: Duration = Duration::from_secs(10);
