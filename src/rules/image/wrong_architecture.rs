//! `wrong-architecture`: nodes whose architecture the image does not have.

use std::collections::BTreeMap;

use crate::messages;
use crate::model::facts::Fact;
use crate::model::facts::image::{Image, Platform};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::Field;
use crate::pools::AffectedPool;
use crate::rules::observation::{PoolPlatform, merged};
use crate::rules::{Context, Observation};

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    let Some(image) = context.os_image() else { return Vec::new() };
    merged(context.pools.iter().filter_map(|pool| {
        let place = PoolPlatform { pool: Some(pool.name), platform: None };
        let Some(nodes) = pool.nodes() else {
            let (object, cause) = match pool.known {
                Some(known) => ("the nodes of the pool", known.nodes.cause()?),
                None => ("the MachineConfigPools", context.facts.cluster.pools.cause()?),
            };
            let what = "whether the nodes can run the image";
            return Some((context.unknown_cluster(Field::OsImage, what, object, cause)?, place));
        };
        match context.facts.image(&image.pull_spec()) {
            // The note names the pool.
            Fact::Known(known) => Some((fault(image, known, pool, nodes)?, PoolPlatform::default())),
            fact => {
                let what = format!("whether `{}` can run on the nodes", messages::short(image));
                Some((context.unknown_image(&what, image, fact)?, place))
            }
        }
    }))
}

fn fault(
    image: &ImageReference,
    known: &Image,
    pool: &AffectedPool<'_>,
    nodes: &BTreeMap<String, u32>,
) -> Option<Observation> {
    let available =
        || known.platforms.iter().filter(|(_, of)| **of != Fact::Absent).map(|(platform, _)| platform);
    let missing = || {
        nodes
            .iter()
            .map(|(architecture, count)| (Platform::of_node(architecture), count))
            .filter(|(platform, count)| **count > 0 && !available().any(|other| other == platform))
    };
    let platforms: Vec<_> = missing().map(|(platform, _)| platform.to_string()).collect();
    if platforms.is_empty() {
        return None;
    }
    let platforms = messages::list(&platforms);
    let counts: Vec<_> =
        missing().map(|(platform, count)| format!("{count} {}", platform.architecture())).collect();
    let has: Vec<_> = available().map(ToString::to_string).collect();
    let has = if has.is_empty() { "no platform".to_owned() } else { messages::list(&has) };
    let observation = Observation::fault(
        Field::OsImage,
        format!("`{}` has no image for {platforms}", messages::short(image)),
    )
    .note(format!("it has {has}"))
    .note(format!("nodes of pool `{}`: {}", pool.name, messages::list(&counts)))
    .help(format!("build it for {platforms} too, and use the digest of the index"));
    Some(observation)
}
