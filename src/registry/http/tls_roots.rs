//! CA certificates for registries beside those of the system, and client certificates for them.
//!
//! Owns the folder layout of `containers-certs.d(5)`. An error names the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use derive_more::Debug;
use rustls::RootCertStore;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::registry::files::{FileError, TextFile, list};
use crate::reload::{Reloadable, Reloaded};
use crate::tls::pem::{self, CaBundle};

/// The certificates in use; they can be replaced while requests are under way.
#[derive(Debug)]
pub struct CertDirs {
    /// The folder that the user named, in which every file must be usable.
    named: Option<PathBuf>,
    of_folders: Reloadable<ClusterCas>,
    of_cluster: Reloadable<ClusterCas>,
    generation: AtomicU64,
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
#[derive(Clone, Debug)]
#[debug("Identity(…)")]
pub struct Identity(pub(crate) Arc<SingleCertAndKey>);

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Identity {}

impl CertDirs {
    /// Only the CA certificates of the system, and those of [`Self::replace`].
    pub fn of_system() -> Self {
        Self::from_usual(Vec::new())
    }

    /// Reads a folder with one folder for each host, `host` or `host:port`: `*.crt` are CA certificates,
    /// `*.cert` and `*.key` are a client certificate. Fails with the file that cannot be used.
    pub fn from_dir(folder: &Path) -> Result<Self, FileError> {
        let of_folders = Reloadable::from_content(&read(folder)?, parse)?;
        Ok(Self { named: Some(folder.to_owned()), of_folders, ..Self::of_system() })
    }

    /// Reads the folders of the same layout that Podman and other tools read, and that need not exist. For each host,
    /// the first folder that has it is used. A host whose files cannot be used is logged and ignored, because it
    /// may never be contacted.
    pub fn from_usual(folders: Vec<PathBuf>) -> Self {
        let mut files = BTreeMap::new();
        // As in `containers/image`, a folder that is missing or cannot be read is ignored.
        for (host, read) in folders.iter().flat_map(|folder| hosts(folder).unwrap_or_default()) {
            if let Ok(read) = read {
                files.entry(host).or_insert(read);
            }
        }
        let mut trusted = ClusterCas::default();
        for (host, files) in files {
            match HostTrust::parse(&files) {
                Ok(trust) => drop(trusted.hosts.insert(host, trust)),
                Err(error) => tracing::warn!(%error, "certificates of a registry ignored"),
            }
        }
        Self {
            named: None,
            of_folders: Reloadable::new(trusted),
            of_cluster: Reloadable::new(ClusterCas::default()),
            generation: AtomicU64::new(0),
        }
    }

    /// Reads a folder that the user named again. Fails once for content that cannot be used; the previous
    /// certificates stay in use.
    pub fn reload(&self) -> Result<Reloaded, FileError> {
        let Some(folder) = &self.named else { return Ok(Reloaded::Same) };
        Ok(self.noted(self.of_folders.reload(read(folder), parse)?))
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

/// The certificates and keys of one host.
type HostFiles = Result<Vec<TextFile>, FileError>;

/// Reads the folders of hosts in `folder`, each of which may fail.
fn hosts(folder: &Path) -> Result<Vec<(String, HostFiles)>, FileError> {
    let is_read = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("crt" | "cert" | "key"))
    };
    let hosts = list(folder)?.into_iter().filter_map(|path| {
        // `..data` and others are folders of a mounted ConfigMap and not hosts.
        let host = path.file_name()?.to_str().filter(|host| !host.starts_with("..") && path.is_dir())?;
        let files =
            list(&path).and_then(|files| files.into_iter().filter(is_read).map(TextFile::read).collect());
        Some((host.to_owned(), files))
    });
    Ok(hosts.collect())
}

fn read(folder: &Path) -> Result<BTreeMap<String, Vec<TextFile>>, FileError> {
    hosts(folder)?.into_iter().map(|(host, files)| Ok((host, files?))).collect()
}

fn parse(files: &BTreeMap<String, Vec<TextFile>>) -> Result<ClusterCas, FileError> {
    let hosts = files.iter().map(|(host, files)| Ok((host.clone(), HostTrust::parse(files)?)));
    Ok(ClusterCas { everywhere: CaBundle::default(), hosts: hosts.collect::<Result<_, FileError>>()? })
}

impl HostTrust {
    fn parse(files: &[TextFile]) -> Result<Self, FileError> {
        let mut trust = Self::default();
        let other_half = |path: &Path, extension: &str| {
            let wanted = path.with_extension(extension);
            let other = files.iter().find(|other| other.path == wanted);
            other.ok_or_else(|| FileError::new(path.display(), format!("{} is missing", wanted.display())))
        };
        for TextFile { path, text } in files {
            let unusable = |reason: String| FileError::new(path.display(), reason);
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => {
                    let bundle = CaBundle::parse(text).map_err(|error| unusable(error.to_string()))?;
                    trust.authorities.extend(bundle);
                }
                Some("cert") => {
                    let TextFile { path: key_path, text: key } = other_half(path, "key")?;
                    let chain = pem::certificate_chain(text.as_bytes()).map_err(unusable)?;
                    let key = pem::private_key(key.as_bytes())
                        .map_err(|reason| FileError::new(key_path.display(), reason))?;
                    let provider = rustls::crypto::aws_lc_rs::default_provider();
                    let pair = CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
                        unusable(format!("does not match {}: {error}", key_path.display()))
                    })?;
                    trust.identity = Some(Identity(Arc::new(pair.into())));
                }
                _ => drop(other_half(path, "cert")?),
            }
        }
        Ok(trust)
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
