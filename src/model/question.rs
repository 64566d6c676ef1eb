//! What is asked of the outside, as plain data.
//!
//! Pure code says what it needs to know next, given what is known so far; [`crate::sources`]
//! answers. An answer may raise further questions (a payload names a base, whose layers are then
//! needed), so the engine asks in rounds until a [`Step`] is done.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::facts::image::{Image, Payload, Platform};
use crate::model::facts::{Cause, Fact, Facts, Manifest};
use crate::model::pull_spec::PullSpec;

/// A question to the outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// About an image: which manifest its reference names, what its layers are, or both.
    Image {
        /// What the registry is asked for.
        reference: PullSpec,
        /// Whether a cached manifest is good enough; `None` where the manifest is not asked for.
        manifest: Option<Freshness>,
        /// The platforms whose layers are needed; `None` where no layers are.
        platforms: Option<Platforms>,
        /// What the answer is for.
        purpose: Purpose,
    },
    /// What does the release payload say of the operating system?
    Payload {
        /// The payload.
        reference: PullSpec,
    },
}

/// Whether a cached answer is good enough; the more demanding is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Freshness {
    /// It is, as long as the cache keeps it.
    Cached,
    /// It is not: the user asked for a new look-up.
    Fresh,
}

/// What is done with what is known of an image; the more bounded is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Others are compared with it: the cluster, its release, the policy or the user names it.
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
    /// Which manifest does `reference`, which an object names, point to?
    pub fn manifest(reference: PullSpec, freshness: Freshness) -> Self {
        Self::Image { reference, manifest: Some(freshness), platforms: None, purpose: Purpose::Judged }
    }

    /// What are the layers of `reference`, on every platform?
    pub fn layers(reference: PullSpec, purpose: Purpose) -> Self {
        Self::Image { reference, manifest: None, platforms: Some(Platforms::All), purpose }
    }

    /// What is asked about.
    pub fn reference(&self) -> &PullSpec {
        match self {
            Self::Image { reference, .. } | Self::Payload { reference } => reference,
        }
    }

    /// Tells whether `registries.allow` of the policy, and the registries that the cluster allows, bound
    /// the question. They bound what objects name; the payload and the bases of a release are named by
    /// those who run the cluster, and its nodes pull them whatever the list says.
    pub fn is_bounded_by_policy(&self) -> bool {
        matches!(self, Self::Image { purpose: Purpose::Judged, .. })
    }

    /// Tells whether `facts` hold an answer to every part already, even if it is that nothing is known.
    pub fn is_answered_by(&self, facts: &Facts) -> bool {
        match self {
            Self::Image { reference, manifest, platforms, .. } => {
                (manifest.is_none() || facts.manifests.contains_key(reference))
                    && (platforms.is_none() || facts.images.contains_key(reference))
            }
            Self::Payload { reference } => facts.payloads.contains_key(reference),
        }
    }

    /// Adds what `other` asks for. Tells whether it could: both must be about the same image or payload.
    pub fn join(&mut self, other: &Self) -> bool {
        if self.reference() != other.reference() {
            return false;
        }
        match (self, other) {
            (
                Self::Image { manifest, platforms, purpose, .. },
                Self::Image { manifest: other_manifest, platforms: others, purpose: other_purpose, .. },
            ) => {
                *manifest = (*manifest).max(*other_manifest);
                *platforms = match (platforms.take(), others) {
                    (Some(platforms), Some(others)) => Some(platforms.union(others)),
                    (platforms, others) => platforms.or_else(|| others.clone()),
                };
                *purpose = (*purpose).max(*other_purpose);
                true
            }
            (Self::Payload { .. }, Self::Payload { .. }) => true,
            _ => false,
        }
    }

    /// The answer that `facts` hold, if there are any; a part that they lack is unknown for `cause`.
    pub fn answer_from(&self, facts: Option<&Facts>, cause: &Cause) -> Answer {
        fn found<T: Clone>(fact: Option<&Fact<T>>, cause: &Cause) -> Fact<T> {
            fact.cloned().unwrap_or_else(|| Fact::Unknown(cause.clone()))
        }
        match self {
            Self::Image { reference, manifest, platforms, .. } => Answer::Image {
                manifest: manifest
                    .map(|_| found(facts.and_then(|facts| facts.manifests.get(reference)), cause)),
                image: platforms
                    .as_ref()
                    .map(|_| found(facts.and_then(|facts| facts.images.get(reference)), cause)),
            },
            Self::Payload { reference } => {
                Answer::Payload(found(facts.and_then(|facts| facts.payloads.get(reference)), cause))
            }
        }
    }
}

/// Makes each question one, where several are about the same image or payload.
pub fn joined(questions: Vec<Question>) -> Vec<Question> {
    let mut distinct: Vec<Question> = Vec::with_capacity(questions.len());
    for question in questions {
        if !distinct.iter_mut().any(|earlier| earlier.join(&question)) {
            distinct.push(question);
        }
    }
    distinct
}

/// The answer to a question: each part that was asked for.
#[derive(Clone, Debug)]
pub enum Answer {
    /// About an image.
    Image {
        /// Which manifest the reference names.
        manifest: Option<Fact<Manifest>>,
        /// Its layers.
        image: Option<Fact<Arc<Image>>>,
    },
    /// About a release payload.
    Payload(Fact<Payload>),
}

impl Answer {
    /// Puts the answer to `question` into `facts`, in place of an earlier one. What is known of further
    /// platforms of the same image is added to what was known before.
    pub fn record(self, question: &Question, facts: &mut Facts) {
        let reference = question.reference();
        match self {
            Self::Image { manifest, image } => {
                if let Some(manifest) = manifest {
                    facts.manifests.insert(reference.clone(), manifest);
                }
                match (image, facts.images.get_mut(reference)) {
                    (Some(Fact::Known(more)), Some(Fact::Known(image))) if image.digest == more.digest => {
                        Arc::make_mut(image).platforms.extend(more.platforms.clone());
                    }
                    (Some(image), _) => drop(facts.images.insert(reference.clone(), image)),
                    (None, _) => {}
                }
            }
            Self::Payload(payload) => drop(facts.payloads.insert(reference.clone(), payload)),
        }
    }
}

/// How far pure code comes with the facts that it is given.
#[derive(Clone, Debug)]
pub enum Step<T> {
    /// These must be answered first.
    Ask(Vec<Question>),
    /// The result.
    Done(T),
}

impl<T> Step<T> {
    /// Asks `questions` where there are any; otherwise the result.
    pub fn after(questions: Vec<Question>, result: impl FnOnce() -> T) -> Self {
        if questions.is_empty() { Self::Done(result()) } else { Self::Ask(questions) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::model::digest::Digest;
    use crate::model::facts::ManifestKind;

    fn reference(tag: &str) -> PullSpec {
        PullSpec::parse(&format!("quay.io/acme/os:{tag}")).unwrap()
    }

    #[test]
    fn questions_about_one_image_are_joined_to_what_all_of_them_ask_for() {
        let image = |platforms| Question::Image {
            reference: reference("1"),
            manifest: None,
            platforms: Some(platforms),
            purpose: Purpose::Base,
        };
        let only = |architectures: &[&str]| {
            Platforms::Only(
                architectures.iter().map(|architecture| Platform::of_node(architecture)).collect(),
            )
        };
        let manifest = |freshness| Question::manifest(reference("1"), freshness);
        let both = Question::Image {
            reference: reference("1"),
            manifest: Some(Freshness::Cached),
            platforms: Some(Platforms::All),
            purpose: Purpose::Judged,
        };
        let payload = || Question::Payload { reference: reference("1") };
        for (one, other, expected) in [
            (image(only(&["amd64"])), image(only(&["arm64"])), vec![image(only(&["amd64", "arm64"]))]),
            (image(only(&["amd64"])), image(Platforms::All), vec![image(Platforms::All)]),
            (manifest(Freshness::Cached), manifest(Freshness::Fresh), vec![manifest(Freshness::Fresh)]),
            (manifest(Freshness::Cached), image(Platforms::All), vec![both]),
            (payload(), payload(), vec![payload()]),
        ] {
            assert_eq!(joined(vec![one.clone(), other.clone()]), expected);
            assert_eq!(joined(vec![other, one]), expected);
        }
        let others = vec![
            manifest(Freshness::Cached),
            payload(),
            Question::manifest(reference("2"), Freshness::Cached),
        ];
        assert_eq!(joined(others.clone()), others);
    }

    #[test]
    fn answers_about_platforms_of_one_image_are_put_together() {
        let question = Question::layers(reference("1"), Purpose::Judged);
        let answer = |architecture: &str, content: &[u8]| Answer::Image {
            manifest: None,
            image: Some(Fact::Known(Arc::new(Image {
                digest: Digest::of(content),
                kind: ManifestKind::Index,
                platforms: BTreeMap::from([(Platform::of_node(architecture), Fact::Absent)]),
            }))),
        };
        let platforms = |facts: &Facts| {
            let image = facts.images[&reference("1")].known().unwrap();
            image.platforms.keys().map(ToString::to_string).collect::<Vec<_>>()
        };
        let mut facts = Facts::none(Timestamp::UNIX_EPOCH);
        answer("amd64", b"one").record(&question, &mut facts);
        answer("arm64", b"one").record(&question, &mut facts);
        assert_eq!(platforms(&facts), ["linux/amd64", "linux/arm64"]);
        // The tag names another image now, whose platforms are its own.
        answer("s390x", b"other").record(&question, &mut facts);
        assert_eq!(platforms(&facts), ["linux/s390x"]);
    }

    #[test]
    fn a_part_that_recorded_facts_lack_is_unknown_and_the_rest_is_answered() {
        let mut facts = Facts::none(Timestamp::UNIX_EPOCH);
        facts.manifests.insert(reference("1"), Fact::Absent);
        let mut question = Question::manifest(reference("1"), Freshness::Cached);
        assert!(question.is_answered_by(&facts));
        question.join(&Question::layers(reference("1"), Purpose::Judged));
        assert!(!question.is_answered_by(&facts));
        let mut replayed = Facts::none(Timestamp::UNIX_EPOCH);
        question.answer_from(Some(&facts), &Cause::NotRecorded).record(&question, &mut replayed);
        assert_eq!(replayed.manifest(&reference("1")), &Fact::Absent);
        assert_eq!(replayed.image(&reference("1")), &Fact::Unknown(Cause::NotRecorded));
    }
}
