//! The registry of the Docker distribution as a child process, if it is installed.
//!
//! It is the second opinion on what our own registry says: what works against
//! both is the protocol, and not our idea of it. Needs `docker-registry` on
//! `PATH`; accounts need `htpasswd`, pushing needs `skopeo`.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::images::Artifact;
use crate::printed::keep_account;
use crate::tls::TlsIdentity;
use crate::token_service::TokenService;

/// A running `docker-registry`; dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct DockerRegistry {
    address: SocketAddr,
    scheme: &'static str,
    // Dropped in this order: the process goes before the folder it writes to.
    _process: Process,
    folder: Folder,
}

impl DockerRegistry {
    /// Tells whether `docker-registry` is on `PATH`.
    pub fn available() -> bool {
        on_path("docker-registry")
    }

    /// Starts a registry on a free port of loopback, over plain HTTP, open to all.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Begins to describe a registry.
    pub fn builder() -> DockerRegistryBuilder {
        DockerRegistryBuilder {
            address: None,
            access: Access::Open,
            tls: None,
            client_authority_pem: None,
            mirror_of: None,
        }
    }

    /// Returns host and port as a pull spec has them, such as `127.0.0.1:34567`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the URL of the root, such as `http://127.0.0.1:34567`.
    pub fn base_url(&self) -> String {
        format!("{}://{}", self.scheme, self.host())
    }

    /// Pushes an image or an index with `skopeo`, unchanged, and returns its digest.
    ///
    /// `repository_and_tag` is such as `acme/os:4.18`; `credentials` are user and password.
    pub fn push<'a>(
        &self,
        repository_and_tag: &str,
        artifact: impl Into<Artifact<'a>>,
        credentials: Option<(&str, &str)>,
    ) -> io::Result<String> {
        let artifact = artifact.into();
        let archive = self.folder.path.join("pushed.tar");
        artifact.write_oci_archive(&archive)?;
        self.skopeo_copy(&archive, repository_and_tag, credentials)?;
        Ok(artifact.digest())
    }

    /// Copies an OCI archive into the registry with `skopeo`, unchanged.
    ///
    /// Fails with what `skopeo` says on its standard error.
    pub fn skopeo_copy(
        &self,
        oci_archive: &Path,
        repository_and_tag: &str,
        credentials: Option<(&str, &str)>,
    ) -> io::Result<()> {
        let mut command = Command::new("skopeo");
        // A temporary folder of our own, and no policy, credentials or registries of the user.
        command
            .arg("--insecure-policy")
            .arg("--tmpdir")
            .arg(&self.folder.path)
            .args(["copy", "--all", "--preserve-digests"])
            .arg("--dest-tls-verify=false")
            .arg("--dest-authfile")
            .arg(self.folder.path.join("no-credentials.json"));
        if let Some((user, password)) = credentials {
            command.arg("--dest-creds").arg(format!("{user}:{password}"));
        }
        command
            .arg(format!("oci-archive:{}", oci_archive.display()))
            .arg(format!("docker://{}/{repository_and_tag}", self.host()));
        run(&mut command).map(drop)
    }
}

/// A description of a registry, which [`DockerRegistryBuilder::start`] starts.
#[derive(Debug)]
pub struct DockerRegistryBuilder {
    address: Option<SocketAddr>,
    access: Access,
    tls: Option<TlsIdentity>,
    client_authority_pem: Option<String>,
    mirror_of: Option<String>,
}

enum Access {
    Open,
    Accounts { user: String, password: String },
    Tokens { realm: String, service: String, issuer: String, root_certificate_pem: String },
}

impl DockerRegistryBuilder {
    /// Binds this address in place of a free port of `127.0.0.1`.
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Demands Basic credentials of one account.
    pub fn htpasswd(mut self, user: &str, password: &str) -> Self {
        keep_account(user, password);
        self.access = Access::Accounts { user: user.to_owned(), password: password.to_owned() };
        self
    }

    /// Demands tokens of this service.
    pub fn token(mut self, service: &TokenService) -> Self {
        self.access = Access::Tokens {
            realm: service.realm().to_owned(),
            service: service.service().to_owned(),
            issuer: service.issuer_name().to_owned(),
            root_certificate_pem: service.root_certificate_pem(),
        };
        self
    }

    /// Serves HTTPS with this identity, in place of plain HTTP.
    pub fn tls(mut self, identity: TlsIdentity) -> Self {
        self.tls = Some(identity);
        self
    }

    /// Refuses clients over TLS that show no certificate of this authority.
    pub fn client_authority(mut self, certificate_pem: &str) -> Self {
        self.client_authority_pem = Some(certificate_pem.to_owned());
        self
    }

    /// Pulls what it does not have from the registry at this base URL, and refuses pushes.
    pub fn mirror_of(mut self, base_url: &str) -> Self {
        self.mirror_of = Some(base_url.to_owned());
        self
    }

    /// Starts the registry and waits until it listens.
    ///
    /// Fails with the end of its log when it does not start, tried on several ports.
    pub fn start(self) -> io::Result<DockerRegistry> {
        let folder = Folder::create()?;
        let scheme = match self.tls {
            Some(_) => "https",
            None => "http",
        };
        let mut attempt = 1;
        loop {
            // The port is free again when the registry binds it, so another process can be first.
            let address = self.address.map_or_else(free_address, Ok)?;
            let configuration = self.configuration(&folder, address)?;
            match Process::start(&folder, &configuration, address) {
                Ok(process) => {
                    return Ok(DockerRegistry { address, scheme, _process: process, folder });
                }
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// Writes the configuration and the files it names, and returns its path.
    fn configuration(&self, folder: &Folder, address: SocketAddr) -> io::Result<PathBuf> {
        let mut http = json!({"addr": address.to_string()});
        if let Some(identity) = &self.tls {
            http["tls"] = json!({
                "certificate": folder.write("tls.crt", identity.certificate_pem())?,
                "key": folder.write("tls.key", identity.key_pem())?,
            });
            if let Some(pem) = &self.client_authority_pem {
                http["tls"]["clientcas"] = json!([folder.write("clients.crt", pem)?]);
            }
        }
        let mut configuration = json!({
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": true}},
            "storage": {
                "filesystem": {"rootdirectory": folder.path.join("storage")},
                "delete": {"enabled": true},
            },
            "http": http,
        });
        if let Some(authentication) = self.authentication(folder)? {
            configuration["auth"] = authentication;
        }
        if let Some(remote) = &self.mirror_of {
            configuration["proxy"] = json!({"remoteurl": remote});
        }
        // JSON is YAML, and quotes what has to be quoted.
        folder.write("config.yml", &configuration.to_string())
    }

    fn authentication(&self, folder: &Folder) -> io::Result<Option<Value>> {
        Ok(match &self.access {
            Access::Open => None,
            Access::Accounts { user, password } => {
                // The registry accepts bcrypt only.
                let lines = run(Command::new("htpasswd").args(["-Bbn", user, password]))?;
                let path = folder.write("htpasswd", &lines)?;
                Some(json!({"htpasswd": {"realm": "docker registry", "path": path}}))
            }
            Access::Tokens { realm, service, issuer, root_certificate_pem } => {
                let path = folder.write("token-root.crt", root_certificate_pem)?;
                Some(json!({"token": {
                    "realm": realm,
                    "service": service,
                    "issuer": issuer,
                    "rootcertbundle": path,
                }}))
            }
        })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Open => "Open",
            Self::Accounts { .. } => "Accounts",
            Self::Tokens { .. } => "Tokens",
        })
    }
}

/// A child process, killed when dropped.
#[derive(Debug)]
struct Process {
    child: Child,
}

impl Process {
    /// Starts `docker-registry`, and returns when its log says that it listens on `address`.
    ///
    /// The log is asked in place of the port, which another process may have taken.
    fn start(folder: &Folder, configuration: &Path, address: SocketAddr) -> io::Result<Self> {
        let log = folder.path.join("log");
        let output = File::create(&log)?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut process = Self { child };
        let listening = format!("listening on {address}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&log)?;
            if text.contains(&listening) {
                return Ok(process);
            }
            if let Some(status) = process.child.try_wait()? {
                let problem = format!("docker-registry ended with {status}: {}", end_of(&text));
                return Err(io::Error::other(problem));
            }
            if Instant::now() > deadline {
                let problem = format!("docker-registry does not listen: {}", end_of(&text));
                return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "the pause between two attempts, up to a deadline"
            )]
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder for one registry, removed when dropped.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn create() -> io::Result<Self> {
        static CREATED: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = CREATED.fetch_add(1, Ordering::Relaxed);
            let name = format!("layerpin-docker-registry-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                // Left over by a process of the same number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        File::create(&path)?.write_all(content.as_bytes())?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays is litter in the temporary folder, and no reason to fail.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Runs a command to its end and returns its standard output.
fn run(command: &mut Command) -> io::Result<String> {
    let program = command.get_program().to_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::new(error.kind(), describe(&program, &error.to_string())))?;
    if !output.status.success() {
        let problem = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(describe(&program, problem.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn describe(program: &OsStr, problem: &str) -> String {
    format!("`{}` failed: {problem}", program.display())
}

/// Returns the last lines of a log.
fn end_of(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// How many ports are tried.
const ATTEMPTS: usize = 5;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
