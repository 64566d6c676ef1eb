//! The serving certificate: read, checked, and reloaded while the program runs.
//!
//! Certificate and key must belong together. Without files a certificate is made, and the certificate of its CA is
//! written for clients to trust.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime};
use x509_parser::x509::X509Version;

use crate::reload::{Reloadable, Reloaded};
use crate::tls::pem;

/// The certificate in use. It can be replaced while connections are made.
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

/// The content of the two files.
type PairContent = (Vec<u8>, Vec<u8>);

impl ServingCertificate {
    /// Reads a certificate chain and its key, both PEM. Fails when they cannot be used together.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = PairFiles { certificate: certificate.to_owned(), key: key.to_owned() };
        let pair = Reloadable::from_content(&files.read()?, |content| files.pair(content))?;
        Ok(Self { files: Some(files), pair })
    }

    /// Makes a certificate for this machine and a CA that signs it. Returns the certificate of the CA in PEM; its key
    /// is not kept.
    pub fn self_signed(address: IpAddr) -> Result<(Self, String), CertificateError> {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::seconds(Timestamp::now().as_second());
        let (from, until) = (now - Duration::HOUR, now + Duration::seconds(SELF_SIGNED_SECONDS));
        let authority_key = KeyPair::generate().map_err(CertificateError::made)?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        authority.distinguished_name.push(DnType::CommonName, "layerpin self-signed CA");
        (authority.not_before, authority.not_after) = (from, until);
        let authority_certificate = authority.self_signed(&authority_key).map_err(CertificateError::made)?;
        let issuer = Issuer::new(authority, authority_key);
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !address.is_unspecified() && !address.is_loopback() {
            names.push(address.to_string());
        }
        let mut leaf = CertificateParams::new(names).map_err(CertificateError::made)?;
        leaf.distinguished_name.push(DnType::CommonName, "layerpin");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (leaf.not_before, leaf.not_after) = (from, until);
        let leaf_key = KeyPair::generate().map_err(CertificateError::made)?;
        let certificate = leaf.signed_by(&leaf_key, &issuer).map_err(CertificateError::made)?;
        let key = PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into());
        let key = with_key(vec![certificate.der().clone()], key).map_err(CertificateError::made)?;
        let pair = Pair { key, begin: from.unix_timestamp(), expiry: until.unix_timestamp() };
        Ok((Self { files: None, pair: Reloadable::new(pair) }, authority_certificate.pem()))
    }

    /// When the certificate expires, in seconds since 1970.
    pub fn expiry(&self) -> i64 {
        self.pair.current().expiry
    }

    /// Why clients reject the certificate at `now`, and what to do; `None` when it is valid.
    ///
    /// The server goes on: the renewed certificate is loaded without a restart.
    pub fn fault(&self, now: Timestamp) -> Option<String> {
        let pair = self.pair.current();
        let at = |second| Timestamp::from_second(second).map_or_else(|_| "never".into(), |at| at.to_string());
        let file = self.files.as_ref().map(|files| format!("{} ", files.certificate.display()));
        let file = file.unwrap_or_default();
        let fault = if pair.expiry <= now.as_second() {
            let end = at(pair.expiry);
            format!("{file}expired at {end}; renew it, the new one is loaded without a restart")
        } else if pair.begin > now.as_second() {
            let begin = at(pair.begin);
            format!("{file}is not valid before {begin}; check the clock of this machine")
        } else {
            return None;
        };
        Some(format!("the serving certificate {fault}"))
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

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.pair.current().key))
    }
}

impl PairFiles {
    fn read(&self) -> Result<PairContent, CertificateError> {
        Ok((read(&self.certificate)?, read(&self.key)?))
    }

    fn pair(&self, (certificate, key): &PairContent) -> Result<Pair, CertificateError> {
        let of_certificate = |reason| CertificateError::unusable(&self.certificate, reason);
        let chain = pem::certificate_chain(certificate).map_err(of_certificate)?;
        let key = pem::private_key(key).map_err(|reason| CertificateError::unusable(&self.key, reason))?;
        let (begin, expiry) =
            validity(&chain).map_err(|reason| of_certificate(format!("the first certificate {reason}")))?;
        let key = with_key(chain, key).map_err(|error| match error {
            rustls::Error::InvalidCertificate(reason) => {
                of_certificate(format!("the first certificate cannot be used: {reason}"))
            }
            other => CertificateError::Unusable(format!(
                "{} and {} do not match: {other}; the key must belong to the first certificate in the file",
                self.certificate.display(),
                self.key.display()
            )),
        })?;
        Ok(Pair { key, begin, expiry })
    }
}

/// From and until when the first certificate is valid. Fails for one that no client accepts.
fn validity(chain: &[CertificateDer<'_>]) -> Result<(i64, i64), String> {
    let leaf = chain.first().ok_or("is missing")?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(leaf).map_err(|error| format!("cannot be read: {error}"))?;
    if parsed.version() != X509Version::V3 {
        let version = parsed.version().0 + 1;
        return Err(format!(
            "is of X.509 version {version}, which no client accepts; make one of version 3, with the names of the \
             server in `subjectAltName`"
        ));
    }
    let validity = parsed.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn with_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, rustls::Error> {
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map(Arc::new)
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {}", path.display(), crate::errors::words(reason))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        reason: std::io::Error,
    },
    /// The content of a file is not valid, a key does not belong to its certificate, or a certificate could not be
    /// made: the message.
    #[error("{0}")]
    Unusable(String),
}

impl CertificateError {
    pub(super) fn unusable(path: &Path, reason: impl Display) -> Self {
        Self::Unusable(format!("{} cannot be used: {reason}", path.display()))
    }

    pub(super) fn made(error: impl Display) -> Self {
        Self::Unusable(format!("cannot make a certificate: {error}"))
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|reason| CertificateError::Unreadable { path: path.to_owned(), reason })
}

/// A year.
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
    fn a_matching_new_pair_is_loaded_and_another_one_is_not() {
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
        assert!(error.to_string().contains("do not match"), "{error}");
        assert_eq!(serving.reload().unwrap(), Reloaded::Same, "an error is returned once");
        assert_eq!(in_force(), first);
        files.write(&two, &two_key);
        assert_eq!(serving.reload().unwrap(), Reloaded::Changed);
        assert_ne!(in_force(), first);
        std::fs::remove_file(files.key()).unwrap();
        assert!(matches!(serving.reload(), Err(CertificateError::Unreadable { .. })));
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let files = PairPaths::new();
        let (certificate, key) = issued();
        let (_, other) = issued();
        let secret = key.lines().nth(1).unwrap().to_owned();
        for (certificate, key, part) in [
            (certificate.as_str(), "", "tls.key cannot be used: no private key in PEM format; "),
            ("", key.as_str(), "tls.crt cannot be used: no certificate in PEM format; "),
            (&certificate, &other, "do not match"),
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
    fn a_self_signed_certificate_is_valid_for_a_year_and_comes_with_its_authority() {
        let (serving, authority) = ServingCertificate::self_signed("127.0.0.1".parse().unwrap()).unwrap();
        let left = serving.expiry() - Timestamp::now().as_second();
        assert!((SELF_SIGNED_SECONDS - 60..=SELF_SIGNED_SECONDS).contains(&left), "{left}");
        assert!(authority.starts_with("-----BEGIN CERTIFICATE-----") && !authority.contains("PRIVATE"));
    }

    /// As `openssl x509 -req -signkey` makes it without extensions.
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
