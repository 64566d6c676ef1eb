//! HTTP clients: one for each combination of trusted certificates and proxy.
//!
//! Owns TLS settings and which requests use a proxy. Most hosts share one client; a host with its own
//! certificates and an insecure host have another. The number of clients is limited.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use reqwest::{Client, Url, redirect};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::registry::http::Trust;
use crate::registry::http::address_guard::{GuardedResolver, authority, is_loopback};
use crate::registry::http::proxy::{Proxies, Proxy};
use crate::registry::http::tls_roots::CertDirs;

/// The clients made so far.
#[derive(Debug)]
pub(crate) struct ClientPool {
    made: Cache<ClientKey, Client>,
    roots: RootCertStore,
    certificates: Arc<CertDirs>,
    proxies: Arc<Proxies>,
    idle: usize,
}

/// What makes two hosts need two clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClientKey {
    generation: u64,
    /// The host, if it has its own certificates.
    host: Option<String>,
    trust: Trust,
    proxy: Option<Proxy>,
}

impl ClientPool {
    /// Clients that keep at most `idle` unused connections to a host open. Fails when the settings of the
    /// system do not allow any client.
    pub(crate) fn new(
        certificates: Arc<CertDirs>,
        proxies: Arc<Proxies>,
        idle: usize,
    ) -> Result<Self, reqwest::Error> {
        let made = Cache::builder().max_capacity(MAX_CLIENTS).build();
        let this = Self { made, roots: system_roots(), certificates, proxies, idle };
        // If this client can be built, so can those for hosts with their own settings.
        this.make(&ClientKey { generation: 0, host: None, trust: Trust::Verified, proxy: None })?;
        Ok(this)
    }

    /// The client for `url`.
    pub(crate) fn of(&self, url: &Url, trust: Trust) -> Result<Client, Arc<reqwest::Error>> {
        let host = authority(url);
        let key = ClientKey {
            generation: self.certificates.generation(),
            host: Some(host).filter(|host| self.certificates.knows(host)),
            trust,
            proxy: self.proxy(url),
        };
        self.made.try_get_with_by_ref(&key, || self.make(&key))
    }

    /// The proxy for `url`. Loopback addresses have none, because a proxy is another machine.
    pub(crate) fn proxy(&self, url: &Url) -> Option<Proxy> {
        if is_loopback(url) { None } else { self.proxies.of(url) }
    }

    fn make(&self, key: &ClientKey) -> Result<Client, reqwest::Error> {
        let mut builder = Client::builder()
            .tls_backend_preconfigured(self.tls(key))
            .redirect(redirect::Policy::none())
            .dns_resolver(GuardedResolver)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(self.idle)
            // All requests to a host share one HTTP/2 connection. A dead one must be detected while there is
            // time to send the request again.
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PONG)
            .referer(false)
            .no_proxy()
            .user_agent(concat!("layerpin/", env!("CARGO_PKG_VERSION")));
        if let Some(proxy) = &key.proxy {
            builder = builder.proxy(proxy.for_client()?);
        }
        builder.build()
    }

    #[expect(clippy::disallowed_methods, reason = "only for registries that are configured as insecure")]
    fn tls(&self, key: &ClientKey) -> ClientConfig {
        let mut roots = self.roots.clone();
        let identity = self.certificates.complete(&mut roots, key.host.as_deref().unwrap_or_default());
        let builder = match key.trust {
            Trust::Verified => ClientConfig::builder().with_root_certificates(roots),
            Trust::Insecure => {
                let verifier = Unverified(Arc::clone(ClientConfig::builder().crypto_provider()));
                ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        let mut tls = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity.0),
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        tls
    }
}

/// Accepts any certificate, for registries that are configured as `insecure`. Signatures of the handshake are
/// still verified.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The CA certificates of the system. A container without any still starts, and then trusts no registry.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read a CA certificate of the system");
    }
    let (_, broken) = roots.add_parsable_certificates(found.certs);
    if broken > 0 {
        tracing::warn!(broken, "some CA certificates of the system cannot be used");
    }
    roots
}

const CONNECT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(60);
const PING: Duration = Duration::from_secs(2);
const PONG: Duration = Duration::from_secs(2);
/// A client has some hundred kilobytes, mostly CA certificates. A cluster has a handful of registries with their
/// own certificates.
const MAX_CLIENTS: u64 = 128;
