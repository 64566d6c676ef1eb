//! The client of the OCI distribution protocol: which manifest does a reference name, and what does
//! it list?
//!
//! Owns what is asked for one question: HEAD first for a manifest's name, GET where HEAD tells no
//! digest. [`routes`] and [`endpoints`] say who is asked, [`images`] reads manifests and configs,
//! [`payload`] a file out of layers, [`dialogue`] talks to a registry, [`transport`] carries requests
//! no faster than [`gate`] allows, [`credentials`] and [`tokens`] say what to show, and [`answers`]
//! remembers. Bodies are only trusted when they have the digest that they should.

pub mod auth;
pub(crate) mod cache;
pub mod http;
pub(crate) mod images;
pub(crate) mod manifests;
pub mod mirrors;
pub(crate) mod oci;
pub mod release;
pub(crate) mod repository_client;
pub(crate) mod single_flight;

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::metrics::Metrics;
use crate::model::facts::image::Payload;
use crate::model::facts::{Cause, Fact, Manifest};
use crate::model::pull_spec::PullSpec;
use crate::registry::auth::keychain::Keychain;
use crate::registry::auth::token::Tokens;
use crate::registry::cache::AnswerCache;
use crate::registry::http::proxy::{Proxies, ProxySettings};
use crate::registry::http::tls_roots::CertDirs;
use crate::registry::http::transport::Transport;
use crate::registry::mirrors::endpoints::Endpoints;
use crate::registry::mirrors::registries_conf::RegistriesConf;
use crate::registry::oci::{ImageConfigFile, OciDocument};
use crate::registry::repository_client::RequestFailure;

pub use crate::registry::http::host_limiter::HostLimits;
pub use crate::registry::http::transport::SetUpError;

/// What a client is made of.
#[derive(Debug)]
pub struct RegistrySettings {
    /// What to show to registries.
    pub credentials: Keychain,
    /// Mirrors, blocked and insecure registries.
    pub registries: RegistriesConf,
    /// By whom registries are trusted.
    pub certificates: CertDirs,
    /// Through whom they are asked.
    pub proxies: Proxies,
    /// How much is asked of one host.
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

/// Asks registries, and remembers what they answered.
#[derive(Debug)]
pub struct RegistryClient {
    transport: Transport,
    credentials: Keychain,
    registries: RegistriesConf,
    certificates: Arc<CertDirs>,
    proxies: Arc<Proxies>,
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
            transport,
            credentials,
            registries,
            certificates,
            proxies,
            tokens: Tokens::new(),
            manifests: AnswerCache::of_presence(),
            documents: AnswerCache::of_content(images::MAX_DOCUMENTS, |document| document.weight()),
            configs: AnswerCache::of_content(images::MAX_CONFIGS, |config| config.weight()),
            images: images::ImageCache::new(),
            payloads: AnswerCache::of_content(release::payload::MAX_PAYLOADS, release::payload::weight),
            payload_turns: release::payload::permits(),
            metrics,
        }))
    }

    /// The credentials that are shown to registries.
    pub fn credentials(&self) -> &Keychain {
        &self.credentials
    }

    /// By whom registries are trusted.
    pub fn certificates(&self) -> &CertDirs {
        &self.certificates
    }

    /// Through whom registries are asked.
    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// The endpoints of `reference`, for an answer by `deadline`.
    pub(crate) fn tour(&self, reference: &PullSpec, deadline: Instant) -> Endpoints<'_> {
        let route = self.registries.current().route(reference);
        Endpoints::new(&self.credentials, route, reference, deadline)
    }

    /// The mirrors, blocked and insecure registries in force.
    pub fn registries(&self) -> &RegistriesConf {
        &self.registries
    }
}

/// The pauses that one caller grants to registries.
///
/// The one who waits is the caller: a question that many have joined ends at once, and each of them
/// knows how much time it has left.
struct Pauses {
    deadline: Instant,
    left: usize,
}

impl Pauses {
    fn until(deadline: Instant) -> Self {
        Self { deadline, left: MAX_PAUSES }
    }

    /// Waits for the end of the pause that `answer` asks for. Tells whether to ask again: not when it
    /// asks for none, or for one beyond the deadline.
    async fn wait<T>(&mut self, answer: &Fact<T>) -> bool {
        let Fact::Unknown(cause) = answer else { return false };
        let Some(until) = cause.pause_end() else { return false };
        let pause = until.duration_since(Timestamp::now());
        // A pause that is over already is over now.
        let again = Instant::now() + Duration::try_from(pause).unwrap_or_default();
        if self.left == 0 || again >= self.deadline {
            return false;
        }
        self.left -= 1;
        sleep_until(again).await;
        true
    }
}

/// The outcome of questions about `reference`, unknown after [`LONGEST_QUESTION`].
async fn in_time<T>(reference: &PullSpec, ask: impl Future<Output = Result<T, RequestFailure>>) -> Fact<T> {
    match timeout(LONGEST_QUESTION, ask).await {
        Ok(outcome) => RequestFailure::fact(outcome),
        Err(_) => Fact::Unknown(Cause::OutOfTime { host: reference.host().to_owned() }),
    }
}

/// The answer of `work` by `deadline`. It is in a box of its own: asking is a large future, and most callers
/// find the answer before it would begin. Work that takes longer goes on for those who come after.
async fn answer_by<T: Send + 'static>(
    deadline: Instant,
    reference: &PullSpec,
    mut work: BoxFuture<'static, Fact<T>>,
) -> Fact<T> {
    // What is remembered is told at once, however little time is left.
    let first = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
    match first {
        Poll::Ready(answer) => answer,
        Poll::Pending => {
            let work = tokio::spawn(work);
            settle(timeout_at(deadline, async { work.await.ok() }).await, reference)
        }
    }
}

pub(crate) fn settle<T>(
    outcome: Result<Option<Fact<T>>, tokio::time::error::Elapsed>,
    reference: &PullSpec,
) -> Fact<T> {
    match outcome {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            tracing::error!(%reference, "a question to a registry ended without an answer");
            Fact::Unknown(Cause::Internal)
        }
        Err(_) => Fact::Unknown(Cause::OutOfTime { host: reference.host().to_owned() }),
    }
}

/// Longer than any webhook waits: whoever asked first may be gone, but those who come after still
/// profit. It bounds how long a frozen registry can hold a question.
const LONGEST_QUESTION: Duration = Duration::from_secs(30);
/// `containers/image` gives up after five pauses, too.
const MAX_PAUSES: usize = 5;
