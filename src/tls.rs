//! The serving certificate: loaded, checked, and read again while the program runs.
//!
//! Owns what counts as a pair that fits together. A new pair that does not never replaces a good
//! one. Where no pair is given, one is made whose CA is written out for clients to trust. An
//! [`TlsEndpoint`] is what one address shows and asks for; [`protocol`] has what is spoken.

pub mod pem;
pub mod profile;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::x509::X509Version;

use crate::reload::{Reloadable, Reloaded};
use crate::tls::pem::CaBundle;
use crate::tls::profile::Protocol;

/// The certificate in force; it can be replaced while connections are made.
#[derive(Debug)]
pub struct ServingCertificate {
    files: Option<PairFiles>,
    pair: Reloadable<Pair>,
}

#[derive(Debug)]
struct PairFiles {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug)]
struct Pair {
    key: Arc<CertifiedKey>,
    /// In seconds since 1970, as is the expiry.
    begin: i64,
    expiry: i64,
}

#[derive(Hash)]
struct PairContent {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl ServingCertificate {
    /// Reads a certificate chain and its key, both PEM. Fails when they cannot be used together.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = PairFiles { certificate: certificate.to_owned(), key: key.to_owned() };
        let pair = Reloadable::from_content(&files.read()?, |content| files.pair(content))?;
        Ok(Self { files: Some(files), pair })
    }

    /// Makes a certificate for this machine and the CA that signs it. Only the CA's certificate leaves
    /// the process, in PEM; its key is forgotten at once.
    pub fn self_signed(address: IpAddr) -> Result<(Self, String), CertificateError> {
        let made = |error: rcgen::Error| CertificateError::Made(error.to_string());
        let now = Timestamp::now().as_second();
        let (from, until) = (validity(now - 3600)?, validity(now + SELF_SIGNED_SECONDS)?);
        let authority_key = KeyPair::generate().map_err(made)?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        authority.distinguished_name.push(DnType::CommonName, "layerpin self-signed CA");
        (authority.not_before, authority.not_after) = (from, until);
        let authority_certificate = authority.self_signed(&authority_key).map_err(made)?;
        let issuer = Issuer::new(authority, authority_key);
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !address.is_unspecified() && !address.is_loopback() {
            names.push(address.to_string());
        }
        let mut leaf = CertificateParams::new(names).map_err(made)?;
        leaf.distinguished_name.push(DnType::CommonName, "layerpin");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (leaf.not_before, leaf.not_after) = (from, until);
        let leaf_key = KeyPair::generate().map_err(made)?;
        let certificate = leaf.signed_by(&leaf_key, &issuer).map_err(made)?;
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(leaf_key.serialize_der())
            .map_err(|error| CertificateError::Made(error.to_owned()))?;
        let pair = Pair::new(chain, key).map_err(|misfit| CertificateError::Made(misfit.into_reason()))?;
        Ok((Self { files: None, pair: Reloadable::new(pair) }, authority_certificate.pem()))
    }

    /// When the certificate in force ends, in seconds since 1970.
    pub fn expiry(&self) -> i64 {
        self.pair.current().expiry
    }

    /// Why clients do not accept the certificate in force at `now`, and what to do; `None` when it counts.
    ///
    /// No reason to stop: whoever renews it puts it where it is read again.
    pub fn fault(&self, now: Timestamp) -> Option<String> {
        let pair = self.pair.current();
        let at = |second| Timestamp::from_second(second).map_or_else(|_| "never".into(), |at| at.to_string());
        let file = self.files.as_ref().map(|files| format!(" {}", files.certificate.display()));
        let file = file.unwrap_or_default();
        if pair.expiry <= now.as_second() {
            let end = at(pair.expiry);
            Some(format!(
                "the serving certificate{file} has ended at {end}; renew it, and the new one is taken over"
            ))
        } else if pair.begin > now.as_second() {
            let begin = at(pair.begin);
            Some(format!("the serving certificate{file} does not count before {begin}; is the clock right?"))
        } else {
            None
        }
    }

    /// Reads the files again. Fails once for each content that cannot be used; the previous pair stays in
    /// use.
    ///
    /// The files may be read while only one of the two is replaced; they then do not match, and the next
    /// reload reads both.
    pub fn reload(&self) -> Result<Reloaded, CertificateError> {
        let Some(files) = &self.files else { return Ok(Reloaded::Same) };
        self.pair.reload(files.read(), |content| files.pair(content))
    }
}

/// Whose certificates callers must have.
#[derive(Clone, Debug)]
pub struct ClientAuthority(Arc<dyn ClientCertVerifier>);

impl ClientAuthority {
    /// Reads CA certificates in PEM, with any text between them. Fails with the line of the first that
    /// cannot be used: a caller would be turned away for it later, and nobody would know why.
    pub fn from_file(path: &Path) -> Result<Self, CertificateError> {
        let unusable = |reason: String| CertificateError::Unusable { path: path.to_owned(), reason };
        let bundle = CaBundle::parse(&String::from_utf8_lossy(&read(path)?));
        let bundle = bundle.map_err(|fault| unusable(format!("{fault}; mend it or take it out")))?;
        let mut roots = RootCertStore::empty();
        for certificate in bundle.into_certificates() {
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Self(verifier.map_err(|error| unusable(error.to_string()))?))
    }
}

/// How one address shakes hands. What is spoken can be changed while connections are made.
#[derive(Debug)]
pub struct TlsEndpoint {
    certificate: Arc<ServingCertificate>,
    callers: Arc<dyn ClientCertVerifier>,
    current: ArcSwap<ServerConfig>,
}

impl TlsEndpoint {
    /// Shows `certificate`, and speaks HTTP/2 and HTTP/1.1. With `client_authority` only clients with a
    /// certificate from it get through the handshake.
    pub fn new(
        certificate: Arc<ServingCertificate>,
        client_authority: Option<&ClientAuthority>,
        protocol: &Protocol,
    ) -> Result<Self, CertificateError> {
        let callers = match client_authority {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(authority) => Arc::clone(&authority.0),
        };
        let current = ArcSwap::new(settings(&certificate, &callers, protocol)?);
        Ok(Self { certificate, callers, current })
    }

    /// The settings for a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Speaks `protocol` on new connections from now on. No session of before is taken up again.
    pub fn speak(&self, protocol: &Protocol) -> Result<(), CertificateError> {
        self.current.store(settings(&self.certificate, &self.callers, protocol)?);
        Ok(())
    }
}

fn settings(
    certificate: &Arc<ServingCertificate>,
    callers: &Arc<dyn ClientCertVerifier>,
    protocol: &Protocol,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(protocol.provider()))
        .with_protocol_versions(&protocol.versions())
        .map_err(|error| CertificateError::Made(error.to_string()))?
        .with_client_cert_verifier(Arc::clone(callers))
        .with_cert_resolver(Arc::clone(certificate) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.pair.current().key))
    }
}

impl PairFiles {
    fn read(&self) -> Result<PairContent, CertificateError> {
        Ok(PairContent { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }

    fn pair(&self, content: &PairContent) -> Result<Pair, CertificateError> {
        let chain = pem::certificate_chain(&content.certificate)
            .map_err(|reason| CertificateError::Unusable { path: self.certificate.clone(), reason })?;
        let key = pem::private_key(&content.key)
            .map_err(|reason| CertificateError::Unusable { path: self.key.clone(), reason })?;
        Pair::new(chain, key).map_err(|error| match error {
            PairMismatch::Certificate(reason) => {
                CertificateError::Unusable { path: self.certificate.clone(), reason }
            }
            PairMismatch::Pair(reason) => CertificateError::Pair {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
                reason,
            },
        })
    }
}

impl Pair {
    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, PairMismatch> {
        let of_certificate =
            |reason: String| PairMismatch::Certificate(format!("the first certificate {reason}"));
        let leaf = chain.first().ok_or_else(|| of_certificate("is missing".to_owned()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
            .map_err(|error| of_certificate(format!("cannot be read: {error}")))?;
        if parsed.version() != X509Version::V3 {
            let version = parsed.version().0 + 1;
            return Err(of_certificate(format!(
                "is of X.509 version {version}, which no client accepts; make one of version 3, with the names \
                 of the server in `subjectAltName`"
            )));
        }
        let begin = parsed.validity().not_before.timestamp();
        let expiry = parsed.validity().not_after.timestamp();
        let key =
            CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(
                |error| match error {
                    rustls::Error::InvalidCertificate(reason) => {
                        of_certificate(format!("cannot be used: {reason}"))
                    }
                    other => PairMismatch::Pair(other.to_string()),
                },
            )?;
        Ok(Self { key: Arc::new(key), begin, expiry })
    }
}

/// Why a chain and a key are no pair.
enum PairMismatch {
    /// The certificate is no good with any key.
    Certificate(String),
    /// The key is, or it is another's.
    Pair(String),
}

impl PairMismatch {
    fn into_reason(self) -> String {
        match self {
            Self::Certificate(reason) | Self::Pair(reason) => reason,
        }
    }
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {}", path.display(), crate::errors::words(reason))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not belong together, or the key is broken.
    #[error(
        "{} and {} do not fit together: {reason}; the key must be that of the first certificate",
        certificate.display(),
        key.display()
    )]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        reason: String,
    },
    /// A pair of our own could not be made.
    #[error("cannot make a certificate: {0}")]
    Made(String),
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|reason| CertificateError::Unreadable { path: path.to_owned(), reason })
}

fn validity(second: i64) -> Result<time::OffsetDateTime, CertificateError> {
    time::OffsetDateTime::from_unix_timestamp(second)
        .map_err(|error| CertificateError::Made(error.to_string()))
}

/// A year: whoever needs longer brings a pair.
const SELF_SIGNED_SECONDS: i64 = 365 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    struct PairPaths {
        folder: tempfile::TempDir,
    }

    impl PairPaths {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn certificate(&self) -> PathBuf {
            self.folder.path().join("tls.crt")
        }

        fn key(&self) -> PathBuf {
            self.folder.path().join("tls.key")
        }

        fn write(&self, certificate: &str, key: &str) {
            std::fs::write(self.certificate(), certificate).unwrap();
            std::fs::write(self.key(), key).unwrap();
        }
    }

    fn issued() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn a_new_pair_is_taken_over_and_one_that_does_not_fit_is_not() {
        let files = PairPaths::new();
        let (one, one_key) = issued();
        let (two, two_key) = issued();
        files.write(&one, &one_key);
        let serving = ServingCertificate::from_files(&files.certificate(), &files.key()).unwrap();
        let in_force = || serving.pair.current().key.cert[0].clone();
        let first = in_force();
        assert_eq!(serving.reload().unwrap(), Reloaded::Same);
        files.write(&two, &one_key);
        let error = serving.reload().unwrap_err();
        assert!(error.to_string().contains("do not fit together"), "{error}");
        assert_eq!(serving.reload().unwrap(), Reloaded::Same, "an error is returned once");
        assert_eq!(in_force(), first);
        files.write(&two, &two_key);
        assert_eq!(serving.reload().unwrap(), Reloaded::Changed);
        assert_ne!(in_force(), first);
        std::fs::remove_file(files.key()).unwrap();
        assert!(matches!(serving.reload(), Err(CertificateError::Unreadable { .. })));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let files = PairPaths::new();
        let (certificate, key) = issued();
        let (_, other) = issued();
        let secret = key.lines().nth(1).unwrap().to_owned();
        for (certificate, key, part) in [
            (certificate.as_str(), "", "tls.key cannot be used: no private key in PEM format; "),
            ("", key.as_str(), "tls.crt cannot be used: no certificate in PEM format; "),
            (&certificate, &other, "do not fit together"),
            (&key, &key, "tls.crt cannot be used: no certificate in PEM format; "),
            (
                VERSION_1,
                &key,
                "tls.crt cannot be used: the first certificate is of X.509 version 1, which no ",
            ),
        ] {
            files.write(certificate, key);
            let error =
                ServingCertificate::from_files(&files.certificate(), &files.key()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains(&secret), "{error}");
        }
    }

    #[test]
    fn a_certificate_of_our_own_lasts_a_year_and_comes_with_its_authority() {
        let (serving, authority) = ServingCertificate::self_signed("127.0.0.1".parse().unwrap()).unwrap();
        let left = serving.expiry() - Timestamp::now().as_second();
        assert!((SELF_SIGNED_SECONDS - 60..=SELF_SIGNED_SECONDS).contains(&left), "{left}");
        assert!(authority.starts_with("-----BEGIN CERTIFICATE-----") && !authority.contains("PRIVATE"));
    }

    /// As `openssl x509 -req -signkey` makes it where no extension is asked for.
    const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBIjCByQIUW4Bte3G8paaxrRbcZjFzqum5RPUwCgYIKoZIzj0EAwIwEzERMA8G
A1UEAwwIbGF5ZXJwaW4wIBcNMjYxMTI2MTcyNDI4WhgPMjEyNjExMDIxNzI0Mjha
MBMxETAPBgNVBAMMCGxheWVycGluMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
9TOQczRGHOEmiD0CobTDffEneyiguSjTGfGXuBS5BjznqchU3S4csVIYY6jFap4O
DPyNhCjoCTJ/h4erYhcYozAKBggqhkjOPQQDAgNIADBFAiEAs71WYzYl1cKynXLr
GjDQeX9Gguq301WJPmNoyq9Waa4CIEfvBy+Fo6ZpUtTVml+sxiWCA5aTiutB/1ue
xwecTq9b
-----END CERTIFICATE-----";
}
