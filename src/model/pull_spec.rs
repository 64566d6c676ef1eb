//! References as they are sent to a registry.
//!
//! Owns the one form in which an image is asked for: by its digest alone where there is one, else by its
//! tag, `latest` where none is written. Facts and questions are keyed by it, so that two ways of writing
//! the same image meet.

use std::ops::Deref;

use derive_more::Display;
use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;
use crate::model::image_reference::{ImageReference, ReferenceError};

/// A reference with either a tag or a digest, never both and never neither.
#[derive(Clone, Debug, Display, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "ImageReference", into = "ImageReference")]
pub struct PullSpec(ImageReference);

impl PullSpec {
    /// Parses a reference, and takes of it what a registry is asked for. Fails with the part that is
    /// wrong.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        ImageReference::parse(text).map(Self::from)
    }

    /// The same repository by `digest`.
    pub fn pinned_to(&self, digest: &Digest) -> Self {
        Self(self.0.pinned_to(digest))
    }
}

impl From<ImageReference> for PullSpec {
    fn from(reference: ImageReference) -> Self {
        let latest = || reference.with_tag(DEFAULT_TAG);
        Self(match (reference.digest(), reference.tag()) {
            (Some(digest), Some(_)) => reference.pinned_to(digest),
            (None, None) => latest().unwrap_or(reference),
            _ => reference,
        })
    }
}

impl From<PullSpec> for ImageReference {
    fn from(pull_spec: PullSpec) -> Self {
        pull_spec.0
    }
}

impl Deref for PullSpec {
    type Target = ImageReference;

    fn deref(&self) -> &ImageReference {
        &self.0
    }
}

/// What nodes pull where neither tag nor digest is written (`reference.TagNameOnly` of
/// `containers/image`).
pub(crate) const DEFAULT_TAG: &str = "latest";

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_digest_decides_before_a_tag_and_latest_stands_for_neither() {
        let by_digest = format!("quay.io/acme/os@{DIGEST}");
        for (written, pulled) in [
            ("quay.io/acme/os", "quay.io/acme/os:latest"),
            ("quay.io/acme/os:4.18", "quay.io/acme/os:4.18"),
            (by_digest.as_str(), by_digest.as_str()),
            (&format!("quay.io/acme/os:4.18@{DIGEST}"), by_digest.as_str()),
        ] {
            let pull_spec = ImageReference::parse(written).unwrap().pull_spec();
            assert_eq!(pull_spec.as_str(), pulled);
            assert_eq!(serde_json::to_string(&pull_spec).unwrap(), format!("\"{pulled}\""));
            let read: PullSpec = serde_json::from_str(&format!("\"{written}\"")).unwrap();
            assert_eq!(read, pull_spec);
        }
    }
}
