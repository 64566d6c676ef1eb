//! By whom registries are trusted beyond the roots of the system, and what is shown to them over TLS.
//!
//! Owns the folder layout of `containers-certs.d(5)` and the form of CA bundles. A broken file is
//! named, with the line; text between certificates is a comment (RFC 7468, section 5.2).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::errors;
use crate::reload::{Reloadable, Reloaded};
use crate::text::shown;

/// The certificates in force; they can be replaced while questions are under way.
#[derive(Debug)]
pub struct CertDirs {
    folders: CertDirSource,
    of_folders: Reloadable<ClusterCas>,
    of_cluster: Reloadable<ClusterCas>,
    generation: AtomicU64,
}

#[derive(Debug)]
enum CertDirSource {
    /// Named by the user: everything in it must be sound.
    Named(PathBuf),
    /// Those that the tools of the field read. The first that has a folder for a host is for it.
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

/// What one host is trusted by, and what is shown to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostTrust {
    /// CA certificates, beside those of the system.
    pub authorities: CaBundle,
    /// A certificate of our own.
    pub identity: Option<Identity>,
}

/// CA certificates.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CaBundle(Vec<CertificateDer<'static>>);

/// A client certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl fmt::Debug for CaBundle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Authorities({})", self.0.len())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Identity(…)")
    }
}

impl CertDirs {
    /// The roots of the system alone, and what somebody else adds with [`Self::replace`].
    pub fn of_system() -> Self {
        Self::from_usual(Vec::new())
    }

    /// Reads a folder with one folder for each host in it, `host` or `host:port`: `*.crt` are CA
    /// certificates, `*.cert` and `*.key` a client certificate. Fails with the file that is broken.
    pub fn from_dir(folder: &Path) -> Result<Self, CertDirError> {
        let folders = CertDirSource::Named(folder.to_owned());
        let of_folders = Reloadable::from_content(&folders.files()?, parse)?;
        Ok(Self::new(folders, of_folders))
    }

    /// Reads folders of the same layout that need not be there. A host whose files are broken is
    /// passed over with a word in the log: it may be none of ours.
    pub fn from_usual(folders: Vec<PathBuf>) -> Self {
        let folders = CertDirSource::Usual(folders);
        let files = folders.files().unwrap_or_default();
        let mut trusted = ClusterCas::default();
        for (host, files) in &files {
            match HostTrust::read(files) {
                Ok(trust) => drop(trusted.hosts.insert(host.clone(), trust)),
                Err(error) => tracing::warn!(%error, "certificates passed over"),
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

    /// Uses the certificates of a cluster beside those in folders.
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

    /// Tells whether something is known of `host` that is not for every host.
    pub(crate) fn knows(&self, host: &str) -> bool {
        [&self.of_folders, &self.of_cluster].iter().any(|trusted| trusted.current().host(host).is_some())
    }

    /// Adds to `roots` what `host` is trusted by, and tells what is shown to it.
    pub(crate) fn complete(&self, roots: &mut RootCertStore, host: &str) -> Option<Identity> {
        let mut identity = None;
        for trusted in [self.of_folders.current(), self.of_cluster.current()] {
            roots.add_parsable_certificates(trusted.everywhere.0.iter().cloned());
            if let Some(host) = trusted.host(host) {
                roots.add_parsable_certificates(host.authorities.0.iter().cloned());
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
    /// What is for `host`, an authority of an URL. Folders and keys may name the default port, and
    /// Docker Hub by the name that its images have.
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

impl CaBundle {
    /// The certificates, in the order of the bundle.
    pub fn into_certificates(self) -> Vec<CertificateDer<'static>> {
        self.0
    }

    /// Reads a CA bundle: certificates in PEM, with any text between them. Fails with the line of the
    /// first block that is no sound certificate.
    pub fn parse(pem: &str) -> Result<Self, PemFault> {
        let mut found = Vec::new();
        let mut block: Option<PemBlock<'_>> = None;
        for (index, line) in pem.lines().enumerate() {
            let line = PemLine { number: index + 1, text: line.trim() };
            match (line.marker(), &mut block) {
                (None, None) => {}
                (None, Some(block)) => block.base64.push_str(line.text),
                (Some(PemMarker::Begin(label)), None) => {
                    block = Some(PemBlock { begun: line.number, label, base64: String::new() });
                }
                (Some(PemMarker::End(label)), Some(begun)) if begun.label == label => {
                    found.extend(begun.certificate()?);
                    block = None;
                }
                (Some(PemMarker::Begin(_) | PemMarker::End(_)), Some(block)) => {
                    return Err(PemFault::at(
                        block.begun,
                        format!("`BEGIN {}` without its end", shown(block.label)),
                    ));
                }
                (Some(PemMarker::End(label)), None) => {
                    return Err(PemFault::at(
                        line.number,
                        format!("`END {}` without its begin", shown(label)),
                    ));
                }
            }
        }
        if let Some(block) = block {
            return Err(PemFault::at(block.begun, format!("`BEGIN {}` without its end", shown(block.label))));
        }
        if found.is_empty() {
            Err(PemFault::at(1, "there is no certificate in PEM".to_owned()))
        } else {
            Ok(Self(found))
        }
    }
}

struct PemLine<'a> {
    number: usize,
    text: &'a str,
}

enum PemMarker<'a> {
    Begin(&'a str),
    End(&'a str),
}

impl<'a> PemLine<'a> {
    fn marker(&self) -> Option<PemMarker<'a>> {
        let inner = self.text.strip_prefix("-----")?.strip_suffix("-----")?;
        match inner.split_once(' ')? {
            ("BEGIN", label) => Some(PemMarker::Begin(label)),
            ("END", label) => Some(PemMarker::End(label)),
            _ => None,
        }
    }
}

struct PemBlock<'a> {
    begun: usize,
    label: &'a str,
    base64: String,
}

impl PemBlock<'_> {
    /// `None` for what is sound and no certificate, such as a list of revoked ones.
    fn certificate(&self) -> Result<Option<CertificateDer<'static>>, PemFault> {
        let fault = |message: String| Err(PemFault::at(self.begun, message));
        if self.label.ends_with("PRIVATE KEY") {
            return fault("a private key stands among CA certificates".to_owned());
        }
        if self.label != "CERTIFICATE" {
            return Ok(None);
        }
        let Ok(der) = BASE64_STANDARD.decode(&self.base64) else {
            return fault("the certificate that begins here is no base64".to_owned());
        };
        let certificate = CertificateDer::from(der);
        match RootCertStore::empty().add(certificate.clone()) {
            Ok(()) => Ok(Some(certificate)),
            Err(error) => fault(format!("the certificate that begins here cannot be used: {error}")),
        }
    }
}

/// What is wrong with a CA bundle, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct PemFault {
    line: usize,
    message: String,
}

impl PemFault {
    fn at(line: usize, message: String) -> Self {
        Self { line, message }
    }
}

/// The files of one host.
type HostFiles = Vec<(PathBuf, String)>;

impl CertDirSource {
    /// Every file that counts, by host.
    fn files(&self) -> Result<BTreeMap<String, HostFiles>, CertDirError> {
        let mut found = BTreeMap::new();
        let (folders, is_named) = match self {
            Self::Named(folder) => (std::slice::from_ref(folder), true),
            Self::Usual(folders) => (folders.as_slice(), false),
        };
        for folder in folders {
            let hosts = match list(folder) {
                Ok(hosts) => hosts,
                // As `containers/image`: what is not there or not ours to see is passed over.
                Err(_) if !is_named => continue,
                Err(error) => return Err(error),
            };
            for path in hosts.into_iter().filter(|path| path.is_dir()) {
                let Some(host) = path.file_name().and_then(|name| name.to_str()) else { continue };
                // The folders of a mounted ConfigMap, `..data` and such, are no hosts.
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
    let counts = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "crt" || extension == "cert" || extension == "key")
    };
    let read = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) => Err(CertDirError::unreadable(&path, error)),
    };
    list(folder)?.into_iter().filter(counts).map(read).collect()
}

fn parse(files: &BTreeMap<String, HostFiles>) -> Result<ClusterCas, CertDirError> {
    let hosts = files.iter().map(|(host, files)| Ok((host.clone(), HostTrust::read(files)?)));
    Ok(ClusterCas { everywhere: CaBundle::default(), hosts: hosts.collect::<Result<_, CertDirError>>()? })
}

impl HostTrust {
    fn read(files: &HostFiles) -> Result<Self, CertDirError> {
        let mut trust = Self::default();
        let beside = |path: &Path, extension: &str| {
            let wanted = path.with_extension(extension);
            files
                .iter()
                .find(|(other, _)| *other == wanted)
                .ok_or_else(|| CertDirError::new(path, format!("{} is missing beside it", wanted.display())))
        };
        for (path, text) in files {
            let unusable = |reason: String| CertDirError::new(path, reason);
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => {
                    let read = CaBundle::parse(text);
                    trust.authorities.0.extend(read.map_err(|fault| unusable(fault.to_string()))?.0);
                }
                Some("cert") => {
                    let (key_path, key) = beside(path, "key")?;
                    let chain =
                        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
                    let chain = chain.ok().filter(|chain| !chain.is_empty());
                    let chain = chain.ok_or_else(|| unusable("it holds no certificate in PEM".to_owned()))?;
                    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| {
                        CertDirError::new(key_path, "it holds no private key in PEM".to_owned())
                    })?;
                    let provider = rustls::crypto::aws_lc_rs::default_provider();
                    rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).map_err(
                        |error| unusable(format!("it does not fit {}: {error}", key_path.display())),
                    )?;
                    trust.identity = Some(Identity { chain, key: key.secret_der().to_vec() });
                }
                _ => {
                    beside(path, "cert")?;
                }
            }
        }
        Ok(trust)
    }
}

/// A file with certificates that cannot be used.
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
    fn bundles_are_read_with_the_text_between_their_certificates() {
        let (one, _) = issued();
        let (two, _) = issued();
        let crl = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
        for (pem, count) in [
            (one.clone(), 1),
            (format!("# One\n{one}\n\nCertificate:\n    Data:\n{two}"), 2),
            (one.replace('\n', "\r\n"), 1),
            (format!("{crl}{one}"), 1),
        ] {
            assert_eq!(CaBundle::parse(&pem).unwrap().0.len(), count, "{pem}");
        }
    }

    #[test]
    fn rubbish_in_a_bundle_is_named_by_its_line() {
        let (one, key) = issued();
        let (two, _) = issued();
        let lines = one.lines().count();
        let end = "-----END CERTIFICATE-----\n";
        let begin = "-----BEGIN CERTIFICATE-----\n";
        for (between, message) in [
            (format!("{begin}%%%\n{end}"), "the certificate that begins here is no base64"),
            (format!("{begin}{end}"), "the certificate that begins here cannot be used: "),
            (format!("{begin}aGVsbG8=\n{end}"), "the certificate that begins here cannot be used: "),
            (begin.to_owned(), "`BEGIN CERTIFICATE` without its end"),
            (end.to_owned(), "`END CERTIFICATE` without its begin"),
            (format!("{begin}aGVsbG8=\n-----END X-----\n"), "`BEGIN CERTIFICATE` without its end"),
            (key, "a private key stands among CA certificates"),
        ] {
            let error = CaBundle::parse(&format!("{one}{between}{two}")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line {}: {message}", lines + 1)), "{error}");
            assert!(!error.contains("aGVsbG8"), "{error}");
        }
        let error = CaBundle::parse("hello").unwrap_err().to_string();
        assert_eq!(error, "line 1: there is no certificate in PEM");
    }

    #[test]
    fn a_folder_is_read_by_host_and_read_again() {
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
        assert_eq!(error, format!("{}: line 1: there is no certificate in PEM", path.display()));
        assert_eq!(certificates.reload().unwrap(), Reloaded::Same, "a fault is told of once");
        assert_eq!(known("a.example:5000"), (2, false), "what was in force stays");
    }

    #[test]
    fn a_broken_pair_is_named() {
        let (certificate, key) = issued();
        let (_, other) = issued();
        for (files, message) in [
            (vec![("c.cert", certificate.as_str())], "c.cert: FOLDER/h.example/c.key is missing beside it"),
            (vec![("c.key", key.as_str())], "c.key: FOLDER/h.example/c.cert is missing beside it"),
            (vec![("c.cert", ""), ("c.key", &key)], "c.cert: it holds no certificate in PEM"),
            (vec![("c.cert", &certificate), ("c.key", "")], "c.key: it holds no private key in PEM"),
            (
                vec![("c.cert", &certificate), ("c.key", &other)],
                "c.cert: it does not fit FOLDER/h.example/c.key: ",
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
            assert!(!error.contains("PRIVATE"), "{error}");
        }
    }

    #[test]
    fn the_first_of_the_usual_folders_counts_and_broken_hosts_are_passed_over() {
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

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(-----BEGIN [A-Z ]{0,12}-----|-----END [A-Z ]{0,12}-----|[A-Za-z0-9+/=%]{0,8}|\n){0,12}") {
            let _ = CaBundle::parse(&text);
        }
    }
}
