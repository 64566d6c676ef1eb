//! `wrong-architecture`: nodes for which the image has nothing.

use crate::lineage::UnknownReason;
use crate::messages;
use crate::model::facts::{Cause, Fact};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::Field;
use crate::policy::Level;
use crate::pools::AffectedPool;
use crate::rules::{Certainty, Context, Observation, PoolPlatform, Rule, RuleInput, merged};

pub(super) static RULE: Rule = Rule {
    id: "wrong-architecture",
    fault: "no manifest for an architecture of the pool's nodes",
    inputs: &[RuleInput::Image, RuleInput::Cluster],
    recommended: Level::Deny,
    documentation: "
Compares the platforms of `osImageURL` with the architectures of the nodes in the pools that the
MachineConfig reaches (`status.nodeInfo.architecture`). Without a cluster the nodes are not known and
nothing is found.

### Why

A node of that architecture cannot boot the image; it finds out after it was drained, and the pool
degrades.

### What to do

Build the image for every architecture of the pool, and name it by the digest of the index.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    let Some(image) = case.os_image() else { return Vec::new() };
    merged(case.pools.iter().flat_map(|pool| of_pool(case, image, pool)))
}

fn of_pool<'a>(
    case: &Context<'a>,
    image: &ImageReference,
    pool: &'a AffectedPool<'a>,
) -> Vec<(Observation, PoolPlatform<'a>)> {
    let place = PoolPlatform { pool: Some(pool.name), platform: None };
    let what = "whether the nodes can run the image";
    let Some(nodes) = pool.nodes() else {
        let unknown = match pool.known.map(|known| &known.nodes) {
            Some(Fact::Unknown(cause)) => {
                case.unknown_cluster(Field::OsImage, what, "the nodes of the pool", cause)
            }
            Some(_) => None,
            None => match &case.facts.cluster.pools {
                Fact::Unknown(cause) => case.unknown_cluster(Field::OsImage, what, "the pools", cause),
                Fact::Known(_) | Fact::Absent => None,
            },
        };
        return unknown.map(|unknown| (unknown, place)).into_iter().collect();
    };
    let reference = image.pull_spec();
    let why = match case.facts.image(&reference) {
        Fact::Known(known) => {
            let has = |architecture: &str| {
                known.platforms.iter().any(|(platform, of)| {
                    platform.os() == "linux" && platform.architecture() == architecture && *of != Fact::Absent
                })
            };
            let missing: Vec<_> =
                nodes.iter().filter(|(architecture, count)| **count > 0 && !has(architecture)).collect();
            if missing.is_empty() {
                return Vec::new();
            }
            let platforms: Vec<_> =
                missing.iter().map(|(architecture, _)| format!("linux/{architecture}")).collect();
            let counts: Vec<_> =
                missing.iter().map(|(architecture, count)| format!("{count} of {architecture}")).collect();
            let there = known.platforms.iter().filter(|(_, of)| **of != Fact::Absent);
            let has: Vec<_> = there.map(|(platform, _)| platform.to_string()).collect();
            let observation = Observation {
                field: Field::OsImage,
                certainty: Certainty::Fault,
                message: format!(
                    "`{}` has nothing for {}",
                    messages::short(image),
                    messages::list(&platforms)
                ),
                notes: vec![
                    format!(
                        "it has {}",
                        if has.is_empty() { "no platform".to_owned() } else { messages::list(&has) }
                    ),
                    format!("nodes of pool `{}`: {}", pool.name, messages::list(&counts)),
                ],
                help: format!(
                    "build it for {} too, and name it by the digest of the index",
                    messages::list(&platforms)
                ),
                missing: None,
            };
            return vec![(observation, PoolPlatform::default())];
        }
        Fact::Unknown(Cause::NotAsked) => return Vec::new(),
        Fact::Unknown(cause) => UnknownReason::Image { reference, cause: cause.clone() },
        Fact::Absent => UnknownReason::NoImage { reference },
    };
    let observation = Observation {
        field: Field::OsImage,
        certainty: Certainty::Unknown,
        message: format!("for which architectures `{}` is made is not known: {why}", messages::short(image)),
        notes: Vec::new(),
        help: messages::help_to_know(&why, case.entry_point()),
        missing: why.missing_fact(),
    };
    vec![(observation, place)]
}
