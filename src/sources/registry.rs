//! The client of the OCI distribution protocol: which manifest does a reference name?
//!
//! Owns the dialogue for one question: HEAD first, GET where HEAD tells no digest, one round of
//! authentication. [`transport`] carries requests, [`credentials`] and [`tokens`] say what to show,
//! and [`answers`] remembers. Bodies are only trusted when they have the digest that they should.

mod answers;
mod challenge;
pub mod credentials;
mod flights;
mod gate;
pub mod mirror_sets;
pub mod registries_conf;
pub mod routes;
mod tokens;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Method, StatusCode};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use self::answers::Answers;
use self::challenge::Challenge;
use self::credentials::{Credential, Credentials};
use self::tokens::{Authorization, Tokens};
use self::transport::{Reply, Target, Transport};
use crate::digest::Digest;
use crate::facts::{AsNodes, Cause, Fact, Manifest, ManifestKind, Shown};
use crate::image_reference::ImageReference;
use crate::metrics::Metrics;

pub use self::gate::Limits;
pub use self::transport::SetUpError;

/// What a client is made of.
#[derive(Debug)]
pub struct Settings {
    /// What to show to registries.
    pub credentials: Credentials,
    /// How much is asked of one host.
    pub limits: Limits,
}

impl From<Credentials> for Settings {
    fn from(credentials: Credentials) -> Self {
        Self { credentials, limits: Limits::default() }
    }
}

/// Asks registries, and remembers what they answered.
#[derive(Debug)]
pub struct RegistryClient {
    transport: Transport,
    credentials: Credentials,
    tokens: Tokens,
    answers: Answers,
    metrics: Arc<Metrics>,
}

impl RegistryClient {
    /// Makes a client. Fails when the TLS roots of the system are broken.
    pub fn new(settings: impl Into<Settings>, metrics: Arc<Metrics>) -> Result<Arc<Self>, SetUpError> {
        let Settings { credentials, limits } = settings.into();
        Ok(Arc::new(Self {
            transport: Transport::new(limits, Arc::clone(&metrics))?,
            credentials,
            tokens: Tokens::new(),
            answers: Answers::new(),
            metrics,
        }))
    }

    /// Tells which manifest `reference` names, by `deadline`.
    ///
    /// An answer from before may serve. Equal questions that come together are asked once; when the
    /// deadline of one of them passes, the others still get the answer.
    ///
    /// When the registry asks for a pause that ends before the deadline, the question is asked again
    /// after it.
    pub async fn manifest(self: &Arc<Self>, reference: &ImageReference, deadline: Instant) -> Fact<Manifest> {
        let mut pauses = Pauses::until(deadline);
        loop {
            let answer = self.manifest_once(reference, deadline).await;
            if !pauses.wait(&answer).await {
                return answer;
            }
        }
    }

    async fn manifest_once(
        self: &Arc<Self>,
        reference: &ImageReference,
        deadline: Instant,
    ) -> Fact<Manifest> {
        let credential = self.credentials.find(reference);
        let key = answers::Key::new(reference, credential.as_ref());
        if let Some(answer) = self.answers.recall(&key) {
            self.metrics.cache_request("manifest", "hit");
            return answer;
        }
        self.metrics.cache_request("manifest", "miss");
        let ask = Arc::clone(self).fetch_in_time(reference.clone(), credential);
        settle(timeout_at(deadline, self.answers.ask(key, ask).answer()).await, reference)
    }

    /// Tells which manifest `reference` names now, whatever was answered before.
    ///
    /// Joins others who want the same, as long as nobody has begun to ask for them.
    pub async fn manifest_now(
        self: &Arc<Self>,
        reference: &ImageReference,
        deadline: Instant,
    ) -> Fact<Manifest> {
        let mut pauses = Pauses::until(deadline);
        loop {
            let answer = self.manifest_now_once(reference, deadline).await;
            if !pauses.wait(&answer).await {
                return answer;
            }
        }
    }

    async fn manifest_now_once(
        self: &Arc<Self>,
        reference: &ImageReference,
        deadline: Instant,
    ) -> Fact<Manifest> {
        let credential = self.credentials.find(reference);
        let key = answers::Key::new(reference, credential.as_ref());
        self.metrics.cache_request("manifest", "bypass");
        let ask = Arc::clone(self).fetch_in_time(reference.clone(), credential);
        settle(timeout_at(deadline, self.answers.ask_anew(key, ask).answer()).await, reference)
    }

    /// The credentials that are shown to registries.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    async fn fetch_in_time(
        self: Arc<Self>,
        reference: ImageReference,
        credential: Option<Credential>,
    ) -> Fact<Manifest> {
        match timeout(LONGEST_QUESTION, self.fetch(&reference, credential.as_ref())).await {
            Ok(Ok(manifest)) => Fact::Known(manifest),
            Ok(Err(Failure::Absent)) => Fact::Absent,
            Ok(Err(Failure::Unknown(cause))) => Fact::Unknown(cause),
            Err(_) => Fact::Unknown(Cause::OutOfTime { host: reference.host().to_owned() }),
        }
    }

    async fn fetch(
        &self,
        reference: &ImageReference,
        credential: Option<&Credential>,
    ) -> Result<Manifest, Failure> {
        let dialogue = Dialogue { client: self, reference, credential };
        let head = dialogue.ask(Method::HEAD).await?;
        match head.status {
            StatusCode::OK => {
                if let Some(manifest) = dialogue.manifest_of_head(&head)? {
                    return Ok(manifest);
                }
            }
            status if HEAD_IS_UNKNOWN.contains(&status) => {}
            status => return Err(dialogue.failure(status)),
        }
        let reply = dialogue.ask(Method::GET).await?;
        if reply.status != StatusCode::OK {
            return Err(dialogue.failure(reply.status));
        }
        dialogue.manifest_of_body(reply).await
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
        let Fact::Unknown(Cause::Paused { until, .. }) = answer else { return false };
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

/// One question to one registry.
struct Dialogue<'a> {
    client: &'a RegistryClient,
    reference: &'a ImageReference,
    credential: Option<&'a Credential>,
}

impl Dialogue<'_> {
    /// Asks once, and once more when the registry wants to know who asks or a token was stale.
    async fn ask(&self, method: Method) -> Result<Reply, Failure> {
        let target = self.target();
        let key = tokens::Key::new(&target, self.credential);
        let remembered = self.client.tokens.recall(&key);
        let reply = self.send(&method, &target, remembered.as_ref()).await?;
        let refused = reply.status == StatusCode::UNAUTHORIZED;
        // Some registries call a token that has ended forbidden.
        let stale = remembered.is_some() && (refused || reply.status == StatusCode::FORBIDDEN);
        if !refused && !stale {
            return Ok(reply);
        }
        if reply.is_elsewhere {
            // Credentials are for the host that was asked, not for one that it points at.
            return Err(Cause::Status { host: reply.host, status: reply.status.as_u16() }.into());
        }
        let reply = if stale {
            self.client.tokens.forget(&key);
            let fresh = self.send(&method, &target, None).await?;
            if fresh.status != StatusCode::UNAUTHORIZED {
                return Ok(fresh);
            }
            fresh
        } else {
            reply
        };
        let challenges = challenge::read(&reply.headers);
        let Some(authorization) = self.authorize(&target, &reply, &challenges).await? else {
            return Ok(reply);
        };
        let answer = self.send(&method, &target, Some(&authorization)).await?;
        if !matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.client.tokens.remember(key, authorization);
        }
        Ok(answer)
    }

    /// What to show after a challenge. `None` when there is nothing to show.
    async fn authorize(
        &self,
        target: &Target,
        reply: &Reply,
        challenges: &[Challenge],
    ) -> Result<Option<Authorization>, Failure> {
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer(bearer) => Some(bearer),
            Challenge::Basic => None,
        });
        if let Some(bearer) = bearer {
            let realm = tokens::realm(bearer, reply).map_err(|cause| Failure::Unknown(cause.of(target)))?;
            let scope = format!("repository:{}:pull", self.reference.api_path());
            let scope = bearer.scope.clone().unwrap_or(scope);
            let ask = tokens::Ask {
                realm,
                service: bearer.service.clone(),
                scope,
                credential: self.credential.cloned(),
            };
            let token = self.client.tokens.ask(ask, &self.client.transport).await;
            return token.map(Some).map_err(|error| match error {
                tokens::NoToken::Refused(status) => {
                    Failure::Unknown(self.refusal(target.host.clone(), status))
                }
                tokens::NoToken::Paused(cause) => Failure::Unknown(cause),
                tokens::NoToken::Failed(reason) => {
                    Failure::Unknown(Cause::NoToken { host: target.host.clone(), reason })
                }
            });
        }
        let basic = challenges.contains(&Challenge::Basic);
        Ok(self.credential.filter(|_| basic).and_then(Credential::basic))
    }

    async fn send(
        &self,
        method: &Method,
        target: &Target,
        authorization: Option<&Authorization>,
    ) -> Result<Reply, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, ACCEPTED);
        self.client.transport.send(method, target, headers, authorization).await.map_err(Failure::Unknown)
    }

    fn target(&self) -> Target {
        let what = match self.reference.digest() {
            Some(digest) => digest.as_str(),
            None => self.reference.effective_tag().unwrap_or_default(),
        };
        Target {
            host: self.reference.api_host().to_owned(),
            repository: self.reference.api_path(),
            path: format!("/v2/{}/manifests/{what}", self.reference.api_path()),
        }
    }

    /// What the head alone tells. `None` when it lacks the digest or the kind.
    fn manifest_of_head(&self, head: &Reply) -> Result<Option<Manifest>, Failure> {
        let Some(digest) = self.announced(head)? else { return Ok(None) };
        let Some(kind) = self.kind(head)? else { return Ok(None) };
        if let Some(expected) = self.reference.digest().filter(|expected| **expected != digest) {
            return Err(self.mismatch(expected.clone(), digest));
        }
        Ok(Some(Manifest { digest, kind, endpoint: self.reference.api_host().to_owned() }))
    }

    async fn manifest_of_body(&self, reply: Reply) -> Result<Manifest, Failure> {
        let announced = self.announced(&reply)?;
        let kind = self.kind(&reply)?;
        let body = self.client.transport.read(reply, MAX_MANIFEST).await.map_err(Failure::Unknown)?;
        let expected = self.reference.digest().or(announced.as_ref());
        if let Some(expected) = expected.filter(|expected| !expected.matches(&body)) {
            return Err(self.mismatch(expected.clone(), Digest::of(&body)));
        }
        let digest = expected.cloned().unwrap_or_else(|| Digest::of(&body));
        let kind = kind.or_else(|| media_type_in(&body)).ok_or_else(|| {
            self.nonsense("neither its Content-Type nor its body says what kind of manifest it is".to_owned())
        })?;
        Ok(Manifest { digest, kind, endpoint: self.reference.api_host().to_owned() })
    }

    fn announced(&self, reply: &Reply) -> Result<Option<Digest>, Failure> {
        let Some(value) = reply.headers.get(DOCKER_CONTENT_DIGEST) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default();
        match Digest::parse(text) {
            Ok(digest) => Ok(Some(digest)),
            Err(_) => Err(self.nonsense("its Docker-Content-Digest is no digest".to_owned())),
        }
    }

    fn kind(&self, reply: &Reply) -> Result<Option<ManifestKind>, Failure> {
        let value = reply.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = value.split(';').next().unwrap_or_default().trim();
        if media_type.starts_with(SCHEMA_1) {
            return Err(self.nonsense(
                "it has only a manifest of Docker's schema 1, which nodes cannot boot from".to_owned(),
            ));
        }
        Ok(manifest_kind(media_type))
    }

    fn failure(&self, status: StatusCode) -> Failure {
        let host = self.reference.host().to_owned();
        match status {
            StatusCode::NOT_FOUND => Failure::Absent,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failure::Unknown(self.refusal(host, status.as_u16()))
            }
            status => Failure::Unknown(Cause::Status { host, status: status.as_u16() }),
        }
    }

    fn refusal(&self, host: String, status: u16) -> Cause {
        let shown = if self.credential.is_some() { Shown::Entry } else { Shown::NoEntry };
        let as_nodes =
            if self.client.credentials.are_those_of_nodes() { AsNodes::Same } else { AsNodes::NotAtHand };
        Cause::Refused { host, status, shown, as_nodes }
    }

    fn mismatch(&self, expected: Digest, found: Digest) -> Failure {
        Cause::DigestMismatch { host: self.reference.host().to_owned(), expected, found }.into()
    }

    fn nonsense(&self, reason: String) -> Failure {
        Cause::Nonsense { host: self.reference.host().to_owned(), reason }.into()
    }
}

/// Why there is no manifest.
enum Failure {
    Absent,
    Unknown(Cause),
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self::Unknown(cause)
    }
}

fn settle(
    outcome: Result<Option<Fact<Manifest>>, tokio::time::error::Elapsed>,
    reference: &ImageReference,
) -> Fact<Manifest> {
    match outcome {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            tracing::error!(%reference, "a question to a registry ended without an answer");
            Fact::Unknown(Cause::Internal)
        }
        Err(_) => Fact::Unknown(Cause::OutOfTime { host: reference.host().to_owned() }),
    }
}

fn manifest_kind(media_type: &str) -> Option<ManifestKind> {
    match media_type {
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => Some(ManifestKind::Image),
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => Some(ManifestKind::Index),
        _ => None,
    }
}

/// What a body says of itself, where the registry did not: its `mediaType`, or the members that only
/// one kind has.
fn media_type_in(body: &[u8]) -> Option<ManifestKind> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let document: Document = serde_json::from_slice(body).ok()?;
    match (document.media_type, document.manifests, document.layers) {
        (Some(media_type), _, _) => manifest_kind(&media_type),
        (None, Some(_), None) => Some(ManifestKind::Index),
        (None, None, Some(_)) => Some(ManifestKind::Image),
        _ => None,
    }
}

/// Longer than any webhook waits: whoever asked first may be gone, but those who come after still
/// profit. It bounds how long a frozen registry can hold a question.
const LONGEST_QUESTION: Duration = Duration::from_secs(30);
/// Manifests are lists of descriptors; registries refuse larger ones (OCI distribution specification).
const MAX_MANIFEST: usize = 4 * 1024 * 1024;
/// `containers/image` gives up after five pauses, too.
const MAX_PAUSES: usize = 5;
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";
const ACCEPTED: reqwest::header::HeaderValue = reqwest::header::HeaderValue::from_static(
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
);
/// Statuses by which registries say that they do not answer HEAD, though they answer GET.
const HEAD_IS_UNKNOWN: [StatusCode; 4] = [
    StatusCode::BAD_REQUEST,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_ACCEPTABLE,
    StatusCode::NOT_IMPLEMENTED,
];
