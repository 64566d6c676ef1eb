//! CA certificates for registries beside those of the system, and client certificates for them.
//!
//! Owns the folder layout of `containers-certs.d(5)`. An error names the file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::errors;
use crate::reload::{Reloadable, Reloaded};
use crate::tls::pem::{self, CaBundle};

/// The certificates in use; they can be replaced while requests are under way.
#[derive(Debug)]
pub struct CertDirs {
    folders: CertDirSource,
    of_folders: Reloadable<ClusterCas>,
    of_cluster: Reloadable<ClusterCas>,
    generation: AtomicU64,
}

#[derive(Debug)]
enum CertDirSource {
    /// Given by the user: every file in it must be usable.
    Named(PathBuf),
    /// The folders that Podman and other tools read. For each host, the first folder that has it is used.
    Usual(Vec<PathBuf>),
}

/// CA certificates for every host and for single ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterCas {
    /// For every host.
    pub everywhere: CaBundle,
    /// For one host each: `host` or `host:port`.
    pub hosts: BTreeMap<String, HostTrust>,
}

/// The certificates for one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostTrust {
    /// CA certificates in addition to those of the system.
    pub authorities: CaBundle,
    /// A client certificate.
    pub identity: Option<Identity>,
}

/// A client certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Identity(…)")
    }
}

impl CertDirs {
    /// Only the CA certificates of the system, and those of [`Self::replace`].
    pub fn of_system() -> Self {
        Self::from_usual(Vec::new())
    }

    /// Reads a folder with one folder for each host, `host` or `host:port`: `*.crt` are CA certificates,
    /// `*.cert` and `*.key` are a client certificate. Fails with the file that cannot be used.
    pub fn from_dir(folder: &Path) -> Result<Self, CertDirError> {
        let folders = CertDirSource::Named(folder.to_owned());
        let of_folders = Reloadable::from_content(&folders.files()?, parse)?;
        Ok(Self::new(folders, of_folders))
    }

    /// Reads folders of the same layout that need not exist. A host whose files cannot be used is logged and
    /// ignored, because it may never be contacted.
    pub fn from_usual(folders: Vec<PathBuf>) -> Self {
        let folders = CertDirSource::Usual(folders);
        let files = folders.files().unwrap_or_default();
        let mut trusted = ClusterCas::default();
        for (host, files) in &files {
            match HostTrust::read(files) {
                Ok(trust) => drop(trusted.hosts.insert(host.clone(), trust)),
                Err(error) => tracing::warn!(%error, "certificates of a registry ignored"),
            }
        }
        Self::new(folders, Reloadable::new(trusted))
    }

    /// Reads a folder that the user named again. Fails once for content that cannot be used; the previous
    /// certificates stay in use.
    pub fn reload(&self) -> Result<Reloaded, CertDirError> {
        let CertDirSource::Named(_) = &self.folders else { return Ok(Reloaded::Same) };
        let reloaded = self.of_folders.reload(self.folders.files(), parse)?;
        Ok(self.noted(reloaded))
    }

    /// Uses the certificates of a cluster in addition to those in folders.
    pub fn replace(&self, trusted: ClusterCas) -> Reloaded {
        self.noted(self.of_cluster.replace(trusted))
    }

    fn noted(&self, reloaded: Reloaded) -> Reloaded {
        if reloaded == Reloaded::Changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
        reloaded
    }

    /// A number that changes with the certificates.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether `host` has its own certificates.
    pub(crate) fn knows(&self, host: &str) -> bool {
        [&self.of_folders, &self.of_cluster].iter().any(|trusted| trusted.current().host(host).is_some())
    }

    /// Adds the CA certificates for `host` to `roots`, and returns its client certificate.
    pub(crate) fn complete(&self, roots: &mut RootCertStore, host: &str) -> Option<Identity> {
        let mut identity = None;
        for trusted in [self.of_folders.current(), self.of_cluster.current()] {
            roots.add_parsable_certificates(trusted.everywhere.clone().into_certificates());
            if let Some(host) = trusted.host(host) {
                roots.add_parsable_certificates(host.authorities.clone().into_certificates());
                identity = identity.or_else(|| host.identity.clone());
            }
        }
        identity
    }

    fn new(folders: CertDirSource, of_folders: Reloadable<ClusterCas>) -> Self {
        let of_cluster = Reloadable::new(ClusterCas::default());
        Self { folders, of_folders, of_cluster, generation: AtomicU64::new(0) }
    }
}

impl ClusterCas {
    /// The certificates for `host`, an authority of a URL. Folders and keys may have the default port, and name
    /// Docker Hub as its images do.
    fn host(&self, host: &str) -> Option<&HostTrust> {
        let name = if host == "registry-1.docker.io" { "docker.io" } else { host };
        self.hosts.get(name).or_else(|| {
            let has_port =
                name.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
            if has_port { None } else { self.hosts.get(&format!("{name}:443")) }
        })
    }
}

impl Identity {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    pub(crate) fn key(&self) -> Option<PrivateKeyDer<'static>> {
        PrivateKeyDer::try_from(self.key.clone()).ok()
    }
}

/// The files of one host.
type HostFiles = Vec<(PathBuf, String)>;

impl CertDirSource {
    /// The certificates and keys, by host.
    fn files(&self) -> Result<BTreeMap<String, HostFiles>, CertDirError> {
        let mut found = BTreeMap::new();
        let (folders, is_named) = match self {
            Self::Named(folder) => (std::slice::from_ref(folder), true),
            Self::Usual(folders) => (folders.as_slice(), false),
        };
        for folder in folders {
            let hosts = match list(folder) {
                Ok(hosts) => hosts,
                // As in `containers/image`, a folder that is missing or cannot be read is ignored.
                Err(_) if !is_named => continue,
                Err(error) => return Err(error),
            };
            for path in hosts.into_iter().filter(|path| path.is_dir()) {
                let Some(host) = path.file_name().and_then(|name| name.to_str()) else { continue };
                // `..data` and others are folders of a mounted ConfigMap and not hosts.
                if found.contains_key(host) || host.starts_with("..") {
                    continue;
                }
                match host_files(&path) {
                    Ok(files) => drop(found.insert(host.to_owned(), files)),
                    Err(_) if !is_named => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, CertDirError> {
    let unreadable = |error| CertDirError::unreadable(folder, error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}

fn host_files(folder: &Path) -> Result<HostFiles, CertDirError> {
    let is_read = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "crt" || extension == "cert" || extension == "key")
    };
    let read = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) => Err(CertDirError::unreadable(&path, error)),
    };
    list(folder)?.into_iter().filter(is_read).map(read).collect()
}

fn parse(files: &BTreeMap<String, HostFiles>) -> Result<ClusterCas, CertDirError> {
    let hosts = files.iter().map(|(host, files)| Ok((host.clone(), HostTrust::read(files)?)));
    Ok(ClusterCas { everywhere: CaBundle::default(), hosts: hosts.collect::<Result<_, CertDirError>>()? })
}

impl HostTrust {
    fn read(files: &HostFiles) -> Result<Self, CertDirError> {
        let mut trust = Self::default();
        let other_half = |path: &Path, extension: &str| {
            let wanted = path.with_extension(extension);
            files
                .iter()
                .find(|(other, _)| *other == wanted)
                .ok_or_else(|| CertDirError::new(path, format!("{} is missing", wanted.display())))
        };
        for (path, text) in files {
            let unusable = |reason: String| CertDirError::new(path, reason);
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => {
                    let bundle = CaBundle::parse(text).map_err(|error| unusable(error.to_string()))?;
                    trust.authorities.extend(bundle);
                }
                Some("cert") => {
                    let (key_path, key) = other_half(path, "key")?;
                    let chain = pem::certificate_chain(text.as_bytes()).map_err(unusable)?;
                    let key = pem::private_key(key.as_bytes())
                        .map_err(|reason| CertDirError::new(key_path, reason))?;
                    let provider = rustls::crypto::aws_lc_rs::default_provider();
                    rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).map_err(
                        |error| unusable(format!("does not match {}: {error}", key_path.display())),
                    )?;
                    trust.identity = Some(Identity { chain, key: key.secret_der().to_vec() });
                }
                _ => {
                    other_half(path, "cert")?;
                }
            }
        }
        Ok(trust)
    }
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct CertDirError {
    path: PathBuf,
    reason: String,
}

impl CertDirError {
    fn new(path: &Path, reason: String) -> Self {
        Self { path: path.to_owned(), reason }
    }

    fn unreadable(path: &Path, error: std::io::Error) -> Self {
        Self::new(path, errors::words(&error))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn issued() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["registry.example".into()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn a_folder_is_read_by_host_and_reloaded() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let (one, _) = issued();
        let (client, key) = issued();
        write("a.example:5000/ca.crt", &one);
        write("a.example:5000/README", "not read");
        write("b.example:443/client.cert", &client);
        write("b.example:443/client.key", &key);
        write("docker.io/ca.crt", &one);
        let certificates = CertDirs::from_dir(folder.path()).unwrap();
        let known = |host: &str| {
            let mut roots = RootCertStore::empty();
            let identity = certificates.complete(&mut roots, host);
            assert_eq!(certificates.knows(host), !roots.is_empty() || identity.is_some(), "{host}");
            (roots.len(), identity.is_some())
        };
        for (host, expected) in [
            ("a.example:5000", (1, false)),
            ("a.example", (0, false)),
            ("b.example", (0, true)),
            ("b.example:5000", (0, false)),
            ("registry-1.docker.io", (1, false)),
        ] {
            assert_eq!(known(host), expected, "{host}");
        }
        assert_eq!(certificates.reload().unwrap(), Reloaded::Same);
        let before = certificates.generation();
        write("a.example:5000/more.crt", &client);
        assert_eq!(certificates.reload().unwrap(), Reloaded::Changed);
        assert_ne!(certificates.generation(), before);
        assert_eq!(known("a.example:5000"), (2, false));
        write("a.example:5000/more.crt", "rubbish");
        let error = certificates.reload().unwrap_err().to_string();
        let path = folder.path().join("a.example:5000/more.crt");
        assert_eq!(error, format!("{}: line 1: no certificate in PEM format", path.display()));
        assert_eq!(certificates.reload().unwrap(), Reloaded::Same, "an error is returned once");
        assert_eq!(known("a.example:5000"), (2, false), "the previous certificates stay in use");
    }

    #[test]
    fn a_pair_that_cannot_be_used_is_named() {
        let (certificate, key) = issued();
        let (_, other) = issued();
        let secret = key.lines().nth(1).unwrap();
        for (files, message) in [
            (vec![("c.cert", certificate.as_str())], "c.cert: FOLDER/h.example/c.key is missing"),
            (vec![("c.key", key.as_str())], "c.key: FOLDER/h.example/c.cert is missing"),
            (vec![("c.cert", ""), ("c.key", &key)], "c.cert: no certificate in PEM format; "),
            (vec![("c.cert", &certificate), ("c.key", "")], "c.key: no private key in PEM format; "),
            (
                vec![("c.cert", &certificate), ("c.key", &other)],
                "c.cert: does not match FOLDER/h.example/c.key: ",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("h.example")).unwrap();
            for (name, text) in files {
                std::fs::write(folder.path().join("h.example").join(name), text).unwrap();
            }
            let error = CertDirs::from_dir(folder.path()).unwrap_err().to_string();
            let error = error.replace(&folder.path().display().to_string(), "FOLDER");
            assert!(error.starts_with(&format!("FOLDER/h.example/{message}")), "{error}");
            assert!(!error.contains(secret), "{error}");
        }
    }

    #[test]
    fn the_first_of_the_usual_folders_is_used_and_broken_hosts_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let (one, _) = issued();
        let (two, _) = issued();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("first/a.example/ca.crt", &one);
        write("second/a.example/ca.crt", &format!("{one}{two}"));
        write("second/b.example/ca.crt", &two);
        write("second/c.example/ca.crt", "rubbish");
        let folders = ["none", "first", "second"].map(|name| folder.path().join(name));
        let certificates = CertDirs::from_usual(folders.to_vec());
        let count = |host: &str| {
            let mut roots = RootCertStore::empty();
            certificates.complete(&mut roots, host);
            roots.len()
        };
        assert_eq!((count("a.example"), count("b.example"), count("c.example")), (1, 1, 0));
    }
}
