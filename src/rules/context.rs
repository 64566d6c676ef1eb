//! Everything a rule may look at.

use crate::lineage::{Ancestry, Lineage, MissingFact, UnknownReason};
use crate::messages::{self, Source};
use crate::model::facts::{Cause, Fact, Facts};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{EntryPoint, Field, FieldImage, Subject};
use crate::policy::Policy;
use crate::pools::AffectedPool;
use crate::rules::observation::{Certainty, Observation, merged};

/// Everything a rule may look at.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The object under review.
    pub subject: &'a Subject,
    /// What is known about registries and the cluster.
    pub facts: &'a Facts,
    /// The policy, for its lists. Rules do not look at levels.
    pub policy: &'a Policy,
    /// The pools that take the object.
    pub pools: &'a [AffectedPool<'a>],
    /// The lineage of the operating system image in each pool on each platform.
    pub lineage: &'a [Lineage],
}

impl<'a> Context<'a> {
    /// The fields that name an image, each with that image.
    pub fn images(&self) -> impl Iterator<Item = (Field, &'a FieldImage)> + use<'a> {
        let object = &self.subject.object;
        Field::ALL.into_iter().filter_map(|field| Some((field, object.image(field)?)))
    }

    /// The fields whose image is a valid reference, each with that reference.
    pub fn references(&self) -> impl Iterator<Item = (Field, &'a ImageReference)> + use<'a> {
        self.images().filter_map(|(field, image)| Some((field, image.reference.as_ref().ok()?)))
    }

    /// The operating system image, when it is a valid reference.
    pub(super) fn os_image(&self) -> Option<&'a ImageReference> {
        self.subject.object.reference(Field::OsImage)
    }

    pub(super) fn entry_point(&self) -> EntryPoint {
        self.subject.origin.entry_point()
    }

    /// What `judge` observes in the lineage of the operating system image in each pool on each platform,
    /// equal observations merged.
    pub(super) fn for_each_lineage(
        &self,
        judge: impl Fn(&ImageReference, &Lineage) -> Option<Observation>,
    ) -> Vec<Observation> {
        let Some(image) = self.os_image() else { return Vec::new() };
        merged(self.lineage.iter().filter_map(|lineage| Some((judge(image, lineage)?, lineage.into()))))
    }

    /// What a rule on lineage reports when lineage is unknown: that it is unknown whether the image `is`
    /// so. `None` when there is no base to compare with, or another rule reports the reason.
    pub(super) fn unknown_lineage(
        &self,
        is: &str,
        image: &ImageReference,
        lineage: &Lineage,
    ) -> Option<Observation> {
        let Ancestry::Unknown(reason) = &lineage.ancestry else { return None };
        reason.missing_fact()?;
        let what = format!("whether `{}` {is}", messages::short(image));
        let text = reason.to_string();
        let notes = lineage.notes.iter().filter(|note| **note != text).cloned();
        Some(self.unknown(&what, reason).notes(notes))
    }

    /// What a rule on the operating system image reports when it does not know `what`.
    pub(super) fn unknown(&self, what: &str, reason: &UnknownReason) -> Observation {
        Observation::new(Field::OsImage, Certainty::Unknown, format!("{what} is not known: {reason}"))
            .help(messages::help_for_unknown(reason, self.entry_point()))
            .missing(reason.missing_fact())
    }

    /// What a rule reports that does not know `what`, because the image is absent or could not be read.
    pub(super) fn unknown_image<T>(
        &self,
        what: &str,
        image: &ImageReference,
        fact: &Fact<T>,
    ) -> Option<Observation> {
        if fact.cause() == Some(&Cause::NotAsked) {
            return None;
        }
        let reason = UnknownReason::or_image(&image.pull_spec(), fact).err()?;
        Some(self.unknown(what, &reason))
    }

    /// What a rule reports that does not know `what`, because `object` of the cluster could not be read.
    /// `None` without a cluster.
    pub(super) fn unknown_cluster(
        &self,
        field: Field,
        what: &str,
        object: &'static str,
        cause: &Cause,
    ) -> Option<Observation> {
        (*cause != Cause::NotAsked).then(|| {
            let message = format!("{what} is not known: {}", cause.reading(object));
            Observation::new(field, Certainty::Unknown, message)
                .help(messages::help_for(cause, Source::Cluster, self.entry_point()))
                .missing(Some(MissingFact::Cluster(cause.clone())))
        })
    }
}
