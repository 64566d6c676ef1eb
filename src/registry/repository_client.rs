//! Requests to one repository: authentication, and what each response means.

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

/// Sends requests to the repository of one reference.
pub(crate) struct RepositoryClient<'a> {
    pub(crate) client: &'a RegistryClient,
    pub(crate) reference: &'a ImageReference,
    pub(crate) trust: Trust,
    pub(crate) credential: Option<&'a Credential>,
}

/// A request that the registry answered with a challenge.
#[derive(Clone, Copy)]
struct ChallengedRequest<'a> {
    host: &'a str,
    key: &'a token::TokenKey,
    /// The token that was refused.
    refused: Option<&'a Authorization>,
}

/// What is requested from the repository.
#[derive(Clone, Copy)]
pub(crate) enum RepositoryResource<'a> {
    /// The manifest that the reference names.
    Manifest,
    /// A config or a layer.
    Blob(&'a Digest),
}

impl RepositoryClient<'_> {
    /// Sends a request, and sends it again when the registry demands authentication or a token has expired.
    pub(crate) async fn request(
        &self,
        method: Method,
        resource: RepositoryResource<'_>,
    ) -> Result<Reply, RequestFailure> {
        let target = self.target(resource);
        let key = token::TokenKey::new(&target.host, &target.repository, self.credential);
        let remembered = self.client.tokens.recall(&key);
        let reply = self.send(&method, &target, resource, remembered.as_ref()).await?;
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
        let reply = if let Some(expired) = &expired {
            self.client.tokens.forget(&key, expired);
            let fresh = self.send(&method, &target, resource, None).await?;
            if fresh.status != StatusCode::UNAUTHORIZED {
                return Ok(fresh);
            }
            fresh
        } else {
            reply
        };
        let challenges = challenge::read(&reply.headers);
        let challenged = ChallengedRequest { host: &target.host, key: &key, refused: expired.as_ref() };
        let Some(authorization) = self.authorize(challenged, &reply, &challenges).await? else {
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

    /// The authorization for a challenge. `None` when there is no credential for it.
    async fn authorize(
        &self,
        request: ChallengedRequest<'_>,
        reply: &Reply,
        challenges: &[Challenge],
    ) -> Result<Option<Authorization>, RequestFailure> {
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer(bearer) => Some(bearer),
            Challenge::Basic => None,
        });
        if let Some(bearer) = bearer {
            let realm = token::realm(bearer, reply).map_err(|untrusted| Cause::NoToken {
                host: request.host.to_owned(),
                reason: untrusted.to_string(),
            })?;
            let scope = format!("repository:{}:pull", self.reference.api_path());
            let scope = bearer.scope.clone().unwrap_or(scope);
            let token_request = token::TokenRequest {
                realm,
                service: bearer.service.clone(),
                scope,
                credential: self.credential.cloned(),
            };
            let Self { client, .. } = self;
            let token =
                client.tokens.request(token_request, request.key, request.refused, &client.transport).await;
            let host = request.host.to_owned();
            return token.map(Some).map_err(|error| {
                RequestFailure::Unknown(match error {
                    token::TokenError::Refused(status) => self.refusal(host, status),
                    token::TokenError::Paused(cause) => cause,
                    token::TokenError::Failed(reason) => Cause::NoToken { host, reason },
                })
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

    /// The manifest according to the headers. `None` when they do not have the digest or the kind.
    pub(crate) fn manifest_of_head(&self, head: &Reply) -> Result<Option<Manifest>, RequestFailure> {
        let Some(digest) = self.digest_of_header(head)? else { return Ok(None) };
        let Some(kind) = self.kind(head)? else { return Ok(None) };
        Ok(Some(Manifest { digest, kind, endpoint: self.reference.api_host().to_owned() }))
    }

    /// The manifest according to the body, and the body. Fails when it does not have the digest in the reference or
    /// in the header.
    pub(crate) async fn manifest_of_body(&self, reply: Reply) -> Result<(Manifest, Vec<u8>), RequestFailure> {
        let announced = self.digest_of_header(&reply)?;
        let kind = self.kind(&reply)?;
        let body = self.client.transport.read(reply, MAX_MANIFEST).await.map_err(RequestFailure::Unknown)?;
        let expected = self.reference.digest().or(announced.as_ref());
        if let Some(expected) = expected.filter(|expected| !expected.matches(&body)) {
            return Err(self.mismatch(expected.clone(), Digest::of(&body)));
        }
        let digest = expected.cloned().unwrap_or_else(|| Digest::of(&body));
        let kind = kind
            .or_else(|| media_type_in(&body))
            .ok_or_else(|| self.invalid("neither its Content-Type nor its body has the kind of manifest"))?;
        Ok((Manifest { digest, kind, endpoint: self.reference.api_host().to_owned() }, body))
    }

    /// The digest in the header. Fails when it is not that in the reference.
    fn digest_of_header(&self, reply: &Reply) -> Result<Option<Digest>, RequestFailure> {
        let Some(value) = reply.headers.get(DOCKER_CONTENT_DIGEST) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default();
        let Ok(digest) = Digest::parse(text) else {
            return Err(self.invalid("its Docker-Content-Digest is not a valid digest"));
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
            return Err(self.invalid("it only has a manifest of Docker schema 1, which nodes cannot boot"));
        }
        Ok(manifest_kind(media_type))
    }

    /// The meaning of a status other than 200.
    pub(crate) fn failure(&self, reply: &Reply) -> RequestFailure {
        let host = self.reference.host().to_owned();
        match reply.status {
            StatusCode::NOT_FOUND => RequestFailure::Absent,
            // The host of a redirect gets no credentials.
            status if reply.is_redirected => {
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

    pub(crate) fn invalid(&self, reason: impl Into<String>) -> RequestFailure {
        Cause::InvalidResponse { host: self.reference.host().to_owned(), reason: reason.into() }.into()
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

impl RequestFailure {
    /// The outcome of a request as a fact.
    pub(crate) fn fact<T>(outcome: Result<T, Self>) -> Fact<T> {
        match outcome {
            Ok(answer) => Fact::Known(answer),
            Err(Self::Absent) => Fact::Absent,
            Err(Self::Unknown(cause)) => Fact::Unknown(cause),
        }
    }
}

/// Registries refuse larger manifests (OCI distribution specification).
const MAX_MANIFEST: usize = 4 * 1024 * 1024;
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";
const ACCEPTED: HeaderValue = HeaderValue::from_static(
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
);
