//! Tokens for registries (the token authentication of the distribution project), and their cache.
//!
//! Owns which token service is asked, with which credential, and how long a token is kept. Callers that need
//! the same token share one request. A token service is trusted only if the registry named it over TLS and
//! it uses TLS itself, or if both are on loopback.

use std::sync::Arc;
use std::time::Duration;

use moka::ops::compute::Op;
use moka::sync::Cache;
use reqwest::Url;
use serde::Deserialize;

use crate::model::facts::Cause;
use crate::registry::auth::challenge::Bearer;
use crate::registry::auth::credential::{Credential, Fingerprint};
use crate::registry::http::Trust;
use crate::registry::http::address_guard::{authority, is_loopback};
use crate::registry::http::authorization::Authorization;
use crate::registry::http::transport::{Reply, RequestStart};
use crate::registry::single_flight::{Reuse, SingleFlight};
use crate::text::shown;

/// The tokens granted so far.
#[derive(Debug)]
pub(crate) struct Tokens {
    kept: Cache<TokenKey, Authorization>,
    under_way: Arc<SingleFlight<TokenKey, Result<Authorization, Cause>>>,
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

    /// A token: one that was granted since `refused` was sent, that of an equal request under way, or that of
    /// `request`.
    ///
    /// It is kept at once for later callers; a caller that finds it refused must call [`Tokens::forget`].
    pub(crate) async fn request(
        &self,
        key: &TokenKey,
        refused: Option<&Authorization>,
        request: impl Future<Output = Result<Authorization, Cause>> + Send + 'static,
    ) -> Result<Authorization, Cause> {
        let granted = || self.recall(key).filter(|kept| Some(kept) != refused);
        let (kept, kept_key) = (self.kept.clone(), key.clone());
        let keep = move |answer: &Result<Authorization, Cause>| {
            if let Ok(authorization) = answer {
                kept.insert(kept_key, authorization.clone());
            }
            Reuse::Answer
        };
        let answer = self.under_way.join(|| granted().map(Ok), key.clone(), request, keep).answer().await;
        answer.unwrap_or(Err(Cause::Internal))
    }
}

/// The token service of `bearer`, if credentials may be sent to it. Fails with why not: a phrase about the registry.
pub(crate) fn realm(bearer: &Bearer, reply: &Reply) -> Result<RequestStart, String> {
    let not_url = || format!("its token service `{}` is not a valid URL", shown(&bearer.realm));
    let mut url = Url::parse(&bearer.realm).map_err(|_| not_url())?;
    let is_http = matches!(url.scheme(), "http" | "https");
    let realm_host = url.host_str().filter(|_| is_http).ok_or_else(not_url)?.to_owned();
    // A user in the URL must not become a credential.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let both_loopback = is_loopback(&url) && reply.is_loopback;
    // A registry that is configured as insecure may get its credentials without TLS, but not another host
    // that it names.
    let same_insecure_host = reply.is_insecure && Some(realm_host) == host_of(&reply.host);
    let trust = if same_insecure_host { Trust::Insecure } else { Trust::Verified };
    match (reply.is_verified, url.scheme() == "https") {
        (true, true) => {}
        (false, _) if same_insecure_host => {}
        _ if both_loopback && !(reply.is_verified && url.scheme() == "http") => {}
        (true, false) => {
            return Err(format!("it uses TLS, but its token service {} does not", authority(&url)));
        }
        // Anybody on the way may have named it.
        (false, _) => return Err(format!("it named the token service {} without TLS", authority(&url))),
    }
    Ok(RequestStart { url, trust })
}

/// The host without its port.
fn host_of(authority: &str) -> Option<String> {
    Some(Url::parse(&format!("http://{authority}")).ok()?.host_str()?.to_owned())
}

/// The token in the response of a token service. Fails with what the service did: a phrase about it.
pub(crate) fn granted(body: &[u8]) -> Result<Authorization, &'static str> {
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

/// A token has a few kilobytes.
const MAX_TOKENS: u64 = 1024;
const LONGEST_KEPT: Duration = Duration::from_secs(3600);

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
