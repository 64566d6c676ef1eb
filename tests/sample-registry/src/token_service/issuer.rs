//! Grants tokens, remembers them, and says later whether one is good.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::TokenField;
use super::jwt::{Claims, Signer};
use crate::printed::keep_secret;

/// The authority on tokens, shared by the token service and the registries that trust it.
pub(crate) struct Issuer {
    realm: String,
    terms: Terms,
    signer: Signer,
    ledger: Mutex<Ledger>,
}

/// To whom tokens are given, and in which form.
pub(super) struct Terms {
    pub(super) service: String,
    pub(super) accounts: Vec<(String, String)>,
    pub(super) anonymous_pull: bool,
    pub(super) expiry: Duration,
    pub(super) states_expiry: bool,
    pub(super) token_field: TokenField,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            service: "sample-registry".to_owned(),
            accounts: Vec::new(),
            anonymous_pull: false,
            expiry: Duration::from_secs(300),
            states_expiry: true,
            token_field: TokenField::Token,
        }
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users: Vec<_> = self.accounts.iter().map(|(user, _)| user).collect();
        formatter
            .debug_struct("Terms")
            .field("service", &self.service)
            .field("users", &users)
            .field("anonymous_pull", &self.anonymous_pull)
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

/// One thing a token allows: actions on a repository, in the terms of a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Permission {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) actions: Vec<String>,
}

/// A token that has just been granted.
pub(super) struct Grant {
    pub(super) token: String,
    pub(super) expires_in: Duration,
}

/// Why a token does not let a request pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It was never issued, has expired or has been revoked.
    InvalidToken,
    /// It is good, but not for this.
    InsufficientScope,
}

impl Rejection {
    /// Returns the error code of a Bearer challenge (RFC 6750, 3.1).
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
        }
    }
}

struct Ledger {
    expiry: Duration,
    issued: HashMap<String, Issued>,
    refresh_tokens: HashMap<String, String>,
}

struct Issued {
    permissions: Vec<Permission>,
    expires: Instant,
}

impl Issuer {
    pub(super) fn new(realm: String, terms: Terms) -> Self {
        let ledger = Ledger { expiry: terms.expiry, issued: HashMap::new(), refresh_tokens: HashMap::new() };
        Self { realm, terms, signer: Signer::new(), ledger: Mutex::new(ledger) }
    }

    pub(crate) fn realm(&self) -> &str {
        &self.realm
    }

    pub(crate) fn service(&self) -> &str {
        &self.terms.service
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(crate) fn name(&self) -> &'static str {
        "sample-token-service"
    }

    pub(crate) fn root_certificate_pem(&self) -> &str {
        self.signer.root_certificate_pem()
    }

    /// Says whether `token` is good, and for `needed`, a repository and an action, if given.
    pub(crate) fn check(&self, token: &str, needed: Option<(&str, &str)>) -> Result<(), Rejection> {
        let ledger = self.lock();
        let issued = ledger
            .issued
            .get(token)
            .filter(|issued| issued.expires > Instant::now())
            .ok_or(Rejection::InvalidToken)?;
        match needed {
            Some((repository, action)) if !issued.allows(repository, action) => {
                Err(Rejection::InsufficientScope)
            }
            _ => Ok(()),
        }
    }

    /// Tells whether an account has this password.
    pub(super) fn knows(&self, user: &str, password: &str) -> bool {
        self.terms.accounts.iter().any(|(known_user, known)| known_user == user && known == password)
    }

    /// Grants a token for all of `scopes`, which are separated by spaces.
    pub(super) fn grant(&self, user: &str, scopes: &str) -> Grant {
        self.grant_permissions(user, permissions(scopes))
    }

    /// Grants a token for as much of `scopes` as is reading.
    pub(super) fn grant_pull(&self, scopes: &str) -> Grant {
        let mut permissions = permissions(scopes);
        for permission in &mut permissions {
            permission.actions.retain(|action| action == "pull");
        }
        self.grant_permissions("", permissions)
    }

    /// Makes a refresh token, or nothing if there is no such user.
    pub(super) fn refresh_token(&self, user: &str) -> Option<String> {
        self.terms.accounts.iter().find(|(known, _)| known == user)?;
        let token = format!("refresh-{}", random_text());
        keep_secret(&token);
        self.lock().refresh_tokens.insert(token.clone(), user.to_owned());
        Some(token)
    }

    /// Returns the user of a refresh token.
    pub(super) fn user_of(&self, refresh_token: &str) -> Option<String> {
        self.lock().refresh_tokens.get(refresh_token).cloned()
    }

    pub(super) fn set_expiry(&self, expiry: Duration) {
        self.lock().expiry = expiry;
    }

    pub(super) fn revoke_all(&self) {
        self.lock().issued.clear();
    }

    fn grant_permissions(&self, user: &str, permissions: Vec<Permission>) -> Grant {
        let mut ledger = self.lock();
        let expires_in = ledger.expiry;
        let token =
            self.signer.sign(&Claims::new(self.name(), user, &self.terms.service, expires_in, &permissions));
        keep_secret(&token);
        let now = Instant::now();
        ledger.issued.retain(|_, issued| issued.expires > now);
        let issued = Issued { permissions, expires: now + expires_in };
        ledger.issued.insert(token.clone(), issued);
        Grant { token, expires_in }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Issuer")
            .field("realm", &self.realm)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl Issued {
    fn allows(&self, repository: &str, action: &str) -> bool {
        self.permissions.iter().any(|permission| {
            permission.kind == "repository"
                && permission.name == repository
                && permission.actions.iter().any(|allowed| allowed == action)
        })
    }
}

/// Parses scopes such as `repository:acme/os:pull,push`, and leaves out what is none.
fn permissions(scopes: &str) -> Vec<Permission> {
    scopes
        .split_whitespace()
        .filter_map(|scope| {
            // The name in the middle may contain colons: a host with a port.
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            Some(Permission {
                kind: kind.to_owned(),
                name: name.to_owned(),
                actions: actions.split(',').map(str::to_owned).collect(),
            })
        })
        .collect()
}

pub(super) fn random_text() -> String {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("randomness from the system");
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_parsed_into_permissions() {
        let permission = |name: &str, actions: &[&str]| Permission {
            kind: "repository".to_owned(),
            name: name.to_owned(),
            actions: actions.iter().map(|action| (*action).to_owned()).collect(),
        };
        let table = [
            ("", vec![], "nothing"),
            ("nonsense", vec![], "no colons"),
            ("repository:acme/os:pull", vec![permission("acme/os", &["pull"])], "one scope"),
            (
                "repository:host:5000/os:pull,push repository:b:pull",
                vec![permission("host:5000/os", &["pull", "push"]), permission("b", &["pull"])],
                "a port in the name, and two scopes",
            ),
        ];
        for (scopes, expected, what) in table {
            assert_eq!(permissions(scopes), expected, "{what}");
        }
    }
}
