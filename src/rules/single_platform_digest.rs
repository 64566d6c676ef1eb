//! `single-platform-digest`: the digest of one platform's manifest where a pool has several.

use crate::lineage::MissingFact;
use crate::messages;
use crate::model::facts::{Cause, Fact, ManifestKind};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::Field;
use crate::policy::Level;
use crate::rules::{Certainty, Context, Observation, PoolPlatform, Rule, RuleInput, merged};

pub(super) static RULE: Rule = Rule {
    id: "single-platform-digest",
    fault: "the digest of one platform's manifest where the pool has other architectures",
    inputs: &[RuleInput::Manifest, RuleInput::Cluster],
    recommended: Level::Warn,
    documentation: "
Looks at both image fields. It is a fault when the reference names the manifest of one image, not an index
of several, and the nodes of a pool that the MachineConfig reaches have more than one architecture.
Without a cluster the nodes are not known and nothing is found.

### Why

Tools that show a digest often show that of the manifest for the machine they run on. It fits the nodes of
that one architecture and breaks the others.

### What to do

Write the digest of the index: `skopeo inspect --format '{{.Digest}}' docker://REPOSITORY:TAG` prints it.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    let mixed = || {
        case.pools.iter().filter_map(|pool| {
            let platforms = pool.platforms()?;
            (platforms.len() > 1).then(|| {
                let names: Vec<_> = platforms.iter().map(ToString::to_string).collect();
                (PoolPlatform { pool: Some(pool.name), platform: None }, messages::list(&names))
            })
        })
    };
    let mut seen = Vec::new();
    for (field, reference) in case.references() {
        let asked = reference.pull_spec();
        let (certainty, message, help, missing) = match case.facts.manifest(&asked) {
            Fact::Known(manifest) if manifest.kind == ManifestKind::Image => (
                Certainty::Fault,
                format!("`{}` is the image of one platform", messages::short(reference)),
                help(case, field, reference),
                None,
            ),
            Fact::Unknown(cause) if *cause != Cause::NotAsked => (
                Certainty::Unknown,
                format!(
                    "whether `{}` is the image of one platform is not known: {cause}",
                    messages::short(reference)
                ),
                format!("{} when the registry answers", case.entry_point().retry()),
                Some(MissingFact::Registry(asked)),
            ),
            Fact::Known(_) | Fact::Absent | Fact::Unknown(_) => continue,
        };
        for (place, platforms) in mixed() {
            let observation = Observation {
                field,
                certainty,
                message: message.clone(),
                notes: vec![format!("the nodes need {platforms}")],
                help: help.clone(),
                missing: missing.clone(),
            };
            seen.push((observation, place));
        }
    }
    merged(seen.into_iter())
}

/// The value to write where it is known: that of the index that the tag of a true record names.
fn help(case: &Context<'_>, field: Field, reference: &ImageReference) -> String {
    let record = case.subject.object.record_text(field).and_then(crate::model::record::Record::parse);
    let tag = record.filter(|record| record.pull_spec().repository() == reference.repository());
    let index = tag.as_ref().and_then(|record| match case.facts.manifest(record.pull_spec()) {
        Fact::Known(manifest) if manifest.kind == ManifestKind::Index => Some(&manifest.digest),
        _ => None,
    });
    match index {
        Some(digest) => format!("write the index: `{}`", reference.pinned_to(digest)),
        None => format!(
            "write the digest of the index: `skopeo inspect --format '{{{{.Digest}}}}' docker://{}:TAG` prints it",
            reference.repository()
        ),
    }
}
