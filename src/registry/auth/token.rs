//! Tokens for registries (the token authentication of the distribution project), and their cache.
//!
//! Owns which token service is asked, with which credential, and how long a token is kept. Callers that need
//! the same token share one request. A token service is trusted only if the registry named it over TLS and
//! it uses TLS itself, or if both are on loopback.

use std::sync::Arc;
use std::time::Duration;

use moka::ops::compute::Op;
use moka::sync::Cache;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use tokio::time::timeout;

use crate::model::facts::Cause;
use crate::registry::auth::challenge::Bearer;
use crate::registry::auth::credential::{Credential, Fingerprint};
use crate::registry::http::Trust;
use crate::registry::http::address_guard::{authority, is_loopback};
use crate::registry::http::authorization::Authorization;
use crate::registry::http::transport::{Reply, Transport};
use crate::registry::single_flight::{Reuse, SingleFlight};
use crate::text::shown;

/// The tokens granted so far.
#[derive(Debug)]
pub(crate) struct Tokens {
    kept: Cache<TokenKey, Authorization>,
    under_way: Arc<SingleFlight<TokenRequestKey, Result<Authorization, TokenError>>>,
}

/// Whom a token was granted to, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    host: String,
    repository: String,
    credential: Option<Fingerprint>,
}

impl TokenKey {
    pub(crate) fn new(host: &str, repository: &str, credential: Option<&Credential>) -> Self {
        Self {
            host: host.to_owned(),
            repository: repository.to_owned(),
            credential: credential.map(Credential::fingerprint),
        }
    }
}

impl Tokens {
    pub(crate) fn new() -> Self {
        let kept = Cache::builder().max_capacity(MAX_TOKENS).time_to_live(LONGEST_KEPT).build();
        Self { kept, under_way: SingleFlight::new() }
    }

    pub(crate) fn recall(&self, key: &TokenKey) -> Option<Authorization> {
        self.kept.get(key).filter(|authorization| !authorization.is_expired())
    }

    pub(crate) fn remember(&self, key: TokenKey, authorization: Authorization) {
        self.kept.insert(key, authorization);
    }

    /// Forgets an authorization that the registry refused, unless another was granted since.
    pub(crate) fn forget(&self, key: &TokenKey, refused: &Authorization) {
        self.kept.entry_by_ref(key).and_compute_with(|kept| match kept {
            Some(kept) if kept.value() == refused => Op::Remove,
            _ => Op::Nop,
        });
    }

    /// A token for `request`: one that was granted since `refused` was sent, that of an equal request under
    /// way, or a new one.
    ///
    /// It is kept at once for later callers; a caller that finds it refused must call [`Tokens::forget`].
    pub(crate) async fn request(
        &self,
        request: TokenRequest,
        key: &TokenKey,
        refused: Option<&Authorization>,
        transport: &Transport,
    ) -> Result<Authorization, TokenError> {
        let host = authority(&request.realm.url);
        let transport = transport.clone();
        let request_key = request.key();
        let granted = || self.recall(key).filter(|kept| refused.is_none_or(|refused| kept != refused));
        let (kept, key) = (self.kept.clone(), key.clone());
        let keep = move |answer: &Result<Authorization, TokenError>| {
            if let Ok(authorization) = answer {
                kept.insert(key, authorization.clone());
            }
            Reuse::Answer
        };
        let answer = async move {
            match timeout(LONGEST_REQUEST, request.token(&transport)).await {
                Ok(answer) => answer,
                Err(_) => Err(TokenError::Failed(format!("token service {host} did not answer in time"))),
            }
        };
        let answer = self.under_way.join(|| granted().map(Ok), request_key, answer, keep).answer().await;
        answer.unwrap_or_else(|| {
            tracing::error!("a request to a token service ended without a result");
            Err(TokenError::Failed("internal error; see the log of layerpin".to_owned()))
        })
    }
}

/// A request to a token service.
pub(crate) struct TokenRequest {
    pub(crate) realm: Realm,
    pub(crate) service: Option<String>,
    pub(crate) scope: String,
    pub(crate) credential: Option<Credential>,
}

/// What makes two requests to token services equal.
#[derive(Clone, PartialEq, Eq, Hash)]
struct TokenRequestKey {
    realm: String,
    trust: Trust,
    service: Option<String>,
    scope: String,
    credential: Option<Fingerprint>,
}

/// Why there is no token.
#[derive(Clone)]
pub(crate) enum TokenError {
    /// The token service refused the credential, or anonymous access.
    Refused(u16),
    /// The token service limits the rate of requests.
    Paused(Cause),
    /// Any other failure: a phrase that names the token service.
    Failed(String),
}

impl TokenRequest {
    fn key(&self) -> TokenRequestKey {
        TokenRequestKey {
            realm: self.realm.url.to_string(),
            trust: self.realm.trust,
            service: self.service.clone(),
            scope: self.scope.clone(),
            credential: self.credential.as_ref().map(Credential::fingerprint),
        }
    }

    /// Requests a token that may pull from the repository.
    async fn token(self, transport: &Transport) -> Result<Authorization, TokenError> {
        let host = authority(&self.realm.url);
        let failed = |reason: String| TokenError::Failed(format!("token service {host} {reason}"));
        let mut parameters = vec![("scope", self.scope.as_str())];
        parameters.extend(self.service.as_deref().map(|service| ("service", service)));
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let reply = match self.credential.as_ref().and_then(Credential::identity_token) {
            Some(identity) => {
                parameters.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "layerpin"),
                    ("refresh_token", identity),
                ]);
                transport.send_form(&self.realm.url, self.realm.trust, headers, &parameters).await
            }
            None => {
                let mut url = self.realm.url.clone();
                url.query_pairs_mut().extend_pairs(&parameters);
                let basic = self.credential.as_ref().and_then(Credential::basic);
                let trust = self.realm.trust;
                transport.send_to(&Method::GET, url, trust, headers, basic.as_ref()).await
            }
        };
        let reply = reply.map_err(|cause| match cause {
            Cause::Paused { .. } => TokenError::Paused(cause),
            cause => TokenError::Failed(cause.to_string()),
        })?;
        match reply.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(TokenError::Refused(reply.status.as_u16()));
            }
            status => return Err(failed(format!("returned {status}"))),
        }
        let body = transport
            .read(reply, MAX_TOKEN_ANSWER)
            .await
            .map_err(|cause| TokenError::Failed(cause.to_string()))?;
        granted(&body).map_err(|reason| failed(reason.to_owned()))
    }
}

/// The token service of `bearer`, if credentials may be sent to it.
pub(crate) fn realm(bearer: &Bearer, reply: &Reply) -> Result<Realm, UntrustedRealm> {
    let shown_realm = || shown(&bearer.realm);
    let mut realm = Url::parse(&bearer.realm).map_err(|_| UntrustedRealm::NotUrl(shown_realm()))?;
    let realm_host = realm.host_str().map(str::to_owned);
    let Some(realm_host) = realm_host.filter(|_| matches!(realm.scheme(), "http" | "https")) else {
        return Err(UntrustedRealm::NotUrl(shown_realm()));
    };
    // A user in the URL must not become a credential.
    let _ = realm.set_username("");
    let _ = realm.set_password(None);
    let both_loopback = is_loopback(&realm) && reply.is_loopback;
    // A registry that is configured as insecure may get its credentials without TLS, but not another host
    // that it names.
    let same_insecure_host = reply.is_insecure && Some(realm_host) == host_of(&reply.host);
    let trust = if same_insecure_host { Trust::Insecure } else { Trust::Verified };
    match (reply.is_verified, realm.scheme() == "https") {
        (true, true) => {}
        (false, _) if same_insecure_host => {}
        _ if both_loopback && !(reply.is_verified && realm.scheme() == "http") => {}
        (true, false) => return Err(UntrustedRealm::NoTls(authority(&realm))),
        (false, _) => return Err(UntrustedRealm::NamedWithoutTls(authority(&realm))),
    }
    Ok(Realm { url: realm, trust })
}

/// A token service that is trusted.
#[derive(Debug)]
pub(crate) struct Realm {
    url: Url,
    trust: Trust,
}

/// The host without its port.
fn host_of(authority: &str) -> Option<String> {
    Some(Url::parse(&format!("http://{authority}")).ok()?.host_str()?.to_owned())
}

/// Why a token service is not asked: a phrase about the registry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UntrustedRealm {
    #[error("its token service `{0}` is not a valid URL")]
    NotUrl(String),
    #[error("it uses TLS, but its token service {0} does not")]
    NoTls(String),
    /// Anybody on the way may have named it.
    #[error("it named the token service {0} without TLS")]
    NamedWithoutTls(String),
}

fn granted(body: &[u8]) -> Result<Authorization, &'static str> {
    #[derive(Deserialize)]
    struct TokenResponse {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    let granted: TokenResponse =
        serde_json::from_slice(body).map_err(|_| "returned an invalid response: not JSON")?;
    let token = granted.token.filter(|token| !token.is_empty()).or(granted.access_token);
    let token = token.filter(|token| !token.is_empty()).ok_or("returned an invalid response: no token")?;
    // The specification sets a default of a minute. A token is not used up to the last second.
    let expires_in = Duration::from_secs(granted.expires_in.unwrap_or(60)).min(LONGEST_KEPT);
    let kept = expires_in.saturating_sub(expires_in / 10 + Duration::from_secs(1));
    Authorization::bearer(&token, kept)
        .ok_or("returned an invalid response: the token cannot be sent in a header")
}

/// How long a token service that does not answer holds a request. Longer than any webhook waits, so that later
/// callers still profit.
const LONGEST_REQUEST: Duration = Duration::from_secs(30);
/// A token has a few kilobytes.
const MAX_TOKENS: u64 = 1024;
const LONGEST_KEPT: Duration = Duration::from_secs(3600);
const MAX_TOKEN_ANSWER: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(encrypted: bool, loopback: bool) -> Reply {
        Reply::for_test(encrypted, loopback, false)
    }

    #[test]
    fn a_token_service_must_be_trusted_as_the_registry_is() {
        let https = reply(true, false);
        let plain_loopback = reply(false, true);
        let tls_loopback = reply(true, true);
        let plain = reply(false, false);
        for (registry, name, url, trusted) in [
            (&https, "https", "https://auth.example/token", true),
            (&https, "https", "http://auth.example/token", false),
            (&https, "https", "http://127.0.0.1/token", false),
            (&plain_loopback, "loopback", "http://127.0.0.1:5001/token", true),
            (&plain_loopback, "loopback", "https://localhost:5001/token", true),
            (&plain_loopback, "loopback", "http://auth.example/token", false),
            (&plain_loopback, "loopback", "https://auth.example/token", false),
            (&tls_loopback, "loopback over TLS", "http://127.0.0.1:5001/token", false),
            (&tls_loopback, "loopback over TLS", "https://auth.example/token", true),
            (&plain, "plain", "https://auth.example/token", false),
            (&https, "https", "ftp://auth.example/token", false),
            (&https, "https", "/token", false),
            (&https, "https", "", false),
        ] {
            let bearer = Bearer { realm: url.to_owned(), ..Bearer::default() };
            assert_eq!(realm(&bearer, registry).is_ok(), trusted, "{name}: {url}");
        }
    }

    #[test]
    fn an_insecure_registry_may_only_be_its_own_token_service() {
        let insecure = Reply::for_test(false, false, true);
        for (url, trusted) in [
            ("http://registry.example/token", true),
            ("https://registry.example:5001/token", true),
            ("http://auth.example/token", false),
            ("https://auth.example/token", false),
        ] {
            let bearer = Bearer { realm: url.to_owned(), ..Bearer::default() };
            assert_eq!(realm(&bearer, &insecure).is_ok(), trusted, "{url}");
        }
    }

    #[test]
    fn a_user_in_the_realm_is_removed() {
        let bearer = Bearer { realm: "https://user:pass@auth.example/t".into(), ..Bearer::default() };
        assert_eq!(realm(&bearer, &reply(true, false)).unwrap().url.as_str(), "https://auth.example/t");
    }

    #[test]
    fn a_token_can_have_either_name_and_expires() {
        let value = |body: &str| {
            granted(body.as_bytes()).map(|granted| granted.header().to_str().unwrap().to_owned())
        };
        assert_eq!(value("{\"token\":\"a\"}"), Ok("Bearer a".into()));
        assert_eq!(value("{\"access_token\":\"b\",\"expires_in\":300}"), Ok("Bearer b".into()));
        assert_eq!(value("{\"token\":\"\",\"access_token\":\"b\"}"), Ok("Bearer b".into()));
        assert_eq!(value("{}"), Err("returned an invalid response: no token"));
        assert_eq!(value("<html>"), Err("returned an invalid response: not JSON"));
        assert_eq!(
            value("{\"token\":\"a\\nb\"}"),
            Err("returned an invalid response: the token cannot be sent in a header")
        );
        let ended = granted(b"{\"token\":\"a\",\"expires_in\":1}").unwrap();
        assert!(ended.is_expired());
    }
}
