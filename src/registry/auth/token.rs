//! Tokens for registries (the token authentication of the distribution project), and their cache.
//!
//! Owns who is asked for a token, what is shown there, and how long an answer is kept. Who wants the
//! same token at once gets it from one question. A token
//! service is only trusted when the registry named it over TLS and it speaks TLS itself, or when
//! both are on loopback.

use std::sync::Arc;
use std::time::Duration;

use moka::ops::compute::Op;
use moka::sync::Cache;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use tokio::time::timeout;

use crate::model::facts::Cause;
use crate::registry::LONGEST_QUESTION;
use crate::registry::auth::challenge::Bearer;
use crate::registry::auth::credential::{Credential, Fingerprint};
use crate::registry::http::Trust;
use crate::registry::http::address_guard::{authority, is_loopback};
use crate::registry::http::authorization::Authorization;
use crate::registry::http::transport::{Reply, Transport};
use crate::registry::single_flight::{Reuse, SingleFlight};
use crate::text::shown;

/// What was granted before, for the same registry, repository and credentials.
#[derive(Debug)]
pub(crate) struct Tokens {
    kept: Cache<TokenKey, Authorization>,
    under_way: Arc<SingleFlight<TokenQuestion, Result<Authorization, TokenError>>>,
}

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

    /// Forgets what the registry refused, unless something else was granted since.
    pub(crate) fn forget(&self, key: &TokenKey, refused: &Authorization) {
        self.kept.entry_by_ref(key).and_compute_with(|kept| match kept {
            Some(kept) if kept.value() == refused => Op::Remove,
            _ => Op::Nop,
        });
    }

    /// Asks a token service, or waits for the answer to the same question that is under way, or takes
    /// what such a question brought since `refused` was shown.
    ///
    /// It is kept at once for those who come next; who finds that the registry refuses it must call
    /// [`Tokens::forget`].
    pub(crate) async fn ask(
        &self,
        ask: TokenRequest,
        key: &TokenKey,
        refused: Option<&Authorization>,
        transport: &Transport,
    ) -> Result<Authorization, TokenError> {
        let host = authority(&ask.realm.url);
        let transport = transport.clone();
        let question = ask.question();
        let granted = || self.recall(key).filter(|kept| refused.is_none_or(|refused| kept != refused));
        let (kept, key) = (self.kept.clone(), key.clone());
        let keep = move |answer: &Result<Authorization, TokenError>| {
            if let Ok(authorization) = answer {
                kept.insert(key, authorization.clone());
            }
            Reuse::Answer
        };
        let asked = async move {
            match timeout(LONGEST_QUESTION, ask.token(&transport)).await {
                Ok(answer) => answer,
                Err(_) => Err(TokenError::Failed(format!("the token service {host} did not answer in time"))),
            }
        };
        let answer = self.under_way.join(|| granted().map(Ok), question, asked, keep).answer().await;
        answer.unwrap_or_else(|| {
            tracing::error!("a question to a token service ended without an answer");
            Err(TokenError::Failed("layerpin failed while asking; its log has the reason".to_owned()))
        })
    }
}

/// A question to a token service.
pub(crate) struct TokenRequest {
    pub(crate) realm: Realm,
    pub(crate) service: Option<String>,
    pub(crate) scope: String,
    pub(crate) credential: Option<Credential>,
}

/// What makes two questions to token services the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct TokenQuestion {
    realm: String,
    trust: Trust,
    service: Option<String>,
    scope: String,
    credential: Option<Fingerprint>,
}

/// Why there is no token.
#[derive(Clone)]
pub(crate) enum TokenError {
    /// The token service refused what it was shown.
    Refused(u16),
    /// The token service wants to be asked later.
    Paused(Cause),
    /// Anything else.
    Failed(String),
}

impl TokenRequest {
    fn question(&self) -> TokenQuestion {
        TokenQuestion {
            realm: self.realm.url.to_string(),
            trust: self.realm.trust,
            service: self.service.clone(),
            scope: self.scope.clone(),
            credential: self.credential.as_ref().map(Credential::fingerprint),
        }
    }

    /// Asks for a token that may pull from the repository.
    async fn token(self, transport: &Transport) -> Result<Authorization, TokenError> {
        let host = authority(&self.realm.url);
        let failed = |reason: String| TokenError::Failed(format!("the token service {host} {reason}"));
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
            status => return Err(failed(format!("answered {}", status.as_u16()))),
        }
        let body = transport
            .read(reply, MAX_TOKEN_ANSWER)
            .await
            .map_err(|cause| TokenError::Failed(cause.to_string()))?;
        granted(&body).map_err(|reason| failed(reason.to_owned()))
    }
}

/// Where `bearer` may be taken to: the realm, when it may be trusted with credentials.
pub(crate) fn realm(bearer: &Bearer, reply: &Reply) -> Result<Realm, UntrustedRealm> {
    let shown_realm = || shown(&bearer.realm);
    let mut realm = Url::parse(&bearer.realm).map_err(|_| UntrustedRealm::NotUrl(shown_realm()))?;
    let realm_host = realm.host_str().map(str::to_owned);
    let Some(realm_host) = realm_host.filter(|_| matches!(realm.scheme(), "http" | "https")) else {
        return Err(UntrustedRealm::NotUrl(shown_realm()));
    };
    // Whatever is written there must not become a credential.
    let _ = realm.set_username("");
    let _ = realm.set_password(None);
    let both_loopback = is_loopback(&realm) && reply.is_loopback;
    // Who configures a registry as insecure trusts whoever answers in its place with its credentials,
    // but not whomever that one names.
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

/// A token service that may be asked.
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
    let granted: TokenResponse = serde_json::from_slice(body).map_err(|_| "answered what is no JSON")?;
    let token = granted.token.filter(|token| !token.is_empty()).or(granted.access_token);
    let token = token.filter(|token| !token.is_empty()).ok_or("answered without a token")?;
    // The specification says a minute where nothing is said, and asks for some slack before the end.
    let expires_in = Duration::from_secs(granted.expires_in.unwrap_or(60)).min(LONGEST_KEPT);
    let kept = expires_in.saturating_sub(expires_in / 10 + Duration::from_secs(1));
    Authorization::bearer(&token, kept).ok_or("answered a token that fits in no header")
}

/// Tokens are a few kilobytes each.
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
    fn an_insecure_registry_may_be_its_own_token_service_and_name_no_other() {
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
    fn a_user_in_the_realm_is_no_credential() {
        let bearer = Bearer { realm: "https://user:pass@auth.example/t".into(), ..Bearer::default() };
        assert_eq!(realm(&bearer, &reply(true, false)).unwrap().url.as_str(), "https://auth.example/t");
    }

    #[test]
    fn tokens_come_under_either_name_and_end() {
        let value = |body: &str| {
            granted(body.as_bytes()).map(|granted| granted.header().to_str().unwrap().to_owned())
        };
        assert_eq!(value("{\"token\":\"a\"}"), Ok("Bearer a".into()));
        assert_eq!(value("{\"access_token\":\"b\",\"expires_in\":300}"), Ok("Bearer b".into()));
        assert_eq!(value("{\"token\":\"\",\"access_token\":\"b\"}"), Ok("Bearer b".into()));
        assert_eq!(value("{}"), Err("answered without a token"));
        assert_eq!(value("<html>"), Err("answered what is no JSON"));
        assert_eq!(value("{\"token\":\"a\\nb\"}"), Err("answered a token that fits in no header"));
        let ended = granted(b"{\"token\":\"a\",\"expires_in\":1}").unwrap();
        assert!(ended.is_expired());
    }
}
