//! Who calls `/dry-run`, and whether they may create MachineConfigs.
//!
//! Asks the API server with a TokenReview and a SubjectAccessReview, and remembers the answers for seconds.
//! Tokens are remembered as keyed hashes and are never logged.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use moka::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::cluster::client::{ApiClient, ApiError};
use crate::text::shown;

/// Whether a caller may create MachineConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerAccess {
    /// The caller, with this user name, may.
    Granted(String),
    /// The caller, with this user name, may not.
    Missing(String),
    /// The token is not valid in this cluster.
    UnknownToken,
}

/// Asks who callers are, and remembers it.
#[derive(Debug)]
pub(crate) struct TokenReviewer {
    key: hmac::Key,
    granted: Cache<TokenFingerprint, CallerAccess>,
    refused: Cache<TokenFingerprint, CallerAccess>,
    /// Limits the requests to the API server, however many callers there are.
    requests: Semaphore,
}

type TokenFingerprint = Arc<[u8]>;

impl TokenReviewer {
    pub(crate) fn new() -> Self {
        #[expect(clippy::expect_used, reason = "without randomness from the system there is no TLS either")]
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).expect("randomness");
        Self {
            key,
            granted: Cache::builder().max_capacity(MAX_CALLERS).time_to_live(GRANTED_TTL).build(),
            refused: Cache::builder().max_capacity(MAX_CALLERS).time_to_live(REFUSED_TTL).build(),
            requests: Semaphore::new(MAX_REQUESTS),
        }
    }

    /// Tells whether the owner of `token` may create MachineConfigs, by `deadline`.
    pub(crate) async fn review(
        &self,
        token: &str,
        client: &ApiClient,
        deadline: Instant,
    ) -> Result<CallerAccess, ApiError> {
        let fingerprint: TokenFingerprint = hmac::sign(&self.key, token.as_bytes()).as_ref().into();
        if let Some(known) = self.granted.get(&fingerprint).or_else(|| self.refused.get(&fingerprint)) {
            return Ok(known);
        }
        let Ok(Ok(_permit)) = timeout_at(deadline, self.requests.acquire()).await else {
            return Err(client.out_of_time());
        };
        let access = review(token, client, deadline).await?;
        let cache = if matches!(access, CallerAccess::Granted(_)) { &self.granted } else { &self.refused };
        cache.insert(fingerprint, access.clone());
        Ok(access)
    }
}

async fn review(token: &str, client: &ApiClient, deadline: Instant) -> Result<CallerAccess, ApiError> {
    let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
    let review = client.create(&TokenReview { spec, ..TokenReview::default() }, deadline).await?;
    let status = review.status.ok_or_else(|| client.invalid("a TokenReview without a status"))?;
    if status.authenticated != Some(true) {
        return Ok(CallerAccess::UnknownToken);
    }
    let user = status.user.unwrap_or_default();
    let spec = SubjectAccessReviewSpec {
        user: user.username.clone(),
        uid: user.uid,
        groups: user.groups,
        extra: user.extra,
        resource_attributes: Some(ResourceAttributes {
            group: Some("machineconfiguration.openshift.io".to_owned()),
            resource: Some("machineconfigs".to_owned()),
            verb: Some("create".to_owned()),
            ..ResourceAttributes::default()
        }),
        ..SubjectAccessReviewSpec::default()
    };
    let review =
        client.create(&SubjectAccessReview { spec, ..SubjectAccessReview::default() }, deadline).await?;
    let status = review.status;
    let status = status.ok_or_else(|| client.invalid("a SubjectAccessReview without a status"))?;
    let access = if status.allowed { CallerAccess::Granted } else { CallerAccess::Missing };
    Ok(access(shown(&user.username.unwrap_or_default())))
}

const MAX_CALLERS: u64 = 1024;
/// How long a right that was taken away, or a token that was revoked, is still accepted.
const GRANTED_TTL: Duration = Duration::from_secs(30);
/// Short, so that a user who was just given the right need not wait.
const REFUSED_TTL: Duration = Duration::from_secs(5);
const MAX_REQUESTS: usize = 8;
