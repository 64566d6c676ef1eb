//! Certificates in PEM format (RFC 7468).
//!
//! Text between certificates is a comment (section 5.2). A bundle with a part that cannot be used is
//! refused with the line: a certificate that is left out without a word shows later, as a connection that
//! is not trusted.

use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::text::shown;

/// CA certificates.
#[derive(Clone, derive_more::Debug, Default, PartialEq, Eq)]
#[debug("CaBundle({})", _0.len())]
pub struct CaBundle(Vec<CertificateDer<'static>>);

impl CaBundle {
    /// Parses CA certificates. Fails with the line of the first block that cannot be used, and when there is
    /// no certificate.
    pub fn parse(pem: &str) -> Result<Self, PemError> {
        let mut found = Vec::new();
        let mut block: Option<PemBlock<'_>> = None;
        for (index, text) in pem.lines().enumerate() {
            let (line, text) = (index + 1, text.trim());
            let marker = text.strip_prefix("-----").and_then(|rest| rest.strip_suffix("-----"));
            match (marker.and_then(|marker| marker.split_once(' ')), &mut block) {
                (Some(("BEGIN", label)), None) => {
                    block = Some(PemBlock { line, label, base64: String::new() });
                }
                (Some(("END", label)), Some(begun)) if begun.label == label => {
                    found.extend(begun.certificate()?);
                    block = None;
                }
                (Some(("BEGIN" | "END", _)), Some(block)) => return Err(block.is_open()),
                (Some(("END", label)), None) => {
                    let message = format!("`END {0}` without `BEGIN {0}`", shown(label));
                    return Err(PemError { line, message });
                }
                (_, Some(block)) => block.base64.push_str(text),
                (_, None) => {}
            }
        }
        match block {
            Some(block) => Err(block.is_open()),
            None if found.is_empty() => {
                Err(PemError { line: 1, message: "no certificate in PEM format".to_owned() })
            }
            None => Ok(Self(found)),
        }
    }

    /// The certificates, in the order of the bundle.
    pub fn into_certificates(self) -> Vec<CertificateDer<'static>> {
        self.0
    }

    /// Adds the certificates of `other`.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// Parses a certificate and those that lead from it to a CA. Other blocks, such as the key, may be in the
/// same text. Fails with what is wrong and what is expected.
pub(crate) fn certificate_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let expected = |reason: &str| format!("{reason}; PEM that begins with `BEGIN CERTIFICATE` is expected");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| expected(&error.to_string()))?;
    if chain.is_empty() { Err(expected("no certificate in PEM format")) } else { Ok(chain) }
}

/// Parses a private key. Fails with what is expected, and never with what the text holds.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        "no private key in PEM format; PEM that begins with `BEGIN PRIVATE KEY` is expected".to_owned()
    })
}

struct PemBlock<'a> {
    /// Where it begins.
    line: usize,
    label: &'a str,
    base64: String,
}

impl PemBlock<'_> {
    /// The certificate; `None` for a valid block of another kind, such as a revocation list.
    fn certificate(&self) -> Result<Option<CertificateDer<'static>>, PemError> {
        let error = |message: String| Err(PemError { line: self.line, message });
        if self.label.ends_with("PRIVATE KEY") {
            return error("a private key among CA certificates".to_owned());
        }
        if self.label != "CERTIFICATE" {
            return Ok(None);
        }
        let Ok(der) = BASE64_STANDARD.decode(&self.base64) else {
            return error("the certificate that begins here is not valid base64".to_owned());
        };
        let certificate = CertificateDer::from(der);
        match RootCertStore::empty().add(certificate.clone()) {
            Ok(()) => Ok(Some(certificate)),
            Err(reason) => error(format!("the certificate that begins here cannot be used: {reason}")),
        }
    }

    fn is_open(&self) -> PemError {
        let message = format!("`BEGIN {0}` without `END {0}`", shown(self.label));
        PemError { line: self.line, message }
    }
}

/// What is wrong with a CA bundle, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct PemError {
    line: usize,
    message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["registry.example".into()]).unwrap();
        (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn text_between_certificates_is_a_comment() {
        let (one, _) = issued();
        let (two, _) = issued();
        let revocations = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
        for (pem, count) in [
            (one.clone(), 1),
            (format!("# One\n{one}\n\nCertificate:\n    Data:\n{two}"), 2),
            (one.replace('\n', "\r\n"), 1),
            (format!("{revocations}{one}"), 1),
        ] {
            assert_eq!(CaBundle::parse(&pem).unwrap().0.len(), count, "{pem}");
        }
    }

    #[test]
    fn an_error_has_the_line_and_never_the_content() {
        let (one, key) = issued();
        let (two, _) = issued();
        let lines = one.lines().count();
        let end = "-----END CERTIFICATE-----\n";
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let open = "`BEGIN CERTIFICATE` without `END CERTIFICATE`";
        for (between, message) in [
            (format!("{begin}%%%\n{end}"), "the certificate that begins here is not valid base64"),
            (format!("{begin}{end}"), "the certificate that begins here cannot be used: "),
            (format!("{begin}aGVsbG8=\n{end}"), "the certificate that begins here cannot be used: "),
            (begin.to_owned(), open),
            (end.to_owned(), "`END CERTIFICATE` without `BEGIN CERTIFICATE`"),
            (format!("{begin}aGVsbG8=\n-----END X-----\n"), open),
            (key, "a private key among CA certificates"),
        ] {
            let error = CaBundle::parse(&format!("{one}{between}{two}")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line {}: {message}", lines + 1)), "{error}");
            assert!(!error.contains("aGVsbG8"), "{error}");
        }
        let error = CaBundle::parse("hello").unwrap_err().to_string();
        assert_eq!(error, "line 1: no certificate in PEM format");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(-----BEGIN [A-Z ]{0,12}-----|-----END [A-Z ]{0,12}-----|[A-Za-z0-9+/=%]{0,8}|\n){0,12}") {
            let _ = CaBundle::parse(&text);
        }
    }
}
