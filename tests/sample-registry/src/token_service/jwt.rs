//! JSON Web Tokens as registries verify them: ES256, with the chain of
//! certificates in the header.
//!
//! Sources: RFC 7515 and RFC 7519; the Docker registry's "Token Authentication
//! Implementation" for the claims.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;

use super::issuer::{Permission, random_text};
use crate::tls::Authority;

/// A key with its certificates.
pub(super) struct Signer {
    key: EcdsaKeyPair,
    certificate: String,
    root_certificate_pem: String,
}

impl Signer {
    /// Makes a signer with a fresh key below a fresh root.
    pub(super) fn new() -> Self {
        let authority = Authority::named("Sample Token Root");
        let identity = authority.issue(&["sample-token-service"]);
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, identity.key_der())
            .expect("a key for P-256 in PKCS #8");
        Self {
            key,
            certificate: STANDARD.encode(identity.certificate_der()),
            root_certificate_pem: authority.ca_pem(),
        }
    }

    pub(super) fn root_certificate_pem(&self) -> &str {
        &self.root_certificate_pem
    }

    /// Signs claims and returns the token in its compact form.
    pub(super) fn sign(&self, claims: &Claims<'_>) -> String {
        let header = Header { typ: "JWT", alg: "ES256", x5c: [&self.certificate] };
        let signed = format!("{}.{}", encoded(&header), encoded(claims));
        let signature =
            self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("randomness from the system");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What a token states.
#[derive(Serialize)]
pub(super) struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: u64,
    nbf: u64,
    iat: u64,
    jti: String,
    access: &'a [Permission],
}

impl<'a> Claims<'a> {
    /// States that `issuer` gives `permissions` to `subject`, from now on, for `expires_in`.
    pub(super) fn new(
        issuer: &'a str,
        subject: &'a str,
        audience: &'a str,
        expires_in: Duration,
        permissions: &'a [Permission],
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970");
        Self {
            iss: issuer,
            sub: subject,
            aud: audience,
            exp: (now + expires_in).as_secs(),
            nbf: now.as_secs(),
            iat: now.as_secs(),
            jti: random_text(),
            access: permissions,
        }
    }
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    x5c: [&'a str; 1],
}

fn encoded(part: &impl Serialize) -> String {
    let json = serde_json::to_vec(part).expect("a document of strings and numbers");
    URL_SAFE_NO_PAD.encode(json)
}
