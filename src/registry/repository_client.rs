//! Requests to one repository: authentication, and what each response means.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use tokio::time::timeout;

use crate::model::digest::Digest;
use crate::model::facts::{Cause, CredentialsSent, Fact, Manifest, ManifestKind, NodeCredentials};
use crate::registry::RegistryClient;
use crate::registry::auth::challenge::{self, Bearer, Challenge};
use crate::registry::auth::credential::{Credential, Secret};
use crate::registry::auth::token::{self, TokenKey};
use crate::registry::cache::CacheKey;
use crate::registry::http::address_guard::authority;
use crate::registry::http::authorization::Authorization;
use crate::registry::http::transport::{Reply, RequestStart, RequestTarget};
use crate::registry::mirrors::endpoints::ResolvedEndpoint;
use crate::registry::oci::{manifest_kind, media_type_in};

/// Asks the repository of one reference at one endpoint.
#[derive(Clone)]
pub(crate) struct RepositoryClient {
    pub(crate) client: Arc<RegistryClient>,
    pub(crate) endpoint: ResolvedEndpoint,
}

/// What is requested from the repository.
#[derive(Clone, Copy)]
pub(crate) enum RepositoryResource<'a> {
    /// The manifest that the reference names.
    Manifest,
    /// A config or a layer.
    Blob(&'a Digest),
}

impl RepositoryClient {
    /// A client for the manifest or blob with this digest in the same repository.
    pub(crate) fn pinned_to(&self, digest: &Digest) -> Self {
        let mut pinned = self.clone();
        pinned.endpoint.reference = self.endpoint.reference.pinned_to(digest);
        pinned
    }

    pub(crate) fn key(&self) -> CacheKey {
        CacheKey::new(&self.endpoint.reference, self.endpoint.trust, self.endpoint.credential.as_ref())
    }

    /// Sends a GET request. Fails with the meaning of a status other than 200.
    pub(crate) async fn get(&self, resource: RepositoryResource<'_>) -> Result<Reply, RequestFailure> {
        let reply = self.request(Method::GET, resource).await?;
        if reply.status == StatusCode::OK { Ok(reply) } else { Err(self.failure(&reply)) }
    }

    /// Sends a request, and sends it again when the registry demands authentication or a token has expired.
    pub(crate) async fn request(
        &self,
        method: Method,
        resource: RepositoryResource<'_>,
    ) -> Result<Reply, RequestFailure> {
        let ResolvedEndpoint { reference, credential, .. } = &self.endpoint;
        let tokens = &self.client.tokens;
        let key = TokenKey::new(reference.api_host(), &reference.api_path(), credential.as_ref());
        let remembered = tokens.recall(&key);
        let mut reply = self.send(&method, resource, remembered.as_ref()).await?;
        let refused = reply.status == StatusCode::UNAUTHORIZED;
        // Some registries answer an expired token with 403.
        let expired = remembered.filter(|_| refused || reply.status == StatusCode::FORBIDDEN);
        if !refused && expired.is_none() {
            return Ok(reply);
        }
        if reply.is_redirected {
            // Credentials are not for the host of a redirect.
            return Err(Cause::Status { host: reply.host, status: reply.status.as_u16() }.into());
        }
        if let Some(expired) = &expired {
            tokens.forget(&key, expired);
            reply = self.send(&method, resource, None).await?;
            if reply.status != StatusCode::UNAUTHORIZED {
                return Ok(reply);
            }
        }
        let Some(authorization) = self.authorize(&key, expired.as_ref(), &reply).await? else {
            return Ok(reply);
        };
        let answer = self.send(&method, resource, Some(&authorization)).await?;
        if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            tokens.forget(&key, &authorization);
        } else {
            tokens.remember(key, authorization);
        }
        Ok(answer)
    }

    /// The authorization for the challenge of `reply`, after the token `refused`. `None` when there is no
    /// credential for it.
    async fn authorize(
        &self,
        key: &TokenKey,
        refused: Option<&Authorization>,
        reply: &Reply,
    ) -> Result<Option<Authorization>, Cause> {
        let (mut is_basic, mut bearer) = (false, None);
        for challenge in challenge::read(&reply.headers) {
            match challenge {
                Challenge::Basic => is_basic = true,
                Challenge::Bearer(other) => bearer = bearer.or(Some(other)),
            }
        }
        let Some(bearer) = bearer else {
            let credential = self.endpoint.credential.as_ref().filter(|_| is_basic);
            return Ok(credential.and_then(Credential::basic));
        };
        let realm = token::realm(&bearer, reply).map_err(|untrusted| self.no_token(untrusted))?;
        let client = self.clone();
        let request = async move {
            let host = authority(&realm.url);
            match timeout(LONGEST_TOKEN_REQUEST, client.request_token(realm, bearer)).await {
                Ok(answer) => answer,
                Err(_) => Err(client.no_token(format!("token service {host} did not answer in time"))),
            }
        };
        self.client.tokens.request(key, refused, request).await.map(Some)
    }

    /// Requests a token that may pull from the repository.
    async fn request_token(&self, realm: RequestStart, bearer: Bearer) -> Result<Authorization, Cause> {
        let (transport, credential) = (&self.client.transport, self.endpoint.credential.as_ref());
        let host = authority(&realm.url);
        let scope = format!("repository:{}:pull", self.endpoint.reference.api_path());
        let scope = bearer.scope.unwrap_or(scope);
        let mut parameters = vec![("scope", scope.as_str())];
        parameters.extend(bearer.service.as_deref().map(|service| ("service", service)));
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        let reply = match credential.map(|credential| &credential.secret) {
            Some(Secret::IdentityToken(token)) => {
                parameters.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "layerpin"),
                    ("refresh_token", token),
                ]);
                transport.send_form(realm, headers, &parameters).await
            }
            _ => {
                let mut start = realm;
                start.url.query_pairs_mut().extend_pairs(&parameters);
                let basic = credential.and_then(Credential::basic);
                transport.send_to(&Method::GET, start, headers, basic.as_ref()).await
            }
        };
        let reply = reply.map_err(|cause| match cause {
            Cause::Paused { .. } => cause,
            cause => self.no_token(cause.to_string()),
        })?;
        match reply.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.refusal(self.endpoint.reference.api_host(), reply.status));
            }
            status => return Err(self.no_token(format!("token service {host} returned {status}"))),
        }
        let body = transport.read(reply, MAX_TOKEN_ANSWER).await;
        let body = body.map_err(|cause| self.no_token(cause.to_string()))?;
        token::granted(&body).map_err(|reason| self.no_token(format!("token service {host} {reason}")))
    }

    async fn send(
        &self,
        method: &Method,
        resource: RepositoryResource<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Reply, Cause> {
        let ResolvedEndpoint { reference, trust, .. } = &self.endpoint;
        let mut headers = HeaderMap::new();
        let resource = match resource {
            RepositoryResource::Blob(digest) => format!("blobs/{digest}"),
            RepositoryResource::Manifest => {
                headers.insert(ACCEPT, ACCEPTED);
                let tag = || reference.effective_tag().unwrap_or_default();
                format!("manifests/{}", reference.digest().map_or_else(tag, Digest::as_str))
            }
        };
        let path = format!("/v2/{}/{resource}", reference.api_path());
        let target = RequestTarget { host: reference.api_host().to_owned(), trust: *trust, path };
        self.client.transport.send(method, &target, headers, authorization).await
    }

    /// The manifest according to the headers. `None` when they do not have the digest or the kind.
    pub(crate) fn manifest_of_head(&self, head: &Reply) -> Result<Option<Manifest>, RequestFailure> {
        let (digest, kind) = (self.digest_of_header(head)?, self.kind(head)?);
        Ok(digest.zip(kind).map(|(digest, kind)| self.manifest_with(digest, kind)))
    }

    /// Reads the manifest, and returns its body as well. Fails when that does not have the digest in the reference
    /// or in the header.
    pub(crate) async fn get_manifest(&self) -> Result<(Manifest, Vec<u8>), RequestFailure> {
        let reply = self.get(RepositoryResource::Manifest).await?;
        let announced = self.digest_of_header(&reply)?;
        let kind = self.kind(&reply)?;
        let body = self.client.transport.read(reply, MAX_MANIFEST).await?;
        let expected = self.endpoint.reference.digest().or(announced.as_ref());
        if let Some(expected) = expected.filter(|expected| !expected.matches(&body)) {
            return Err(self.mismatch(expected.clone(), Digest::of(&body)).into());
        }
        let digest = expected.cloned().unwrap_or_else(|| Digest::of(&body));
        let kind = kind
            .or_else(|| media_type_in(&body))
            .ok_or_else(|| self.invalid("neither its Content-Type nor its body has the kind of manifest"))?;
        Ok((self.manifest_with(digest, kind), body))
    }

    pub(crate) fn manifest_with(&self, digest: Digest, kind: ManifestKind) -> Manifest {
        Manifest { digest, kind, endpoint: self.endpoint.reference.api_host().to_owned() }
    }

    /// The digest in the header. Fails when it is not that in the reference.
    fn digest_of_header(&self, reply: &Reply) -> Result<Option<Digest>, RequestFailure> {
        let Some(value) = reply.headers.get(DOCKER_CONTENT_DIGEST) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default();
        let Ok(digest) = Digest::parse(text) else {
            return Err(self.invalid("its Docker-Content-Digest is not a valid digest").into());
        };
        match self.endpoint.reference.digest() {
            Some(expected) if *expected != digest => Err(self.mismatch(expected.clone(), digest).into()),
            _ => Ok(Some(digest)),
        }
    }

    fn kind(&self, reply: &Reply) -> Result<Option<ManifestKind>, RequestFailure> {
        let value = reply.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = value.split(';').next().unwrap_or_default().trim();
        if media_type.starts_with(SCHEMA_1) {
            return Err(self
                .invalid("it only has a manifest of Docker schema 1, which nodes cannot boot")
                .into());
        }
        Ok(manifest_kind(media_type))
    }

    /// The meaning of a status other than 200.
    pub(crate) fn failure(&self, reply: &Reply) -> RequestFailure {
        let host = self.endpoint.reference.host();
        match reply.status {
            StatusCode::NOT_FOUND => RequestFailure::Absent,
            // The host of a redirect gets no credentials.
            status if reply.is_redirected => {
                Cause::Status { host: reply.host.clone(), status: status.as_u16() }.into()
            }
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => self.refusal(host, status).into(),
            status => Cause::Status { host: host.to_owned(), status: status.as_u16() }.into(),
        }
    }

    fn refusal(&self, host: &str, status: StatusCode) -> Cause {
        let shown = match self.endpoint.credential {
            Some(_) => CredentialsSent::Entry,
            None => CredentialsSent::NoEntry,
        };
        let as_nodes = match self.client.credentials.are_those_of_nodes() {
            true => NodeCredentials::Same,
            false => NodeCredentials::NotAtHand,
        };
        Cause::Refused { host: host.to_owned(), status: status.as_u16(), shown, as_nodes }
    }

    fn no_token(&self, reason: String) -> Cause {
        Cause::NoToken { host: self.endpoint.reference.api_host().to_owned(), reason }
    }

    pub(crate) fn mismatch(&self, expected: Digest, found: Digest) -> Cause {
        Cause::DigestMismatch { host: self.endpoint.reference.host().to_owned(), expected, found }
    }

    pub(crate) fn invalid(&self, reason: impl Into<String>) -> Cause {
        Cause::InvalidResponse { host: self.endpoint.reference.host().to_owned(), reason: reason.into() }
    }
}

/// Why a request has no result.
#[derive(Debug)]
pub(crate) enum RequestFailure {
    Absent,
    Unknown(Cause),
}

impl From<Cause> for RequestFailure {
    fn from(cause: Cause) -> Self {
        Self::Unknown(cause)
    }
}

impl<T> From<Result<T, RequestFailure>> for Fact<T> {
    fn from(outcome: Result<T, RequestFailure>) -> Self {
        match outcome {
            Ok(answer) => Self::Known(answer),
            Err(RequestFailure::Absent) => Self::Absent,
            Err(RequestFailure::Unknown(cause)) => Self::Unknown(cause),
        }
    }
}

impl<T> Fact<T> {
    /// The answer; otherwise why there is none, for a question that needs it.
    pub(crate) fn required(self) -> Result<T, RequestFailure> {
        match self {
            Self::Known(answer) => Ok(answer),
            Self::Absent => Err(RequestFailure::Absent),
            Self::Unknown(cause) => Err(RequestFailure::Unknown(cause)),
        }
    }
}

/// How long a token service that does not answer holds a request. Longer than any webhook waits, so that later
/// callers still profit.
const LONGEST_TOKEN_REQUEST: Duration = Duration::from_secs(30);
const MAX_TOKEN_ANSWER: usize = 256 * 1024;
/// Registries refuse larger manifests (OCI distribution specification).
const MAX_MANIFEST: usize = 4 * 1024 * 1024;
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";
const ACCEPTED: HeaderValue = HeaderValue::from_static(
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
);
