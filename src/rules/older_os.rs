//! `older-os`: an operating system older than the release's, or than what the pool runs.

use std::cell::LazyCell;

use crate::lineage::Ancestry;
use crate::messages;
use crate::model::facts::Fact;
use crate::model::facts::image::Platform;
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::Field;
use crate::model::os_version::OsVersion;
use crate::model::pull_spec::PullSpec;
use crate::policy::Level;
use crate::pools::AffectedPool;
use crate::rules::{Certainty, Context, Observation, PoolPlatform, Rule, RuleInput, merged};

pub(super) static RULE: Rule = Rule {
    id: "older-os",
    fault: "an operating system older than that of the release, or than what the pool runs",
    inputs: &[RuleInput::Image, RuleInput::Cluster],
    recommended: Level::Warn,
    documentation: "
Compares the version of the operating system that the image's labels state
(`org.opencontainers.image.version`, `version`, `io.openshift.build.versions`) with that of the base that
it should be built on, and with that of the image that the pool has now. Only versions of the operating
system are compared, such as `418.94.202509100000-0`, `9.6.20251201-1` and `43.20251024.3.0`: a version
that somebody gave an image of their own is none, and between RHEL CoreOS and Fedora CoreOS there is no
order. Labels can be written by anybody, so that this rule warns of accidents, not of intent.

### Why

Going back to an older operating system is not tested, and has left nodes that could not start: what the
newer one wrote, the older may not read.

### What to do

Build the image on the current base. To go back on purpose, make an exception in the policy for as long
as it takes.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    let Some(image) = case.os_image() else { return Vec::new() };
    let unknown = case.by_lineage(|image, lineage| {
        case.unknown_lineage("has an older operating system than its base", image, lineage)
    });
    let versions = LazyCell::new(|| versions(case, &image.pull_spec()));
    let mut seen = Vec::new();
    for lineage in case.lineage {
        let place = PoolPlatform { pool: lineage.pool.as_deref(), platform: lineage.platform.as_ref() };
        // What an image is built on and may be built on is what it is measured by.
        let own_base = match &lineage.ancestry {
            Ancestry::Same { base } | Ancestry::Derived { base, .. } => Some(base),
            _ => lineage.accepted.first(),
        };
        let Some(base) = own_base else { continue };
        for (platform, own) in versions.iter() {
            if lineage.platform.as_ref().is_some_and(|of| of != *platform) {
                continue;
            }
            let of_base = base.on(platform, case.facts).and_then(|of| OsVersion::of_labels(&of.labels));
            if let Some(of_base) = of_base.filter(|of_base| own.is_older_than(of_base)) {
                seen.push((older(image, own, &of_base, &base.name(), lineage.rebuild()), place));
            }
        }
    }
    for pool in case.pools {
        let Some(current) = current(case, pool) else { continue };
        let needed = pool.platforms().filter(|needed| !needed.is_empty());
        for (platform, own) in versions.iter() {
            let of_current = version_on(case, &current, platform);
            let older_than = of_current.filter(|of_current| own.is_older_than(of_current));
            if needed.as_ref().is_none_or(|needed| needed.contains(platform))
                && let Some(of_current) = older_than
            {
                let what = format!("`{}`, which the pool has now", messages::short(&current));
                let help = "apply an image with a newer operating system, or except this one in the policy"
                    .to_owned();
                let place = PoolPlatform { pool: Some(pool.name), platform: Some(*platform) };
                seen.push((older(image, own, &of_current, &what, help), place));
            }
        }
    }
    let mut all = merged(seen.into_iter());
    all.extend(unknown);
    all
}

fn older(image: &ImageReference, own: &OsVersion, than: &OsVersion, what: &str, help: String) -> Observation {
    Observation {
        field: Field::OsImage,
        certainty: Certainty::Fault,
        message: format!(
            "`{}` has operating system {}, older than {} of {what}",
            messages::short(image),
            own.as_str(),
            than.as_str()
        ),
        notes: Vec::new(),
        help,
        missing: None,
    }
}

/// The version of each platform of `reference` that states one.
fn versions<'a>(case: &Context<'a>, reference: &PullSpec) -> Vec<(&'a Platform, OsVersion)> {
    let Fact::Known(image) = case.facts.image(reference) else { return Vec::new() };
    let platforms = image
        .platforms
        .iter()
        .filter_map(|(platform, of)| Some((platform, OsVersion::of_labels(&of.known()?.labels)?)));
    platforms.collect()
}

fn version_on(case: &Context<'_>, reference: &PullSpec, platform: &Platform) -> Option<OsVersion> {
    versions(case, reference).into_iter().find(|(of, _)| *of == platform).map(|(_, version)| version)
}

/// The image that `pool` has now, when it is another than the one under judgement.
pub(super) fn current(case: &Context<'_>, pool: &AffectedPool<'_>) -> Option<PullSpec> {
    pool.current_image(case.subject, &case.facts.cluster)
        .filter(|current| Some(current) != case.os_image().map(ImageReference::pull_spec).as_ref())
}
