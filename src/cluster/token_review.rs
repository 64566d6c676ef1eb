//! Who calls, and whether they may create MachineConfigs: asked of the API server.
//!
//! Owns the two questions (TokenReview, then SubjectAccessReview) and how long their answers serve.
//! Tokens are remembered by a keyed hash, and printed nowhere.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use axum::http::{Request, header};
use moka::sync::Cache;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::cluster::client::{ApiClient, ApiError};
use crate::text::shown;

/// Whether somebody may create MachineConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerAccess {
    /// They may.
    Granted,
    /// They may not; their name in the cluster.
    Missing(String),
    /// The cluster does not know the token.
    UnknownToken,
}

/// What was found out of callers.
pub(crate) struct TokenReviewer {
    key: hmac::Key,
    granted: Cache<TokenFingerprint, ()>,
    refused: Cache<TokenFingerprint, CallerAccess>,
    /// However many call, the API server is asked little at once.
    questions: Semaphore,
}

type TokenFingerprint = Arc<[u8]>;

impl TokenReviewer {
    pub(crate) fn new() -> Self {
        #[expect(clippy::expect_used, reason = "without randomness from the system there is no TLS either")]
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).expect("randomness");
        Self {
            key,
            granted: Cache::builder().max_capacity(MAX_CALLERS).time_to_live(GRANTED_KEPT).build(),
            refused: Cache::builder().max_capacity(MAX_CALLERS).time_to_live(REFUSED_KEPT).build(),
            questions: Semaphore::new(MAX_QUESTIONS),
        }
    }

    /// Tells whether the owner of `token` may create MachineConfigs.
    pub(crate) async fn right_of(
        &self,
        token: &str,
        connection: &ApiClient,
        deadline: Instant,
    ) -> Result<CallerAccess, ApiError> {
        let fingerprint: TokenFingerprint = hmac::sign(&self.key, token.as_bytes()).as_ref().into();
        if self.granted.contains_key(&fingerprint) {
            return Ok(CallerAccess::Granted);
        }
        if let Some(right) = self.refused.get(&fingerprint) {
            return Ok(right);
        }
        let Ok(Ok(_permit)) = timeout_at(deadline, self.questions.acquire()).await else {
            return Err(connection.out_of_time());
        };
        let right = ask(token, connection, deadline).await?;
        match &right {
            CallerAccess::Granted => self.granted.insert(fingerprint, ()),
            refusal => self.refused.insert(fingerprint, refusal.clone()),
        }
        Ok(right)
    }
}

impl std::fmt::Debug for TokenReviewer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Callers").finish_non_exhaustive()
    }
}

async fn ask(token: &str, connection: &ApiClient, deadline: Instant) -> Result<CallerAccess, ApiError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct TokenStatus {
        authenticated: bool,
        user: User,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct User {
        username: String,
        uid: String,
        groups: Option<Vec<String>>,
        extra: Value,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct AccessStatus {
        allowed: bool,
    }
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token},
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let TokenStatus { authenticated, user } = create(connection, path, &review, deadline).await?;
    if !authenticated {
        return Ok(CallerAccess::UnknownToken);
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": user.username, "uid": user.uid, "groups": user.groups, "extra": user.extra,
            "resourceAttributes": {
                "group": "machineconfiguration.openshift.io", "resource": "machineconfigs", "verb": "create",
            },
        },
    });
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let AccessStatus { allowed } = create(connection, path, &review, deadline).await?;
    Ok(if allowed { CallerAccess::Granted } else { CallerAccess::Missing(shown(&user.username)) })
}

/// Creates a review, which the API server answers and does not store, and returns its status.
async fn create<T: for<'de> Deserialize<'de>>(
    connection: &ApiClient,
    path: &str,
    review: &Value,
    deadline: Instant,
) -> Result<T, ApiError> {
    #[derive(Deserialize)]
    struct ReviewBody<T> {
        status: T,
    }
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(review.to_string().into_bytes())
        .map_err(|error| connection.nonsense(error.to_string()))?;
    let body = connection.ask(request, MAX_REVIEW, deadline).await?;
    match serde_json::from_slice::<ReviewBody<T>>(&body) {
        Ok(answer) => Ok(answer.status),
        Err(_) => Err(connection.nonsense("a review without a status".to_owned())),
    }
}

const MAX_CALLERS: u64 = 1024;
/// A right that is taken away, or a token that is revoked, still serves for so long.
const GRANTED_KEPT: Duration = Duration::from_secs(30);
/// Somebody who was just given the right should not have to wait.
const REFUSED_KEPT: Duration = Duration::from_secs(5);
const MAX_QUESTIONS: usize = 8;
/// The names of a user's groups, of which there may be many.
const MAX_REVIEW: usize = 1024 * 1024;
