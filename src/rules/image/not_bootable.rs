//! `not-bootable`: an image that a node will refuse to boot.

use crate::lineage::{FINAL_DIFF_ID, MissingFact, is_bootable};
use crate::messages;
use crate::model::facts::image::PlatformImage;
use crate::model::facts::{Cause, Fact};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::Field;
use crate::rules::observation::{PoolPlatform, merged};
use crate::rules::{Certainty, Context, Observation};
use crate::text::shown;

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    let Some(image) = context.os_image() else { return Vec::new() };
    let fact = context.facts.image(&image.pull_spec());
    let Some(known) = fact.known() else { return unread(context, image, fact).into_iter().collect() };
    let needed: Option<Vec<_>> = context.pools.iter().map(|pool| pool.platforms()).collect();
    let needed = needed.map(|lists| lists.concat()).filter(|needed| !needed.is_empty());
    // If the nodes are known, `wrong-architecture` reports those that have no image.
    if known.platforms.is_empty() && needed.is_none() {
        let message = rejected(image, "its index has no image for linux");
        let observation = Observation::fault(Field::OsImage, message)
            .note(node_error("no image found"))
            .help(messages::PUSH_PLATFORMS);
        return vec![observation];
    }
    let platforms = known
        .platforms
        .iter()
        .filter(|(platform, _)| needed.as_ref().is_none_or(|needed| needed.contains(platform)));
    merged(platforms.filter_map(|(platform, fact)| {
        let observation = match fact {
            Fact::Known(of_platform) => fault(image, of_platform),
            fact => unread(context, image, fact),
        };
        Some((observation?, PoolPlatform { pool: None, platform: Some(platform) }))
    }))
}

fn unread<T>(context: &Context<'_>, image: &ImageReference, fact: &Fact<T>) -> Option<Observation> {
    if let Some(other) = fact.cause().and_then(Cause::other_than_image) {
        let asked = image.pull_spec();
        let message = rejected(image, &format!("it is not an image: {other}"));
        let observation = Observation::fault(Field::OsImage, message).help(messages::inspect(&asked));
        return Some(observation.missing(Some(MissingFact::Registry(asked))));
    }
    context.unknown_image(&format!("whether nodes can boot `{}`", messages::short(image)), image, fact)
}

/// What a node will find wrong with an image, in the order in which it looks.
fn fault(image: &ImageReference, of_platform: &PlatformImage) -> Option<Observation> {
    let fault =
        |what: &str, note: String| Observation::fault(Field::OsImage, rejected(image, what)).note(note);
    let observation = if !is_bootable(&of_platform.labels) {
        fault(
            "it has neither the label `containers.bootc` nor `ostree.bootable`",
            node_error("Target image does not have ostree.bootable label"),
        )
    } else if let Some(last) = of_platform.labels.get(FINAL_DIFF_ID) {
        match of_platform.layers.iter().find(|layer| layer.diff_id.as_str() == last) {
            None => fault(
                &format!(
                    "its label `ostree.final-diffid` names `{}`, which is not one of its layers",
                    shown(last)
                ),
                format!("squashing causes this; {}", node_error("Missing ostree.final-diffid")),
            ),
            Some(layer) => {
                let count = of_platform.layers.iter().filter(|other| other.digest == layer.digest).count();
                (count > 1).then(|| {
                    fault(
                        &format!(
                            "the last layer of its ostree commit, `{}`, occurs {count} times",
                            layer.digest
                        ),
                        node_error("Multiple entries for that digest"),
                    )
                })?
            }
        }
    } else {
        let message =
            format!("older nodes reject `{}`: it has no label `ostree.final-diffid`", messages::short(image));
        Observation::new(Field::OsImage, Certainty::Minor, message).note(
            "newer nodes accept such an image; error on older nodes: No ostree.final-diffid label found",
        )
    };
    let help = "build it `FROM` the base image of the release, keep its labels and do not squash its layers";
    Some(observation.help(help))
}

fn rejected(image: &ImageReference, reason: &str) -> String {
    format!("nodes will reject `{}`: {reason}", messages::short(image))
}

fn node_error(error: &str) -> String {
    format!("error on the node: {error}")
}
