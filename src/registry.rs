//! The client of the OCI distribution protocol: which manifest does a reference name, and what does
//! it list?
//!
//! Owns what a client is made of. [`manifests`] and [`images`] answer questions about images,
//! [`release`] about release payloads; [`mirrors`] says which endpoints are asked, [`repository_client`]
//! talks to one of them with the credentials of [`auth`] over [`http`], [`cache`] keeps the answers, and
//! [`waiting`] bounds how long all of it may take. Settings are read from [`files`]. Bodies are only trusted
//! when they have the digest that they should.

pub mod auth;
pub(crate) mod cache;
pub mod files;
pub mod http;
pub(crate) mod images;
pub(crate) mod manifests;
pub mod mirrors;
pub(crate) mod oci;
pub mod release;
pub(crate) mod repository_client;
pub(crate) mod single_flight;
pub(crate) mod waiting;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::model::facts::Manifest;
use crate::model::facts::image::Payload;
use crate::registry::auth::keychain::Keychain;
use crate::registry::auth::token::Tokens;
use crate::registry::cache::AnswerCache;
use crate::registry::http::proxy::{Proxies, ProxySettings};
use crate::registry::http::tls_roots::CertDirs;
use crate::registry::http::transport::Transport;
use crate::registry::mirrors::registries_conf::RegistriesConf;
use crate::registry::oci::{ImageConfigFile, OciDocument};

pub use crate::registry::http::host_limiter::HostLimits;
pub use crate::registry::http::transport::SetUpError;

/// The parts of a client.
#[derive(Debug)]
pub struct RegistrySettings {
    /// Credentials of registries.
    pub credentials: Keychain,
    /// Mirrors, blocked and insecure registries.
    pub registries: RegistriesConf,
    /// The CAs that registries are trusted by.
    pub certificates: CertDirs,
    /// The proxies between here and registries.
    pub proxies: Proxies,
    /// How many requests go to one host.
    pub limits: HostLimits,
}

impl From<Keychain> for RegistrySettings {
    fn from(credentials: Keychain) -> Self {
        Self {
            credentials,
            registries: RegistriesConf::none(),
            certificates: CertDirs::of_system(),
            proxies: Proxies::new(ProxySettings::from_environment()),
            limits: HostLimits::default(),
        }
    }
}

/// Asks registries, and caches their answers.
#[derive(Debug)]
pub struct RegistryClient {
    /// The credentials of registries.
    pub credentials: Keychain,
    /// The mirrors, blocked and insecure registries.
    pub registries: RegistriesConf,
    /// The CAs that registries are trusted by.
    pub certificates: Arc<CertDirs>,
    /// The proxies between here and registries.
    pub proxies: Arc<Proxies>,
    transport: Transport,
    tokens: Tokens,
    manifests: AnswerCache<Manifest>,
    documents: AnswerCache<Arc<OciDocument>>,
    configs: AnswerCache<Arc<ImageConfigFile>>,
    images: images::ImageCache,
    payloads: AnswerCache<Payload>,
    payload_turns: Semaphore,
    metrics: Arc<Metrics>,
}

impl RegistryClient {
    /// Makes a client. Fails when the TLS roots of the system are broken.
    pub fn new(
        settings: impl Into<RegistrySettings>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, SetUpError> {
        let RegistrySettings { credentials, registries, certificates, proxies, limits } = settings.into();
        let (certificates, proxies) = (Arc::new(certificates), Arc::new(proxies));
        let transport =
            Transport::new(Arc::clone(&certificates), Arc::clone(&proxies), limits, Arc::clone(&metrics))?;
        Ok(Arc::new(Self {
            credentials,
            registries,
            certificates,
            proxies,
            transport,
            tokens: Tokens::new(),
            manifests: AnswerCache::of_presence("manifest"),
            documents: AnswerCache::of_content("document", images::MAX_DOCUMENTS, |document| {
                document.weight()
            }),
            configs: AnswerCache::of_content("config", images::MAX_CONFIGS, |config| config.weight()),
            images: images::ImageCache::new(),
            payloads: AnswerCache::of_content(
                "payload",
                release::payload::MAX_PAYLOADS,
                release::payload::weight,
            ),
            payload_turns: Semaphore::new(release::payload::CONCURRENT_READS),
            metrics,
        }))
    }
}
