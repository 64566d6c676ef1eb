//! Who may use a registry, and the challenge for those who may not.
//!
//! Sources: RFC 7617 for Basic; the Docker registry's "Token Authentication
//! Specification" for Bearer.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode};

use super::distribution::Endpoint;
use crate::http::{Answer, Request};
use crate::printed::keep_account;
use crate::token_service::{Issuer, Rejection};

/// The rule for access.
#[derive(Debug)]
pub(super) enum Access {
    /// All may do all.
    Open,
    /// The accounts may do all.
    Basic(Vec<Account>),
    /// A token says what its bearer may do.
    Bearer(Arc<Issuer>),
}

impl Access {
    /// Adds an account, in place of a rule that is not Basic.
    pub(super) fn with_account(self, user: &str, password: &str) -> Self {
        let mut accounts = match self {
            Self::Basic(accounts) => accounts,
            Self::Open | Self::Bearer(_) => Vec::new(),
        };
        keep_account(user, password);
        accounts.push(Account { authorization: basic_authorization(user, password), user: user.to_owned() });
        Self::Basic(accounts)
    }

    /// Returns the answer that refuses a request, or nothing if it may pass.
    pub(super) fn refusal(&self, request: &Request, endpoint: Endpoint<'_>) -> Option<Answer> {
        let authorization = request.header(AUTHORIZATION);
        match self {
            Self::Open => None,
            Self::Basic(accounts) => {
                let known = accounts.iter().any(|account| authorization == Some(&account.authorization));
                (!known).then(|| self.challenge(endpoint))
            }
            Self::Bearer(issuer) => {
                let action = action_of(&request.method);
                let Some(token) = authorization.and_then(|value| value.strip_prefix("Bearer ")) else {
                    return Some(bearer_challenge(issuer, endpoint, action, None));
                };
                let needed = endpoint.repository().map(|repository| (repository, action));
                let rejection = issuer.check(token, needed).err()?;
                Some(bearer_challenge(issuer, endpoint, action, Some(rejection)))
            }
        }
    }

    /// Makes the answer to a request without credentials.
    ///
    /// A registry that is open to all asks for Basic credentials here.
    pub(super) fn challenge(&self, endpoint: Endpoint<'_>) -> Answer {
        match self {
            Self::Open | Self::Basic(_) => {
                unauthorized().with_header(WWW_AUTHENTICATE, "Basic realm=\"sample registry\"")
            }
            Self::Bearer(issuer) => bearer_challenge(issuer, endpoint, "pull", None),
        }
    }
}

/// An account of Basic access.
pub(super) struct Account {
    user: String,
    authorization: String,
}

impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Returns the value of `Authorization` for Basic credentials.
fn basic_authorization(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn bearer_challenge(
    issuer: &Issuer,
    endpoint: Endpoint<'_>,
    action: &str,
    rejection: Option<Rejection>,
) -> Answer {
    let mut challenge = format!("Bearer realm=\"{}\",service=\"{}\"", issuer.realm(), issuer.service());
    if let Some(repository) = endpoint.repository() {
        let actions = match action {
            "push" => "pull,push",
            other => other,
        };
        challenge.push_str(&format!(",scope=\"repository:{repository}:{actions}\""));
    }
    if let Some(rejection) = rejection {
        challenge.push_str(&format!(",error=\"{}\"", rejection.code()));
    }
    unauthorized().with_header(WWW_AUTHENTICATE, &challenge)
}

fn unauthorized() -> Answer {
    Answer::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required")
}

fn action_of(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "pull",
        Method::DELETE => "delete",
        _ => "push",
    }
}
