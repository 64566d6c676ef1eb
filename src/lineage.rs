//! Lineage: is an image built on a base of the release, for each pool and platform?
//!
//! Owns the comparison and its results. Only layers prove anything ([`layers`]); [`bases`] decides which
//! bases are accepted. Labels and annotations, which anybody can write, never make an image derived: they
//! only select one of two results for an image that is not.
//!
//! Pure: facts that are missing are returned as questions. The engine asks them and calls again, until
//! there are none.

pub mod bases;
pub mod layers;
pub(crate) mod unknown_reason;

use std::collections::BTreeMap;

use crate::lineage::bases::ExpectedBases;
pub use crate::lineage::bases::{Base, BaseOrigin, BaseStatus};
use crate::lineage::layers::{Agreement, LayerStack};
pub use crate::lineage::unknown_reason::{MissingFact, UnknownReason};
use crate::model::facts::Facts;
use crate::model::facts::image::{Image, Platform, PlatformImage};
use crate::model::image_reference::ImageReference;
use crate::model::pull_spec::PullSpec;
use crate::model::question::{Purpose, Question};
use crate::policy::Policy;
use crate::pools::{self, AffectedPool};
use crate::text::shown;

/// The lineage of one image in one pool on one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The pool. `None` when no pool is known.
    pub pool: Option<String>,
    /// The platform. `None` when no platform of the image is known.
    pub platform: Option<Platform>,
    /// The accepted bases; the first is the one to build on.
    pub accepted: Vec<Base>,
    /// How the image is related to them.
    pub ancestry: Ancestry,
    /// Remarks on the sources of the bases.
    pub notes: Vec<String>,
}

/// How an image is related to the accepted bases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ancestry {
    /// It is one of them.
    Same {
        /// Which.
        base: Base,
    },
    /// It is built on one of them.
    Derived {
        /// Which.
        base: Base,
        /// The layers above it.
        own_layers: usize,
    },
    /// It is built on none of them.
    Foreign {
        /// Why not.
        reason: ForeignReason,
        /// The known base that it agrees with most.
        closest: Option<Closest>,
    },
    /// It may be built on one of them, but its layers were replaced and do not show it.
    Unprovable {
        /// How its layers were replaced.
        rewriting: Rewriting,
        /// The known base that it agrees with most.
        closest: Option<Closest>,
    },
    /// Not known, and why.
    Unknown(UnknownReason),
}

/// Why an image is foreign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignReason {
    /// It is built on the base of another release: the closest.
    OtherRelease,
    /// It is built on the base of another OS stream: the closest.
    OtherStream,
    /// It is built on a base for another platform: the closest.
    OtherPlatform,
    /// It has some layers of a known base, but not all.
    PartOfBase,
    /// No accepted base exists for this platform.
    NoBaseForPlatform,
    /// It shares no layer with any known base.
    NothingShared,
}

/// How layers were replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewriting {
    /// All layers, including those of the base, were squashed into one.
    Squashed,
    /// The content was split into new layers.
    Rechunked,
}

/// A known base, and how far an image agrees with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closest {
    /// The base.
    pub base: Base,
    /// The platform of the base that was compared.
    pub platform: Platform,
    /// How far they agree.
    pub agreement: Agreement,
    /// The layers of the base.
    pub layers: usize,
}

/// What is known of the lineage of an image, and what must be asked to know more.
#[derive(Clone, Debug, Default)]
pub struct LineageAssessment {
    /// One entry for each pool and platform.
    pub lineage: Vec<Lineage>,
    /// Questions without an answer, each once.
    pub questions: Vec<Question>,
}

/// The questions that can be asked before any image is judged: for the payloads and bases of every pool.
/// Their answers may raise further questions: ask until the list is empty.
pub fn prefetch_questions(facts: &Facts, policy: &Policy) -> Vec<Question> {
    let mut assessment = LineageAssessment::default();
    let pools: Vec<_> = pools::all(&facts.cluster).collect();
    for pool in pools.iter().map(Some).chain([None]) {
        let mut expected = bases::expected(pool, facts, policy);
        for question in std::mem::take(&mut expected.questions) {
            assessment.ask(question, facts);
        }
        for base in expected.accepted.iter().chain(&expected.siblings) {
            assessment.ask(base.question(), facts);
        }
    }
    assessment.questions
}

/// Judges the lineage of `image` in `pools`; without any, that of the image on its own.
pub fn judge(
    image: &ImageReference,
    pools: &[AffectedPool<'_>],
    facts: &Facts,
    policy: &Policy,
) -> LineageAssessment {
    let mut assessment = LineageAssessment::default();
    let reference = image.pull_spec();
    // All platforms: another pool, or another object of the same run, may need other ones.
    assessment.ask(Question::layers(reference.clone(), Purpose::Judged), facts);
    if pools.is_empty() {
        assessment.pool(&reference, None, facts, policy);
    }
    for pool in pools {
        assessment.pool(&reference, Some(pool), facts, policy);
    }
    assessment
}

impl Lineage {
    /// Tells whether it is unknown because no base is named.
    pub fn lacks_base(&self) -> bool {
        self.ancestry == Ancestry::Unknown(UnknownReason::NothingToCompareWith)
    }
}

impl LineageAssessment {
    fn pool(
        &mut self,
        reference: &PullSpec,
        pool: Option<&AffectedPool<'_>>,
        facts: &Facts,
        policy: &Policy,
    ) {
        let mut expected = bases::expected(pool, facts, policy);
        for question in std::mem::take(&mut expected.questions) {
            self.ask(question, facts);
        }
        for base in &expected.accepted {
            self.ask(base.question(), facts);
        }
        let ancestries = self.ancestries(reference, pool, &expected, facts);
        self.lineage.extend(ancestries.into_iter().map(|(platform, ancestry)| Lineage {
            pool: pool.map(|pool| shown(pool.name)),
            platform,
            accepted: expected.accepted.clone(),
            ancestry,
            notes: expected.notes.clone(),
        }));
    }

    /// The ancestry on each platform; a single one without platform where the image as a whole is unknown.
    fn ancestries(
        &mut self,
        reference: &PullSpec,
        pool: Option<&AffectedPool<'_>>,
        expected: &ExpectedBases,
        facts: &Facts,
    ) -> Vec<(Option<Platform>, Ancestry)> {
        if expected.accepted.is_empty() {
            let reason = expected.missing.first().cloned().unwrap_or(UnknownReason::NothingToCompareWith);
            return vec![(None, Ancestry::Unknown(reason))];
        }
        let image = match UnknownReason::or_image(reference, facts.image(reference)) {
            Ok(image) => image,
            Err(reason) => return vec![(None, Ancestry::Unknown(reason))],
        };
        let platforms = platforms(image, pool, expected, facts);
        if platforms.is_empty() {
            return vec![(None, Ancestry::Unknown(UnknownReason::NoLinuxPlatform))];
        }
        let mut ancestry = |platform: &Platform| match image.platforms.get(platform) {
            Some(fact) => match UnknownReason::or_image(reference, fact) {
                Ok(own) => self.ancestry(own, platform, expected, facts),
                Err(reason) => Ancestry::Unknown(reason),
            },
            None => Ancestry::Unknown(UnknownReason::NoPlatform),
        };
        platforms.into_iter().map(|platform| (Some(platform.clone()), ancestry(&platform))).collect()
    }

    fn ancestry(
        &mut self,
        own: &PlatformImage,
        platform: &Platform,
        expected: &ExpectedBases,
        facts: &Facts,
    ) -> Ancestry {
        let comparison = Comparison { own, layers: LayerStack::new(&own.layers), platform, facts };
        if let Some(ancestry) = comparison.with_accepted(expected) {
            return ancestry;
        }
        let mut others = bases::others(facts);
        for question in std::mem::take(&mut others.questions) {
            self.ask(question, facts);
        }
        let mut known = expected.accepted.clone();
        for base in expected.siblings.iter().chain(&others.accepted).chain(&others.siblings) {
            if !known.iter().any(|earlier| earlier.reference == base.reference) {
                self.ask(base.question(), facts);
                known.push(base.clone());
            }
        }
        comparison.with_known(expected, &known)
    }

    fn ask(&mut self, question: Question, facts: &Facts) {
        if !question.is_answered_by(facts) && !self.questions.contains(&question) {
            self.questions.push(question);
        }
    }
}

impl Base {
    /// The question for the layers of the base on all platforms, because an image may be built on that of
    /// another platform.
    fn question(&self) -> Question {
        Question::layers(self.reference.clone(), Purpose::Base)
    }

    /// The base of `platform`.
    pub fn on<'a>(&self, platform: &Platform, facts: &'a Facts) -> Option<&'a PlatformImage> {
        facts.image(&self.reference).known()?.platforms.get(platform)?.known()
    }
}

/// The platforms that are judged: those of the pool's nodes; if these are not known, those that the image
/// shares with an accepted base; if it shares none, its own.
fn platforms(
    image: &Image,
    pool: Option<&AffectedPool<'_>>,
    expected: &ExpectedBases,
    facts: &Facts,
) -> Vec<Platform> {
    if let Some(needed) = pool.and_then(AffectedPool::platforms).filter(|needed| !needed.is_empty()) {
        return needed;
    }
    let bases = expected.accepted.iter().filter_map(|base| facts.image(&base.reference).known());
    let bases: Vec<_> = bases.collect();
    let shared = |platform: &&Platform| bases.iter().any(|base| base.platforms.contains_key(*platform));
    let some: Vec<_> = image.platforms.keys().filter(shared).cloned().collect();
    if some.is_empty() { image.platforms.keys().cloned().collect() } else { some }
}

/// One platform of an image, prepared for comparison with bases.
struct Comparison<'a> {
    own: &'a PlatformImage,
    layers: LayerStack<'a>,
    platform: &'a Platform,
    facts: &'a Facts,
}

impl Comparison<'_> {
    /// The ancestry as far as the accepted bases decide it. `None` when they are all known and the image is
    /// built on none of them.
    fn with_accepted(&self, expected: &ExpectedBases) -> Option<Ancestry> {
        let mut missing = expected.missing.clone();
        let mut best: Option<(&Base, usize, Agreement)> = None;
        for base in &expected.accepted {
            let image = UnknownReason::or_base(base, self.facts.image(&base.reference));
            let of_platform = image.and_then(|image| {
                image.platforms.get(self.platform).map(|fact| UnknownReason::or_base(base, fact)).transpose()
            });
            let of = match of_platform {
                Ok(Some(of)) => of,
                Ok(None) => continue,
                Err(reason) => {
                    missing.push(reason);
                    continue;
                }
            };
            match self.layers.built_on(&of.layers) {
                None => {}
                Some(Agreement::Nothing) => {
                    missing.push(UnknownReason::EmptyBase { base: Box::new(base.clone()) })
                }
                Some(agreement) => {
                    // An accepted base is better than one that is being left, then the one with more layers.
                    let better = best.is_none_or(|(other, length, _)| {
                        (base.status, std::cmp::Reverse(of.layers.len()))
                            < (other.status, std::cmp::Reverse(length))
                    });
                    if better {
                        best = Some((base, of.layers.len(), agreement));
                    }
                }
            }
        }
        match best {
            Some((base, _, Agreement::Derived { own })) => {
                Some(Ancestry::Derived { base: base.clone(), own_layers: own })
            }
            Some((base, ..)) => Some(Ancestry::Same { base: base.clone() }),
            None => missing.into_iter().next().map(Ancestry::Unknown),
        }
    }

    /// The ancestry of an image that is built on none of the accepted bases, compared with all `known` ones.
    fn with_known(&self, expected: &ExpectedBases, known: &[Base]) -> Ancestry {
        let closest = self.closest(known);
        let shared = closest.as_ref().map_or(0, Closest::shared);
        let agreement = closest.as_ref().map(|closest| closest.agreement);
        if let (Some(closest), Some(Agreement::Same | Agreement::Derived { .. })) = (&closest, agreement) {
            let reason = self.foreign_reason(&closest.base, &closest.platform, &expected.accepted);
            return Ancestry::Foreign { reason, closest: Some(closest.clone()) };
        }
        let closest = closest.filter(|_| shared > 0);
        if matches!(agreement, Some(Agreement::Leading { .. })) {
            return Ancestry::Foreign { reason: ForeignReason::PartOfBase, closest };
        }
        if self.is_squashed() {
            return Ancestry::Unprovable { rewriting: Rewriting::Squashed, closest };
        }
        if self.is_rechunked(&expected.accepted, shared) {
            return Ancestry::Unprovable { rewriting: Rewriting::Rechunked, closest };
        }
        let has_base = expected.accepted.iter().any(|base| base.on(self.platform, self.facts).is_some());
        let reason = match (has_base, shared) {
            (false, 0) => ForeignReason::NoBaseForPlatform,
            (_, 0) => ForeignReason::NothingShared,
            _ => ForeignReason::PartOfBase,
        };
        Ancestry::Foreign { reason, closest }
    }

    /// The known base that the image agrees with most: all of its layers before some, the lowest layers before
    /// scattered ones, then more layers before fewer, and the first of equals.
    fn closest(&self, known: &[Base]) -> Option<Closest> {
        let mut closest: Option<(Closest, (u8, usize))> = None;
        for base in known {
            let Some(image) = self.facts.image(&base.reference).known() else { continue };
            for (platform, of) in &image.platforms {
                let Some(of) = of.known() else { continue };
                let agreement = self.layers.agree_with(&of.layers);
                let grade = match agreement {
                    Agreement::Same | Agreement::Derived { .. } => 3,
                    Agreement::Leading { .. } => 2,
                    Agreement::Scattered { .. } => 1,
                    Agreement::Nothing => continue,
                };
                // Of equals, the image's own platform first.
                let rank =
                    (grade * 2 + u8::from(platform == self.platform), agreement.shared(of.layers.len()));
                if closest.as_ref().is_none_or(|(_, best)| rank > *best) {
                    let (base, platform, layers) = (base.clone(), platform.clone(), of.layers.len());
                    closest = Some((Closest { base, platform, agreement, layers }, rank));
                }
            }
        }
        closest.map(|(closest, _)| closest)
    }

    fn foreign_reason(&self, base: &Base, platform: &Platform, accepted: &[Base]) -> ForeignReason {
        if platform != self.platform {
            return ForeignReason::OtherPlatform;
        }
        let other_stream = base.stream.as_ref().is_some_and(|stream| {
            let mut streams = accepted.iter().filter_map(|base| base.stream.as_ref()).peekable();
            streams.peek().is_some() && streams.all(|accepted| accepted != stream)
        });
        if other_stream { ForeignReason::OtherStream } else { ForeignReason::OtherRelease }
    }

    /// Whether all layers were squashed into one: the label names a layer that no longer exists, or there is a
    /// single layer that a node could boot, and no label names it.
    fn is_squashed(&self) -> bool {
        match self.own.labels.get(FINAL_DIFF_ID) {
            Some(last) => !self.layers.have(last),
            None => self.layers.count() == 1 && is_bootable(&self.own.labels),
        }
    }

    /// Whether the content may be that of a base, split into new layers: a bootable image with layers or, in
    /// its labels, the commit or the version of an accepted base.
    fn is_rechunked(&self, accepted: &[Base], shared: usize) -> bool {
        if !is_bootable(&self.own.labels) && !self.own.labels.contains_key(COMMIT) {
            return false;
        }
        let labels = &self.own.labels;
        let bases = || accepted.iter().filter_map(|base| base.on(self.platform, self.facts));
        let same = |key: &str| {
            bases().any(|base| base.labels.get(key).is_some_and(|of| labels.get(key) == Some(of)))
        };
        let versions = [VERSION, OLD_VERSION];
        if same(COMMIT) || versions.iter().any(|key| same(key)) {
            return true;
        }
        let states_another = versions
            .iter()
            .any(|key| labels.contains_key(*key) && bases().any(|base| base.labels.contains_key(*key)));
        shared > 0 && !states_another
    }
}

impl Closest {
    /// The layers of the base that the image has.
    pub fn shared(&self) -> usize {
        self.agreement.shared(self.layers)
    }
}

/// Whether labels say that a node can boot the image: their presence counts, not their value
/// (`require_bootable` of ostree-ext).
pub fn is_bootable(labels: &BTreeMap<String, String>) -> bool {
    BOOTABLE.iter().any(|key| labels.contains_key(*key))
}

/// The label that names the last layer of the ostree commit.
pub const FINAL_DIFF_ID: &str = "ostree.final-diffid";
/// Labels of which a node requires one.
pub const BOOTABLE: [&str; 2] = ["containers.bootc", "ostree.bootable"];
const COMMIT: &str = "ostree.commit";
pub(crate) const VERSION: &str = "org.opencontainers.image.version";
pub(crate) const OLD_VERSION: &str = "version";
