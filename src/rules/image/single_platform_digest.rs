//! `single-platform-digest`: the digest of one platform's manifest where a pool has several.

use crate::lineage::MissingFact;
use crate::messages::{self, Source};
use crate::model::facts::{Cause, Fact, ManifestKind};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::Field;
use crate::model::record::Record;
use crate::rules::observation::{PoolPlatform, merged};
use crate::rules::{Certainty, Context, Observation};

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    let pools: Vec<_> = context
        .pools
        .iter()
        .filter_map(|pool| Some((pool, pool.platforms().filter(|platforms| platforms.len() > 1)?)))
        .collect();
    let mut found = Vec::new();
    for (field, reference) in context.references().filter(|_| !pools.is_empty()) {
        let asked = reference.pull_spec();
        let name = messages::short(reference);
        let observation = match context.facts.manifest(&asked) {
            Fact::Known(manifest) if manifest.kind == ManifestKind::Image => {
                Observation::fault(field, format!("`{name}` is the image of a single platform"))
                    .help(help(context, field, reference))
            }
            Fact::Unknown(cause) if *cause != Cause::NotAsked => {
                let message =
                    format!("whether `{name}` is the image of a single platform is not known: {cause}");
                let help = messages::help_for(cause, Source::Registry(&asked), context.entry_point());
                Observation::new(field, Certainty::Unknown, message)
                    .help(help)
                    .missing(Some(MissingFact::Registry(asked)))
            }
            Fact::Known(_) | Fact::Absent | Fact::Unknown(_) => continue,
        };
        for (pool, platforms) in &pools {
            let names: Vec<_> = platforms.iter().map(ToString::to_string).collect();
            let observation = observation.clone().note(format!("the nodes need {}", messages::list(&names)));
            found.push((observation, PoolPlatform { pool: Some(pool.name), platform: None }));
        }
    }
    merged(found)
}

/// The value to write where it is known: the index that the tag of a record of this repository names.
fn help(context: &Context<'_>, field: Field, reference: &ImageReference) -> String {
    let record = context.subject.object.record_text(field).and_then(Record::parse);
    let tag = record.filter(|record| record.pull_spec().repository() == reference.repository());
    let manifest = tag.as_ref().and_then(|record| context.facts.manifest(record.pull_spec()).known());
    match manifest.filter(|manifest| manifest.kind == ManifestKind::Index) {
        Some(index) => format!("write the digest of the index: `{}`", reference.pinned_to(&index.digest)),
        None => format!(
            "write the digest of the index; {} prints it",
            messages::digest_command(&format!("{}:TAG", reference.repository()))
        ),
    }
}
