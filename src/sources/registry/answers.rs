//! What registries answered, kept for a while; equal questions under way are joined.
//!
//! Owns how long each kind of answer is kept, and which replaces which. The key holds which
//! credential asked, so nobody learns of a private image through another's answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;

use super::credentials::{Credential, Fingerprint};
use super::flights::{Awaited, Flights, Worth};
use crate::facts::{Cause, Fact, Manifest};
use crate::image_reference::ImageReference;

#[derive(Debug)]
pub(super) struct Answers {
    kept: Cache<Key, Fact<Manifest>>,
    under_way: Arc<Flights<Key, Fact<Manifest>>>,
}

/// A question and who asked it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    reference: ImageReference,
    credential: Option<Fingerprint>,
}

impl Key {
    pub(super) fn new(reference: &ImageReference, credential: Option<&Credential>) -> Self {
        Self { reference: reference.clone(), credential: credential.map(Credential::fingerprint) }
    }
}

impl Answers {
    pub(super) fn new() -> Self {
        let kept = Cache::builder().max_capacity(MAX_ANSWERS).expire_after(Kept).build();
        Self { kept, under_way: Flights::new() }
    }

    pub(super) fn recall(&self, key: &Key) -> Option<Fact<Manifest>> {
        self.kept.get(key)
    }

    /// The answer of a question that is under way already, or that of `ask`.
    pub(super) fn ask(
        &self,
        key: Key,
        ask: impl Future<Output = Fact<Manifest>> + Send + 'static,
    ) -> Awaited<Fact<Manifest>> {
        let land = self.keep(key.clone());
        self.under_way.join(key, ask, land)
    }

    /// The answer to a question that is asked after this call: `ask`, or one that has yet to begin.
    pub(super) fn ask_anew(
        &self,
        key: Key,
        ask: impl Future<Output = Fact<Manifest>> + Send + 'static,
    ) -> Awaited<Fact<Manifest>> {
        let land = self.keep(key.clone());
        self.under_way.join_next(key, ask, land)
    }

    /// Keeps an answer. A failure says nothing of the image, so it takes no answer's place.
    fn keep(&self, key: Key) -> impl FnOnce(&Fact<Manifest>) -> Worth + Send + 'static {
        let kept = self.kept.clone();
        move |answer| {
            let has_answer = || kept.get(&key).is_some_and(|before| worth(&before) == Worth::Answer);
            let worth = worth(answer);
            if worth == Worth::Answer || (is_worth_keeping(answer) && !has_answer()) {
                kept.insert(key, answer.clone());
            }
            worth
        }
    }
}

/// Whether the host may be asked is not kept with the question: who asks it again finds out at no
/// cost to the host, and at the moment when it may.
fn is_worth_keeping(answer: &Fact<Manifest>) -> bool {
    !matches!(answer, Fact::Unknown(Cause::Paused { .. } | Cause::Resting { .. } | Cause::Crowded { .. }))
}

fn worth(answer: &Fact<Manifest>) -> Worth {
    match answer {
        Fact::Known(_) | Fact::Absent | Fact::Unknown(Cause::Refused { .. }) => Worth::Answer,
        Fact::Unknown(_) => Worth::Failure,
    }
}

struct Kept;

impl Expiry<Key, Fact<Manifest>> for Kept {
    fn expire_after_create(&self, key: &Key, answer: &Fact<Manifest>, _: Instant) -> Option<Duration> {
        Some(kept(key, answer))
    }

    fn expire_after_update(
        &self,
        key: &Key,
        answer: &Fact<Manifest>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept(key, answer))
    }
}

fn kept(key: &Key, answer: &Fact<Manifest>) -> Duration {
    match answer {
        Fact::Known(_) if key.reference.digest().is_some() => BY_DIGEST,
        Fact::Known(_) => BY_TAG,
        Fact::Absent | Fact::Unknown(Cause::Refused { .. }) => REFUSAL,
        Fact::Unknown(_) => FAILURE,
    }
}

/// A digest names the same bytes for ever; only whether they are still there can change.
const BY_DIGEST: Duration = Duration::from_secs(3600);
/// A tag may move. A minute is what a person waits before asking why the new image is not seen.
const BY_TAG: Duration = Duration::from_secs(60);
/// Somebody is about to push the image or to mend the pull secret, and will try again.
const REFUSAL: Duration = Duration::from_secs(5);
/// Long enough that a burst does not become a burst on a registry that is down.
const FAILURE: Duration = Duration::from_secs(2);
/// An answer is about half a kilobyte.
const MAX_ANSWERS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::facts::{AsNodes, ManifestKind, Shown};

    #[test]
    fn answers_are_kept_by_what_they_are() {
        let digest = Digest::of(b"x");
        let tag = ImageReference::parse("quay.io/acme/os:1").unwrap();
        let pinned = tag.pinned_to(&digest);
        let known = Fact::Known(Manifest { digest, kind: ManifestKind::Image, endpoint: "quay.io".into() });
        let refused = Fact::Unknown(Cause::Refused {
            host: "quay.io".into(),
            status: 401,
            shown: Shown::NoEntry,
            as_nodes: AsNodes::Same,
        });
        for (reference, answer, expected) in [
            (&pinned, &known, BY_DIGEST),
            (&tag, &known, BY_TAG),
            (&tag, &Fact::Absent, REFUSAL),
            (&pinned, &refused, REFUSAL),
            (&tag, &Fact::Unknown(Cause::Internal), FAILURE),
        ] {
            assert_eq!(kept(&Key::new(reference, None), answer), expected, "{reference} {answer:?}");
        }
    }
}
