//! A credential for a registry. Its secret is not in `Debug` output.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use derive_more::Debug;

use crate::registry::http::authorization::Authorization;

/// The credential for one registry or repository.
#[derive(Clone, Debug, PartialEq, Eq)]
#[debug("Credential({key:?})")]
pub(crate) struct Credential {
    /// The key of the entry, or the host for which a helper has it.
    pub(crate) key: String,
    pub(crate) secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    Password { user: String, password: String },
    IdentityToken(String),
}

impl Credential {
    /// The credential that a helper has for `host`. `None` when it has no user name.
    pub(crate) fn of_helper(host: &str, user: String, secret: String) -> Option<Self> {
        let secret = match user.as_str() {
            "" => return None,
            // By this user name helpers mark an identity token.
            "<token>" => Secret::IdentityToken(secret),
            _ => Secret::Password { user, password: secret },
        };
        Some(Self { key: host.to_owned(), secret })
    }

    /// The header for basic authentication. `None` when it is not a password.
    pub(crate) fn basic(&self) -> Option<Authorization> {
        match &self.secret {
            Secret::Password { user, password } => Some(Authorization::basic(user, password)),
            Secret::IdentityToken(_) => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn password(&self) -> Option<(&str, &str)> {
        match &self.secret {
            Secret::Password { user, password } => Some((user, password)),
            Secret::IdentityToken(_) => None,
        }
    }

    /// Identifies the credential without its secret.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let secret = match &self.secret {
            Secret::Password { user, password } => format!("{user}\0{password}"),
            Secret::IdentityToken(token) => format!("\0\0{token}"),
        };
        let text = format!("{}\0{secret}", self.key);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hmac::sign(&FINGERPRINT_KEY, text.as_bytes()).as_ref());
        Fingerprint(fingerprint)
    }
}

/// The HMAC-SHA256 of a credential under a key that only this process has, so that nobody can try passwords
/// against one from a core dump or a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[debug("Fingerprint(…)")]
pub(crate) struct Fingerprint([u8; 32]);

#[expect(clippy::expect_used, reason = "without randomness from the system there is no TLS either")]
static FINGERPRINT_KEY: LazyLock<hmac::Key> = LazyLock::new(|| {
    hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).expect("the system provides randomness")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_identify_credentials_and_are_not_plain_digests() {
        let fingerprint = |key: &str, secret| Credential { key: key.to_owned(), secret }.fingerprint();
        let password = |user: &str| Secret::Password { user: user.to_owned(), password: "secret".to_owned() };
        let one = fingerprint("a.b", password("one"));
        assert!(one == fingerprint("a.b", password("one")));
        assert!(one != fingerprint("a.b", password("two")));
        assert!(one != fingerprint("a.b/c", password("one")));
        assert!(one != fingerprint("a.b", Secret::IdentityToken("one\0secret".to_owned())));
        let plain = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"a.b\0one\0secret");
        assert_ne!(one.0, plain.as_ref());
        assert_eq!(format!("{one:?}"), "Fingerprint(…)");
    }
}
