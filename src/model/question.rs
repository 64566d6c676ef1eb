//! What is asked of the outside, as plain data.
//!
//! Pure code says what it needs to know next, given what is known so far; [`crate::sources`]
//! answers. An answer may raise further questions (a payload names a base, the base must be read),
//! so the engine asks in rounds until nothing new comes up.

use std::collections::BTreeSet;

use crate::model::facts::Facts;
use crate::model::facts::image::Platform;
use crate::model::pull_spec::PullSpec;

/// A question to the outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Which manifest does the reference name?
    Manifest {
        /// What the registry is asked for.
        reference: PullSpec,
        /// Whether an answer from before may serve.
        freshness: Freshness,
    },
    /// What are the layers of the image?
    Image {
        /// What the registry is asked for.
        reference: PullSpec,
        /// The platforms whose layers are needed.
        platforms: Platforms,
        /// What the answer is for.
        purpose: Purpose,
    },
    /// What does the release payload say of the operating system?
    Payload {
        /// The payload.
        reference: PullSpec,
    },
}

/// Whether an answer from before may serve; the more demanding is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Freshness {
    /// It may, as long as the cache keeps it.
    Cached,
    /// It may not: the user asked for a fresh look.
    Fresh,
}

/// What is done with what is known of an image; the more bounded is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Others are judged by it: the cluster, its release, the policy or the user names it.
    Base,
    /// It is judged: an object names it.
    Judged,
}

/// Platforms of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Platforms {
    /// Every `linux` platform that the image has.
    All,
    /// These alone.
    Only(BTreeSet<Platform>),
}

impl Platforms {
    fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Only(some), Self::Only(others)) => Self::Only(some | others),
            _ => Self::All,
        }
    }
}

impl Question {
    /// The question for the manifest of `reference`, to which an answer from before may serve.
    pub fn manifest(reference: PullSpec) -> Self {
        Self::Manifest { reference, freshness: Freshness::Cached }
    }

    /// What is asked about.
    pub fn reference(&self) -> &PullSpec {
        match self {
            Self::Manifest { reference, .. }
            | Self::Image { reference, .. }
            | Self::Payload { reference } => reference,
        }
    }

    /// Tells whether `registries.allow` of the policy, and the registries that the cluster allows, bound
    /// the question. It bounds what objects name;
    /// the payload and the bases of a release are named by those who run the cluster, and its nodes
    /// pull them whatever the list says.
    pub fn is_bounded_by_policy(&self) -> bool {
        match self {
            Self::Manifest { .. } => true,
            Self::Image { purpose, .. } => *purpose == Purpose::Judged,
            Self::Payload { .. } => false,
        }
    }

    /// Tells whether `facts` hold an answer already, be it that there is none.
    pub fn is_answered_by(&self, facts: &Facts) -> bool {
        match self {
            Self::Manifest { reference, .. } => facts.manifests.contains_key(reference),
            Self::Image { reference, .. } => facts.images.contains_key(reference),
            Self::Payload { reference } => facts.payloads.contains_key(reference),
        }
    }

    /// The question that asks for what `self` and `other` ask for together. `None` when they are about
    /// different things.
    pub fn joined(&self, other: &Self) -> Option<Self> {
        if !self.covers(other) {
            return None;
        }
        Some(match (self, other) {
            (
                Self::Image { reference, platforms, purpose },
                Self::Image { platforms: others, purpose: other, .. },
            ) => Self::Image {
                reference: reference.clone(),
                platforms: platforms.union(others),
                purpose: *purpose.max(other),
            },
            (Self::Manifest { reference, freshness }, Self::Manifest { freshness: other, .. }) => {
                Self::Manifest { reference: reference.clone(), freshness: *freshness.max(other) }
            }
            _ => self.clone(),
        })
    }

    /// Tells whether an answer to `self` is one to `other`: they ask the same of the same.
    pub fn covers(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.reference() == other.reference()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_about_the_same_are_joined_to_what_both_ask_for() {
        let reference = PullSpec::parse("quay.io/acme/os:1").unwrap();
        let image = |platforms| {
            let (reference, purpose) = (reference.clone(), Purpose::Judged);
            Question::Image { reference, platforms, purpose }
        };
        let only = |architectures: &[&str]| {
            Platforms::Only(
                architectures.iter().map(|architecture| Platform::of_node(architecture)).collect(),
            )
        };
        let manifest = |freshness| Question::Manifest { reference: reference.clone(), freshness };
        for (one, other, joined) in [
            (image(only(&["amd64"])), image(only(&["arm64"])), Some(image(only(&["amd64", "arm64"])))),
            (image(only(&["amd64"])), image(Platforms::All), Some(image(Platforms::All))),
            (manifest(Freshness::Cached), manifest(Freshness::Fresh), Some(manifest(Freshness::Fresh))),
            (manifest(Freshness::Cached), image(Platforms::All), None),
            (
                manifest(Freshness::Cached),
                Question::manifest(PullSpec::parse("quay.io/acme/os:2").unwrap()),
                None,
            ),
        ] {
            assert_eq!(one.joined(&other), joined);
            assert_eq!(other.joined(&one), joined);
        }
    }
}
