//! Certificates for servers on loopback, and for their clients.
//!
//! An [`Authority`] signs, a [`TlsIdentity`] is what a server shows. Nothing is
//! installed for the whole process: a client under test chooses for itself
//! whom to trust and which provider of cryptography to use.

use std::fmt;
use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate authority with a fresh key.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority that nobody trusts yet.
    pub fn new() -> Self {
        Self::named("Sample Registry CA")
    }

    /// Makes an authority with `common_name` as the name of its subject.
    pub fn named(common_name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer =
            CertifiedIssuer::self_signed(parameters, fresh_key()).expect("parameters that can be signed");
        Self { issuer }
    }

    /// Returns the certificate of the authority in PEM, for a client to trust.
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a server certificate for `names`, each a DNS name or an IP address.
    ///
    /// # Panics
    ///
    /// When a name is not ASCII.
    pub fn issue(&self, names: &[&str]) -> TlsIdentity {
        self.sign(names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Issues a certificate by which a client called `common_name` is known.
    ///
    /// # Panics
    ///
    /// When the name is not ASCII.
    pub fn issue_client(&self, common_name: &str) -> TlsIdentity {
        self.sign(&[common_name], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> TlsIdentity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let common_name = names.first().map_or("unnamed", String::as_str).to_owned();
        let mut parameters = CertificateParams::new(names).expect("names of ASCII");
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![purpose];
        let key = fresh_key();
        let certificate = parameters.signed_by(&key, &self.issuer).expect("parameters that can be signed");
        TlsIdentity {
            certificate_der: certificate.der().to_vec(),
            certificate_pem: certificate.pem(),
            key_der: key.serialize_der(),
            key_pem: key.serialize_pem(),
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate with its key: what a TLS server shows, or a client.
#[derive(Clone)]
pub struct TlsIdentity {
    certificate_der: Vec<u8>,
    certificate_pem: String,
    key_der: Vec<u8>,
    key_pem: String,
}

impl TlsIdentity {
    /// Returns the certificate in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns the private key in PEM, as PKCS #8.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Returns the certificate in DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// Returns the private key in DER, as PKCS #8.
    pub(crate) fn key_der(&self) -> &[u8] {
        &self.key_der
    }

    pub(crate) fn server_config(&self) -> io::Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificate = CertificateDer::from(self.certificate_der.clone());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
            .map(Arc::new)
            .map_err(io::Error::other)
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TlsIdentity")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// Makes a key for ECDSA on P-256, which every client supports.
fn fresh_key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("randomness from the system")
}
