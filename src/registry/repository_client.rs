//! The dialogue with one registry about one repository: a question, one round of authentication, and
//! the words for what goes wrong.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};

use crate::model::digest::Digest;
use crate::model::facts::{Cause, CredentialsSent, Fact, Manifest, ManifestKind, NodeCredentials};
use crate::model::image_reference::ImageReference;
use crate::registry::RegistryClient;
use crate::registry::auth::challenge::{self, Challenge};
use crate::registry::auth::credential::Credential;
use crate::registry::auth::token;
use crate::registry::http::Trust;
use crate::registry::http::authorization::Authorization;
use crate::registry::http::transport::{Reply, RequestTarget};
use crate::registry::oci::{manifest_kind, media_type_in};

/// A dialogue: who asks, about what, and showing which credential.
pub(crate) struct RepositoryClient<'a> {
    pub(crate) client: &'a RegistryClient,
    pub(crate) reference: &'a ImageReference,
    pub(crate) trust: Trust,
    pub(crate) credential: Option<&'a Credential>,
}

/// A question that the registry answered with a challenge.
#[derive(Clone, Copy)]
struct ManifestRequest<'a> {
    target: &'a RequestTarget,
    key: &'a token::TokenKey,
    /// What was shown and refused, if anything was.
    refused: Option<&'a Authorization>,
}

/// What is asked for in the repository.
#[derive(Clone, Copy)]
pub(crate) enum RepositoryResource<'a> {
    /// The manifest that the reference names.
    Manifest,
    /// A config or a layer.
    Blob(&'a Digest),
}

impl RepositoryClient<'_> {
    /// Asks once, and once more when the registry wants to know who asks or a token was stale.
    pub(crate) async fn ask(
        &self,
        method: Method,
        resource: RepositoryResource<'_>,
    ) -> Result<Reply, RequestFailure> {
        let target = self.target(resource);
        let key = token::TokenKey::new(&target.host, &target.repository, self.credential);
        let remembered = self.client.tokens.recall(&key);
        let reply = self.send(&method, &target, resource, remembered.as_ref()).await?;
        let refused = reply.status == StatusCode::UNAUTHORIZED;
        // Some registries call a token that has ended forbidden.
        let stale = remembered.filter(|_| refused || reply.status == StatusCode::FORBIDDEN);
        if !refused && stale.is_none() {
            return Ok(reply);
        }
        if reply.is_elsewhere {
            // Credentials are for the host that was asked, not for one that it points at.
            return Err(Cause::Status { host: reply.host, status: reply.status.as_u16() }.into());
        }
        let reply = if let Some(stale) = &stale {
            self.client.tokens.forget(&key, stale);
            let fresh = self.send(&method, &target, resource, None).await?;
            if fresh.status != StatusCode::UNAUTHORIZED {
                return Ok(fresh);
            }
            fresh
        } else {
            reply
        };
        let challenges = challenge::read(&reply.headers);
        let asked = ManifestRequest { target: &target, key: &key, refused: stale.as_ref() };
        let Some(authorization) = self.authorize(asked, &reply, &challenges).await? else {
            return Ok(reply);
        };
        let answer = self.send(&method, &target, resource, Some(&authorization)).await?;
        if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.client.tokens.forget(&key, &authorization);
        } else {
            self.client.tokens.remember(key, authorization);
        }
        Ok(answer)
    }

    /// What to show after a challenge. `None` when there is nothing to show.
    async fn authorize(
        &self,
        asked: ManifestRequest<'_>,
        reply: &Reply,
        challenges: &[Challenge],
    ) -> Result<Option<Authorization>, RequestFailure> {
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer(bearer) => Some(bearer),
            Challenge::Basic => None,
        });
        if let Some(bearer) = bearer {
            let realm = token::realm(bearer, reply).map_err(|untrusted| Cause::NoToken {
                host: asked.target.host.clone(),
                reason: untrusted.to_string(),
            })?;
            let scope = format!("repository:{}:pull", self.reference.api_path());
            let scope = bearer.scope.clone().unwrap_or(scope);
            let ask = token::TokenRequest {
                realm,
                service: bearer.service.clone(),
                scope,
                credential: self.credential.cloned(),
            };
            let host = &asked.target.host;
            let token = self.client.tokens.ask(ask, asked.key, asked.refused, &self.client.transport).await;
            return token.map(Some).map_err(|error| match error {
                token::TokenError::Refused(status) => {
                    RequestFailure::Unknown(self.refusal(host.clone(), status))
                }
                token::TokenError::Paused(cause) => RequestFailure::Unknown(cause),
                token::TokenError::Failed(reason) => {
                    RequestFailure::Unknown(Cause::NoToken { host: host.clone(), reason })
                }
            });
        }
        let basic = challenges.contains(&Challenge::Basic);
        Ok(self.credential.filter(|_| basic).and_then(Credential::basic))
    }

    async fn send(
        &self,
        method: &Method,
        target: &RequestTarget,
        resource: RepositoryResource<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Reply, RequestFailure> {
        let mut headers = HeaderMap::new();
        if let RepositoryResource::Manifest = resource {
            headers.insert(ACCEPT, ACCEPTED);
        }
        self.client
            .transport
            .send(method, target, headers, authorization)
            .await
            .map_err(RequestFailure::Unknown)
    }

    fn target(&self, resource: RepositoryResource<'_>) -> RequestTarget {
        let repository = self.reference.api_path();
        let path = match resource {
            RepositoryResource::Blob(digest) => format!("/v2/{repository}/blobs/{digest}"),
            RepositoryResource::Manifest => {
                let what = match self.reference.digest() {
                    Some(digest) => digest.as_str(),
                    None => self.reference.effective_tag().unwrap_or_default(),
                };
                format!("/v2/{repository}/manifests/{what}")
            }
        };
        RequestTarget { host: self.reference.api_host().to_owned(), trust: self.trust, repository, path }
    }

    /// What the head alone tells. `None` when it lacks the digest or the kind.
    pub(crate) fn manifest_of_head(&self, head: &Reply) -> Result<Option<Manifest>, RequestFailure> {
        let Some(digest) = self.announced(head)? else { return Ok(None) };
        let Some(kind) = self.kind(head)? else { return Ok(None) };
        Ok(Some(Manifest { digest, kind, endpoint: self.reference.api_host().to_owned() }))
    }

    /// What the body tells, and the body, which has the digest that it was asked by or announced with.
    pub(crate) async fn manifest_of_body(&self, reply: Reply) -> Result<(Manifest, Vec<u8>), RequestFailure> {
        let announced = self.announced(&reply)?;
        let kind = self.kind(&reply)?;
        let body = self.client.transport.read(reply, MAX_MANIFEST).await.map_err(RequestFailure::Unknown)?;
        let expected = self.reference.digest().or(announced.as_ref());
        if let Some(expected) = expected.filter(|expected| !expected.matches(&body)) {
            return Err(self.mismatch(expected.clone(), Digest::of(&body)));
        }
        let digest = expected.cloned().unwrap_or_else(|| Digest::of(&body));
        let kind = kind.or_else(|| media_type_in(&body)).ok_or_else(|| {
            self.nonsense("neither its Content-Type nor its body says what kind of manifest it is")
        })?;
        Ok((Manifest { digest, kind, endpoint: self.reference.api_host().to_owned() }, body))
    }

    /// What the registry says the digest is; a failure where it is not the one that was asked for.
    fn announced(&self, reply: &Reply) -> Result<Option<Digest>, RequestFailure> {
        let Some(value) = reply.headers.get(DOCKER_CONTENT_DIGEST) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default();
        let Ok(digest) = Digest::parse(text) else {
            return Err(self.nonsense("its Docker-Content-Digest is no digest"));
        };
        match self.reference.digest() {
            Some(expected) if *expected != digest => Err(self.mismatch(expected.clone(), digest)),
            _ => Ok(Some(digest)),
        }
    }

    fn kind(&self, reply: &Reply) -> Result<Option<ManifestKind>, RequestFailure> {
        let value = reply.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = value.split(';').next().unwrap_or_default().trim();
        if media_type.starts_with(SCHEMA_1) {
            return Err(
                self.nonsense("it has only a manifest of Docker's schema 1, which nodes cannot boot from")
            );
        }
        Ok(manifest_kind(media_type))
    }

    /// What an answer other than 200 means.
    pub(crate) fn failure(&self, reply: &Reply) -> RequestFailure {
        let host = self.reference.host().to_owned();
        match reply.status {
            StatusCode::NOT_FOUND => RequestFailure::Absent,
            // Nothing was shown to a host that the registry pointed at.
            status if reply.is_elsewhere => {
                Cause::Status { host: reply.host.clone(), status: status.as_u16() }.into()
            }
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                RequestFailure::Unknown(self.refusal(host, status.as_u16()))
            }
            status => RequestFailure::Unknown(Cause::Status { host, status: status.as_u16() }),
        }
    }

    fn refusal(&self, host: String, status: u16) -> Cause {
        let shown = if self.credential.is_some() { CredentialsSent::Entry } else { CredentialsSent::NoEntry };
        let as_nodes = if self.client.credentials.are_those_of_nodes() {
            NodeCredentials::Same
        } else {
            NodeCredentials::NotAtHand
        };
        Cause::Refused { host, status, shown, as_nodes }
    }

    pub(crate) fn mismatch(&self, expected: Digest, found: Digest) -> RequestFailure {
        Cause::DigestMismatch { host: self.reference.host().to_owned(), expected, found }.into()
    }

    pub(crate) fn nonsense(&self, reason: impl Into<String>) -> RequestFailure {
        Cause::InvalidResponse { host: self.reference.host().to_owned(), reason: reason.into() }.into()
    }
}

/// Why there is no answer.
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

impl RequestFailure {
    /// The outcome of a question as a fact.
    pub(crate) fn fact<T>(outcome: Result<T, Self>) -> Fact<T> {
        match outcome {
            Ok(answer) => Fact::Known(answer),
            Err(Self::Absent) => Fact::Absent,
            Err(Self::Unknown(cause)) => Fact::Unknown(cause),
        }
    }
}

/// Manifests are lists of descriptors; registries refuse larger ones (OCI distribution specification).
const MAX_MANIFEST: usize = 4 * 1024 * 1024;
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";
const ACCEPTED: HeaderValue = HeaderValue::from_static(
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
);
