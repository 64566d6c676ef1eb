//! The servers of the cluster: etcd, kube-apiserver and Layerpin, each in a folder that they share.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use layerpin_sample_registry::{Authority, ClosedPort};
use layerpin_test_support::eventually::eventually_blocking;
use layerpin_test_support::kubernetes::{ETCD_ARGUMENTS, api_server_arguments, write_api_server_files};
use layerpin_test_support::{program, repository};
use rustix::process::Signal;

use crate::kubectl::{Caller, Kubectl};
use crate::process::Process;

/// A running `layerpin serve`.
pub(crate) struct Layerpin {
    process: Process,
    /// Of the webhooks, without a path.
    pub(crate) url: String,
    /// Of probes and metrics, without a path.
    pub(crate) admin_url: String,
}

impl Layerpin {
    /// Starts the binary under test with the recommended policy, without a cluster of its own.
    pub(crate) fn start(name: &str, folder: &Path, authority: &Authority) -> Self {
        Self::start_with(name, folder, authority, "--no-cluster")
    }

    /// Starts the binary under test with the recommended policy and one argument more.
    pub(crate) fn start_with(name: &str, folder: &Path, authority: &Authority, more: &str) -> Self {
        Self::start_by(&[], name, folder, authority, &[more])
    }

    /// Starts the binary under test with the recommended policy and more arguments, by a command that ends
    /// with the program and its arguments.
    pub(crate) fn start_by(
        command: &[&str],
        name: &str,
        folder: &Path,
        authority: &Authority,
        more: &[&str],
    ) -> Self {
        let identity = authority.issue(&["127.0.0.1"]);
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        fs::write(folder.join(&certificate), identity.certificate_pem()).unwrap();
        fs::write(folder.join(&key), identity.key_pem()).unwrap();
        let arguments = [
            &*format!("--tls-cert={certificate}"),
            &format!("--tls-key={key}"),
            &format!("--policy={}", repository().join("policies/recommended.yaml").display()),
        ];
        Self::serve_by(command, name, folder, &[&arguments, more].concat())
    }

    /// Starts the binary under test with these arguments; paths in them begin at `folder`.
    pub(crate) fn serve(name: &str, folder: &Path, arguments: &[&str]) -> Self {
        Self::serve_by(&[], name, folder, arguments)
    }

    /// The same by a command that ends with the program and its arguments.
    pub(crate) fn serve_by(command: &[&str], name: &str, folder: &Path, arguments: &[&str]) -> Self {
        let program = program();
        let serve =
            [program.to_str().unwrap(), "serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"];
        let line = [command, &serve, arguments].concat();
        let mut process = Process::start_searched(name, folder, Path::new(line[0]), &line[1..]);
        let (url, admin_url) = eventually_blocking("layerpin says where it listens", || {
            let output = process.output();
            let mut urls = output.split_whitespace().filter(|word| word.starts_with("https://"));
            match (urls.next(), urls.next()) {
                (Some(url), Some(admin_url)) if output.ends_with('\n') => Ok((url.into(), admin_url.into())),
                _ if process.has_ended() => panic!("layerpin has ended:\n{}", process.log()),
                _ => Err(process.log()),
            }
        });
        Self { process, url, admin_url }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.process.end()
    }
}

/// Starts etcd on sockets in `folder`, where nobody else has any. The API server waits for it.
pub(crate) fn start_etcd(tools: &Path, folder: &Path) -> Process {
    // One that was killed leaves its own behind.
    for socket in ["clients:0", "peers:0"] {
        let _ = fs::remove_file(folder.join(socket));
    }
    Process::start("etcd", folder, &tools.join("etcd"), &ETCD_ARGUMENTS)
}

/// A kube-apiserver, which can be ended and started again.
pub(crate) struct ApiServer {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    process: Process,
}

impl ApiServer {
    /// Starts kube-apiserver, waits until it is ready, and points `kubectl` at it.
    pub(crate) fn start(tools: &Path, folder: &Path, kubectl: &Kubectl) -> Self {
        write_api_server_files(folder, &Caller::ALL.map(Caller::token_line).concat());
        fs::write(folder.join("admission.yaml"), NO_ADMISSION_SETTINGS).unwrap();
        let program = tools.join("kube-apiserver");
        // It cannot choose a port itself, and one that was free a moment ago may be taken.
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let process = run_api_server(&program, folder, port);
            let mut server = Self { program: program.clone(), folder: folder.to_owned(), port, process };
            kubectl.point_at(port, &server.authority());
            if server.is_ready(kubectl) {
                return server;
            }
        }
        panic!("no port stays free for long enough");
    }

    /// Kills it, and runs `meanwhile`; then starts it again at the same address and waits until it is
    /// ready.
    pub(crate) fn restart(&mut self, kubectl: &Kubectl, meanwhile: impl FnOnce()) {
        self.process.signal(Signal::KILL);
        self.process.end();
        // Nobody else gets its port meanwhile, and it can still bind it itself.
        let _port = ClosedPort::take_at((Ipv4Addr::LOCALHOST, self.port).into()).unwrap();
        meanwhile();
        eventually_blocking("kube-apiserver has its port back", || {
            self.process = run_api_server(&self.program, &self.folder, self.port);
            if self.is_ready(kubectl) { Ok(()) } else { Err("its port is taken") }
        });
    }

    /// The address, without a path.
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Its certificate, with the authority behind it.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("api-server/apiserver.crt")
    }

    /// Waits until it is ready, or has ended because its port was taken.
    fn is_ready(&mut self, kubectl: &Kubectl) -> bool {
        let process = &mut self.process;
        let ready = eventually_blocking("kube-apiserver is ready", || {
            if process.has_ended() {
                return Ok(false);
            }
            let answer = kubectl.run(Caller::Admin, &["get", "--raw=/readyz"]);
            if answer.succeeded { Ok(true) } else { Err(format!("{}{}", answer.stderr, process.log())) }
        });
        let log = process.log();
        assert!(ready || log.contains("address already in use"), "kube-apiserver:\n{log}");
        ready
    }
}

fn run_api_server(program: &Path, folder: &Path, port: u16) -> Process {
    let mut arguments = api_server_arguments(port);
    arguments.push("--admission-control-config-file=admission.yaml".to_owned());
    Process::start("kube-apiserver", folder, program, &arguments)
}

/// Where a test may write others for the next start.
const NO_ADMISSION_SETTINGS: &str =
    "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: []\n";

/// The folder of kube-apiserver, kubectl and etcd; otherwise why there is none.
pub(crate) fn tools() -> Result<PathBuf, String> {
    let script = repository().join("tests/e2e/tools.sh");
    let child = Command::new(&script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("{}: {error}", script.display()))?;
    let mut reason = String::from("tools.sh gave no reason");
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        // Passed on as it comes: the first build takes minutes.
        let _ = writeln!(std::io::stderr(), "{line}");
        if let Some(error) = line.strip_prefix("error: ") {
            reason = error.to_owned();
        }
    }
    let mut folder = String::new();
    child.stdout.take().unwrap().read_to_string(&mut folder).map_err(|error| error.to_string())?;
    let succeeded = child.wait().is_ok_and(|status| status.success());
    if succeeded { Ok(PathBuf::from(folder.trim_end())) } else { Err(reason) }
}

/// The binary under test: LAYERPIN_E2E_PROGRAM, which `make e2e` sets to that of the release profile; else
/// the one that was built with the tests.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("LAYERPIN_E2E_PROGRAM").map_or_else(program::layerpin, PathBuf::from)
}
