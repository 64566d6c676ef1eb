//! The TLS settings of one address: its certificate, the clients it accepts, and the protocol.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::tls::certificate::{CertificateError, ServingCertificate, read};
use crate::tls::pem::CaBundle;
use crate::tls::profile::Protocol;

/// The TLS settings of an address. The protocol can be changed while connections are made.
#[derive(Debug)]
pub struct TlsEndpoint {
    certificate: Arc<ServingCertificate>,
    clients: Arc<dyn ClientCertVerifier>,
    current: ArcSwap<ServerConfig>,
}

impl TlsEndpoint {
    /// Offers HTTP/2 and HTTP/1.1. With `client_authority` the handshake fails for clients without a certificate from
    /// it.
    pub fn new(
        certificate: Arc<ServingCertificate>,
        client_authority: Option<&ClientAuthority>,
        protocol: &Protocol,
    ) -> Result<Self, CertificateError> {
        let clients = match client_authority {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(authority) => Arc::clone(&authority.0),
        };
        let current = ArcSwap::new(settings(&certificate, &clients, protocol)?);
        Ok(Self { certificate, clients, current })
    }

    /// The settings for a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Uses `protocol` for new connections. Sessions of earlier connections are not resumed.
    pub fn use_protocol(&self, protocol: &Protocol) -> Result<(), CertificateError> {
        self.current.store(settings(&self.certificate, &self.clients, protocol)?);
        Ok(())
    }
}

fn settings(
    certificate: &Arc<ServingCertificate>,
    clients: &Arc<dyn ClientCertVerifier>,
    protocol: &Protocol,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(protocol.provider()))
        .with_protocol_versions(&protocol.versions())
        .map_err(CertificateError::made)?
        .with_client_cert_verifier(Arc::clone(clients))
        .with_cert_resolver(Arc::clone(certificate) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The CA that issues client certificates.
#[derive(Clone, Debug)]
pub struct ClientAuthority(Arc<dyn ClientCertVerifier>);

impl ClientAuthority {
    /// Reads CA certificates in PEM, with any text between them. Fails with the line of the first that cannot be used,
    /// because otherwise clients would be rejected later without a reason.
    pub fn from_file(path: &Path) -> Result<Self, CertificateError> {
        let unusable = |reason: String| CertificateError::unusable(path, reason);
        let bundle = CaBundle::parse(&String::from_utf8_lossy(&read(path)?));
        let bundle = bundle.map_err(|fault| unusable(format!("{fault}; fix it or remove it")))?;
        let mut roots = RootCertStore::empty();
        for certificate in bundle.into_certificates() {
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Self(verifier.map_err(|error| unusable(error.to_string()))?))
    }
}
