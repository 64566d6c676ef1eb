//! The value of the `Authorization` header of a request.

use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use derive_more::Debug;
use reqwest::header::HeaderValue;

/// A value of the `Authorization` header, with the time until which it can be used. `Debug` does not show it.
#[derive(Clone, Debug)]
#[debug("Authorization(…)")]
pub(crate) struct Authorization {
    value: HeaderValue,
    until: Instant,
}

impl Authorization {
    /// User and password (RFC 7617).
    pub(crate) fn basic(user: &str, password: &str) -> Self {
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        // Base64 is always a valid header value.
        let value = HeaderValue::from_str(&format!("Basic {encoded}"));
        Self::new(value.unwrap_or(HeaderValue::from_static("")), BASIC_KEPT)
    }

    /// A token (RFC 6750). `None` when it cannot be the value of a header.
    pub(crate) fn bearer(token: &str, expires_in: Duration) -> Option<Self> {
        Some(Self::new(HeaderValue::from_str(&format!("Bearer {token}")).ok()?, expires_in))
    }

    fn new(mut value: HeaderValue, kept: Duration) -> Self {
        value.set_sensitive(true);
        Self { value, until: Instant::now() + kept }
    }

    pub(crate) fn header(&self) -> &HeaderValue {
        &self.value
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.until <= Instant::now()
    }
}

impl PartialEq for Authorization {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

const BASIC_KEPT: Duration = Duration::from_secs(300);
