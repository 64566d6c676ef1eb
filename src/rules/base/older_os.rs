//! `older-os`: an operating system older than the release's, or than what the pool runs.

use std::cell::LazyCell;

use crate::lineage::Ancestry;
use crate::messages;
use crate::model::facts::Facts;
use crate::model::facts::image::Platform;
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::{Field, Subject};
use crate::model::os_version::OsVersion;
use crate::model::pull_spec::PullSpec;
use crate::model::question::{Purpose, Question};
use crate::pools::AffectedPool;
use crate::rules::observation::{PoolPlatform, merged};
use crate::rules::{Context, Observation};

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    let Some(image) = context.os_image() else { return Vec::new() };
    let facts = context.facts;
    let versions = LazyCell::new(|| versions(&image.pull_spec(), facts));
    let mut older = Vec::new();
    for lineage in context.lineage {
        let base = match &lineage.ancestry {
            Ancestry::Same { base } | Ancestry::Derived { base, .. } => Some(base),
            _ => lineage.accepted.first(),
        };
        let Some(base) = base else { continue };
        for (platform, version) in versions.iter() {
            if lineage.platform.as_ref().is_some_and(|of| of != *platform) {
                continue;
            }
            let of_base = base.on(platform, facts).and_then(|of| OsVersion::of_labels(&of.labels));
            if let Some(of_base) = of_base.filter(|of_base| version.is_older_than(of_base)) {
                let observation = fault(image, version, &of_base, &base.name()).help(lineage.rebuild());
                older.push((observation, lineage.into()));
            }
        }
    }
    for pool in context.pools {
        let Some(current) = other_image(pool, context.subject, facts) else { continue };
        let of_current = self::versions(&current, facts);
        let what = format!("`{}`, the current image of the pool", messages::short(&current));
        let needed = pool.platforms().filter(|needed| !needed.is_empty());
        for (platform, version) in versions.iter() {
            if needed.as_ref().is_some_and(|needed| !needed.contains(platform)) {
                continue;
            }
            let of_current = of_current.iter().find(|(of, _)| of == platform);
            if let Some((_, of_current)) =
                of_current.filter(|(_, of_current)| version.is_older_than(of_current))
            {
                let observation = fault(image, version, of_current, &what)
                    .help("use an image with a newer operating system, or add an exception to the policy");
                older.push((observation, PoolPlatform { pool: Some(pool.name), platform: Some(*platform) }));
            }
        }
    }
    let mut observations = merged(older);
    observations.extend(context.for_each_lineage(|image, lineage| {
        context.unknown_lineage("has an older operating system than its base", image, lineage)
    }));
    observations
}

fn fault(image: &ImageReference, version: &OsVersion, newer: &OsVersion, of: &str) -> Observation {
    let message = format!(
        "`{}` has operating system {}, older than {} of {of}",
        messages::short(image),
        version.as_str(),
        newer.as_str()
    );
    Observation::fault(Field::OsImage, message)
}

/// The version of each platform of `reference` that states one.
fn versions<'a>(reference: &PullSpec, facts: &'a Facts) -> Vec<(&'a Platform, OsVersion)> {
    let Some(image) = facts.image(reference).known() else { return Vec::new() };
    let platforms = image.platforms.iter();
    platforms
        .filter_map(|(platform, of)| Some((platform, OsVersion::of_labels(&of.known()?.labels)?)))
        .collect()
}

/// The questions for the images that the pools have now.
pub(crate) fn further_questions(
    subject: &Subject,
    pools: &[AffectedPool<'_>],
    facts: &Facts,
) -> Vec<Question> {
    let images = pools.iter().filter_map(|pool| other_image(pool, subject, facts));
    let questions = images.map(|reference| Question::layers(reference, Purpose::Base));
    questions.filter(|question| !question.is_answered_by(facts)).collect()
}

/// The image that `pool` has now, when it is another than that of `subject`.
fn other_image(pool: &AffectedPool<'_>, subject: &Subject, facts: &Facts) -> Option<PullSpec> {
    let own = subject.object.reference(Field::OsImage)?.pull_spec();
    pool.current_image(subject, &facts.cluster).filter(|current| *current != own)
}
