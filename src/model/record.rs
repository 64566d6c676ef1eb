//! The record of a pin: the tag that was resolved, and its digest at that time.
//!
//! Owns the form `repository:tag@digest` of the annotations `layerpin.io/pinned-from` and
//! `layerpin.io/extensions-pinned-from`. A field itself never has that form.

use derive_more::Display;

use crate::model::digest::Digest;
use crate::model::image_reference::ImageReference;
use crate::model::pull_spec::PullSpec;

/// The reference with a tag that was pinned, and the digest that the tag named.
#[derive(Clone, Debug, Display, PartialEq, Eq)]
#[display("{reference}@{digest}")]
pub struct Record {
    reference: PullSpec,
    digest: Digest,
}

impl Record {
    /// Records that `tag` of the repository of `asked` named `digest`. `None` when `tag` is not a valid
    /// tag.
    pub fn new(asked: &ImageReference, tag: &str, digest: &Digest) -> Option<Self> {
        Some(Self { reference: asked.with_tag(tag)?.into(), digest: digest.clone() })
    }

    /// Reads an annotation. `None` when it is not `repository:tag@digest`; such an annotation is ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let reference = ImageReference::parse(text).ok()?;
        Self::new(&reference, reference.tag()?, reference.digest()?)
    }

    /// The reference that was asked for: `repository:tag`.
    pub fn pull_spec(&self) -> &PullSpec {
        &self.reference
    }

    /// The digest that it named.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Tells whether the record is about `field`: the same repository and the same digest.
    pub fn is_true_of(&self, field: &ImageReference) -> bool {
        field.repository() == self.reference.repository() && field.digest() == Some(&self.digest)
    }

    /// Tells whether the record was made from `asked`: the same repository and the same tag.
    pub fn answers(&self, asked: &ImageReference) -> bool {
        asked.repository() == self.reference.repository()
            && asked.effective_tag().is_some()
            && asked.effective_tag() == self.reference.tag()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let asked = ImageReference::parse("quay.io/acme/os").unwrap();
        let digest = Digest::parse(DIGEST).unwrap();
        let record = Record::new(&asked, "latest", &digest).unwrap();
        assert_eq!(record.to_string(), format!("quay.io/acme/os:latest@{DIGEST}"));
        assert_eq!(Record::parse(&record.to_string()), Some(record.clone()));
        assert!(record.answers(&asked));
        assert!(record.is_true_of(&asked.pinned_to(&digest)));
        assert!(!record.is_true_of(&asked));
    }

    #[test]
    fn a_record_needs_a_tag_and_a_digest() {
        for text in
            ["", "quay.io/acme/os", "quay.io/acme/os:1", &format!("quay.io/acme/os@{DIGEST}"), "os:1@x"]
        {
            assert_eq!(Record::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_record_answers_only_its_repository_and_tag() {
        let record = Record::parse(&format!("quay.io/acme/os:1@{DIGEST}")).unwrap();
        for (asked, answered) in [
            ("quay.io/acme/os:1", true),
            ("quay.io/acme/os:2", false),
            ("quay.io/acme/os", false),
            ("quay.io/acme/other:1", false),
            (&format!("quay.io/acme/os@{DIGEST}"), false),
        ] {
            assert_eq!(record.answers(&ImageReference::parse(asked).unwrap()), answered, "{asked}");
        }
    }
}
