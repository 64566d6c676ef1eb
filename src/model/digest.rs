//! Content digests: `algorithm:hex`, as registries and nodes write them.
//!
//! Owns the supported algorithms and the check of bytes against a digest. Rejects upper-case hex, other
//! lengths and unknown algorithms, as `opencontainers/go-digest` does on nodes.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest as hash;
use derive_more::Display;
use serde::{Deserialize, Serialize};

/// A valid content digest, for example `sha256:` followed by 64 lower-case hex digits.
///
/// The algorithms are those of the OCI image specification that nodes support: `sha256`, `sha384` and
/// `sha512`.
#[derive(Clone, Debug, Display, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[display("{text}")]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    text: Arc<str>,
}

impl Digest {
    /// Parses `algorithm:hex`. Fails with the first error.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let Some((name, hex)) = text.split_once(':') else {
            return Err(DigestError::NoAlgorithm);
        };
        let Some(algorithm) = Algorithm::named(name) else {
            return Err(DigestError::UnknownAlgorithm(name.to_owned()));
        };
        let expected = algorithm.hex_digits();
        // Without an early end the bytes are compared several at a time.
        let is_hex =
            hex.bytes().fold(true, |is_hex, byte| is_hex & matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hex.len() == expected && is_hex {
            return Ok(Self { text: text.into() });
        }
        Err(match hex.chars().find(|c| !c.is_ascii_hexdigit()) {
            Some(character) => DigestError::NotHex(character),
            None if hex.len() == expected => DigestError::UpperCase,
            None => DigestError::WrongLength { algorithm: algorithm.name(), expected, found: hex.len() },
        })
    }

    /// Computes the `sha256` digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { text: Algorithm::Sha256.digest(bytes).into() }
    }

    /// Tells whether `bytes` have this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let (name, _) = self.text.split_once(':').unwrap_or_default();
        Algorithm::named(name).is_some_and(|algorithm| *algorithm.digest(bytes) == *self.text)
    }

    /// A hasher with the algorithm of this digest.
    pub fn hasher(&self) -> Hasher {
        let (name, _) = self.text.split_once(':').unwrap_or_default();
        // A valid digest has a known algorithm.
        let algorithm = Algorithm::named(name).unwrap_or(Algorithm::Sha256);
        Hasher { algorithm, context: hash::Context::new(algorithm.implementation()) }
    }

    /// The digest as it is written: `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The digest shortened for messages: the algorithm and the first twelve hex digits.
    pub fn short(&self) -> String {
        let end = self.text.find(':').map_or(0, |colon| colon + 1) + 12;
        format!("{}…", &self.text[..end.min(self.text.len())])
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.text.as_ref().to_owned()
    }
}

/// Computes the digest of bytes that arrive in parts.
pub struct Hasher {
    algorithm: Algorithm,
    context: hash::Context,
}

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// The digest of all bytes.
    pub fn finish(self) -> Digest {
        Digest { text: self.algorithm.text(self.context.finish().as_ref()).into() }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Hasher({})", self.algorithm.name())
    }
}

/// What is wrong with a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `:` between an algorithm and the hex digits.
    #[error("has no algorithm; write `sha256:` before the hex digits")]
    NoAlgorithm,
    /// Nodes do not support the algorithm.
    #[error("has the algorithm `{0}`; nodes support sha256, sha384 and sha512")]
    UnknownAlgorithm(String),
    /// A character is not a hex digit.
    #[error("has {0:?}, which is not a hex digit")]
    NotHex(char),
    /// The number of hex digits does not fit the algorithm.
    #[error("has {found} hex digits, but {algorithm} has {expected}")]
    WrongLength {
        /// The algorithm's name.
        algorithm: &'static str,
        /// How many hex digits it has.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// Hex digits are in upper case.
    #[error("has upper-case hex digits; registries and nodes accept lower case only")]
    UpperCase,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha384" => Some(Self::Sha384),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn implementation(self) -> &'static hash::Algorithm {
        match self {
            Self::Sha256 => &hash::SHA256,
            Self::Sha384 => &hash::SHA384,
            Self::Sha512 => &hash::SHA512,
        }
    }

    fn hex_digits(self) -> usize {
        self.implementation().output_len() * 2
    }

    fn digest(self, bytes: &[u8]) -> String {
        self.text(hash::digest(self.implementation(), bytes).as_ref())
    }

    fn text(self, digest: &[u8]) -> String {
        let mut text = format!("{}:", self.name());
        for byte in digest {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 0xf)]));
        }
        text
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_an_empty_text_is_well_known() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        assert!(Digest::parse(EMPTY).unwrap().matches(b""));
        assert!(!Digest::parse(EMPTY).unwrap().matches(b"x"));
    }

    #[test]
    fn the_digest_of_parts_is_that_of_the_whole() {
        let mut hasher = Digest::of(b"").hasher();
        hasher.update(b"two ");
        hasher.update(b"pieces");
        assert_eq!(hasher.finish(), Digest::of(b"two pieces"));
    }

    #[test]
    fn longer_digests_are_checked() {
        let sha512 = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        assert!(Digest::parse(sha512).unwrap().matches(b""));
        let mut hasher = Digest::parse(sha512).unwrap().hasher();
        hasher.update(b"");
        assert_eq!(hasher.finish().as_str(), sha512);
        let sha384 = "sha384:38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b";
        assert!(Digest::parse(sha384).unwrap().matches(b""));
    }

    #[test]
    fn every_invalid_digest_has_its_error() {
        let hex = &EMPTY["sha256:".len()..];
        for (text, expected) in [
            (hex.to_owned(), DigestError::NoAlgorithm),
            (format!("md5:{hex}"), DigestError::UnknownAlgorithm("md5".into())),
            (format!("SHA256:{hex}"), DigestError::UnknownAlgorithm("SHA256".into())),
            (format!("sha256:{}", hex.to_uppercase()), DigestError::UpperCase),
            (
                "sha256:abc".to_owned(),
                DigestError::WrongLength { algorithm: "sha256", expected: 64, found: 3 },
            ),
            (format!("sha256:{}g", &hex[1..]), DigestError::NotHex('g')),
        ] {
            assert_eq!(Digest::parse(&text), Err(expected), "{text}");
        }
    }

    #[test]
    fn the_short_form_keeps_twelve_digits() {
        assert_eq!(Digest::parse(EMPTY).unwrap().short(), "sha256:e3b0c44298fc…");
    }
}
