//! What to write instead of a tag, and the record of it.
//!
//! Owns which questions decide that. [`mod@plan`] decides what becomes of each field and of its record;
//! [`patch`] turns that into a JSON patch and words it for the author. A plan never judges: where the
//! digest is not known it changes nothing, says so, and leaves the verdict to the rules.

mod patch;
mod plan;

use crate::model::digest::Digest;
use crate::model::facts::{Fact, Facts, Manifest};
use crate::model::machine_config::{Field, Object, Subject};
use crate::model::pull_spec::PullSpec;
use crate::model::question::{Freshness, Question, Step};
use crate::policy::Policy;
use crate::text::shown;

pub use plan::{PinChange, Plan, Unresolved, plan};

/// Plans what to change in `subject` once `facts` hold all that the plan depends on.
pub fn step(subject: &Subject, facts: &Facts, policy: &Policy) -> Step<Plan> {
    let freshness = if subject.object.repin { Freshness::Fresh } else { Freshness::Cached };
    let tags = Field::ALL.into_iter().filter(|_| policy.pins());
    let tags = tags.filter_map(|field| tag_to_resolve(&subject.object, field));
    let missing = tags.flat_map(|tag| look_ups(&tag, freshness, facts)).collect();
    Step::after(missing, || plan(subject, facts, policy))
}

/// What is still to be asked before `reference` can be pinned. That includes the digest that `facts` name,
/// where it was found elsewhere than in the registry of the reference: nodes pull digests from mirrors
/// that may not be those for tags.
pub fn look_ups(reference: &PullSpec, freshness: Freshness, facts: &Facts) -> Vec<Question> {
    let manifest = Question::manifest(reference.clone(), freshness);
    let by_digest = facts.manifest(reference).known().and_then(|manifest| {
        let is_elsewhere = manifest.endpoint != reference.api_host();
        let digest = || Question::manifest(reference.pinned_to(&manifest.digest), Freshness::Cached);
        is_elsewhere.then(digest)
    });
    let questions = [Some(manifest), by_digest].into_iter().flatten();
    questions.filter(|question| !question.is_answered_by(facts)).collect()
}

/// Whether nodes will find by its digest what was found by the tag `tag`. Fails with the reason.
pub fn confirmed(tag: &PullSpec, manifest: &Manifest, facts: &Facts) -> Result<(), String> {
    if manifest.endpoint == tag.api_host() {
        return Ok(());
    }
    let found = format!("{} has {} under the tag", shown(&manifest.endpoint), manifest.digest.short());
    match facts.manifest(&tag.pinned_to(&manifest.digest)) {
        Fact::Known(_) => Ok(()),
        Fact::Absent => Err(format!("{found}, but it is not where nodes pull digests from")),
        Fact::Unknown(cause) => Err(format!("{found}, but by its digest: {cause}")),
    }
}

/// The digest that `tag` names, where nodes can pull it.
pub fn resolved(tag: &PullSpec, facts: &Facts) -> Result<Digest, Unresolved> {
    match facts.manifest(tag) {
        Fact::Known(manifest) => match confirmed(tag, manifest, facts) {
            Ok(()) => Ok(manifest.digest.clone()),
            Err(reason) => Err(Unresolved::NotForNodes(reason)),
        },
        Fact::Absent => Err(Unresolved::Absent),
        Fact::Unknown(cause) => Err(Unresolved::Unknown(cause.clone())),
    }
}

/// The tag whose digest decides what becomes of a field: its own, or with `layerpin.io/repin` that of its
/// true record.
fn tag_to_resolve(object: &Object, field: Field) -> Option<PullSpec> {
    let reference = object.reference(field)?;
    match reference.digest() {
        None => Some(reference.pull_spec()),
        Some(_) if object.repin && reference.tag().is_none() => {
            object.true_record(field).map(|record| record.pull_spec().clone())
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
