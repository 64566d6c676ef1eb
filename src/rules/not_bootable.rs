//! `not-bootable`: an image that a node will refuse to boot.

use crate::lineage::{FINAL_DIFF_ID, MissingFact, UnknownReason, is_bootable};
use crate::messages;
use crate::model::facts::image::PlatformImage;
use crate::model::facts::{Cause, Fact};
use crate::model::machine_config::Field;
use crate::policy::Level;
use crate::rules::{Certainty, Context, Observation, PoolPlatform, Rule, RuleInput, merged};
use crate::text::shown;

pub(super) static RULE: Rule = Rule {
    id: "not-bootable",
    fault: "no mark of a bootable image, or an ostree layer that is not there",
    inputs: &[RuleInput::Image],
    recommended: Level::Deny,
    documentation: "
Looks at the labels and layers of `osImageURL` as the code does that a node runs before it deploys an
image (`require_bootable` and `parse_manifest_layout` of ostree-ext), on every platform that the pools'
nodes have, or on all of the image's where that is not known:

- it must be an image, and no chart or other artifact, or an index of images, one of them for linux;
- one of the labels `containers.bootc` and `ostree.bootable` must be there, whatever it says;
- the layer that the label `ostree.final-diffid` names must be there, and only once;
- without that label older hosts refuse the image and newer ones take it: that is a warning at the most.

### Why

A node finds out after it was drained, and the pool degrades.

### What to do

Build `FROM` the base image of the release, keep its labels (`--inherit-labels=false` drops them) and do
not squash its layers.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    let Some(image) = case.os_image() else { return Vec::new() };
    let reference = image.pull_spec();
    let unknown = |why: UnknownReason| Observation {
        field: Field::OsImage,
        certainty: Certainty::Unknown,
        message: format!("whether nodes can boot `{}` is not known: {why}", messages::short(image)),
        notes: Vec::new(),
        help: messages::help_to_know(&why, case.entry_point()),
        missing: why.missing_fact(),
    };
    let unread = |cause: &Cause| match cause.other_than_image() {
        Some(what) => Observation {
            field: Field::OsImage,
            certainty: Certainty::Fault,
            message: format!("nodes will refuse `{}`: it is no image: {what}", messages::short(image)),
            notes: Vec::new(),
            help: messages::look(&reference),
            missing: Some(MissingFact::Registry(reference.clone())),
        },
        None => unknown(UnknownReason::Image { reference: reference.clone(), cause: cause.clone() }),
    };
    let known = match case.facts.image(&reference) {
        Fact::Known(known) => known,
        Fact::Unknown(Cause::NotAsked) => return Vec::new(),
        Fact::Unknown(cause) => return vec![unread(cause)],
        Fact::Absent => return vec![unknown(UnknownReason::NoImage { reference })],
    };
    let needed: Option<Vec<_>> = case.pools.iter().map(|pool| pool.platforms()).collect();
    let needed = needed.map(|lists| lists.concat()).filter(|needed| !needed.is_empty());
    // Where the nodes are known, `wrong-architecture` says that there is nothing for them.
    if known.platforms.is_empty() && needed.is_none() {
        return vec![Observation {
            field: Field::OsImage,
            certainty: Certainty::Fault,
            message: format!(
                "nodes will refuse `{}`: its index lists no image for linux",
                messages::short(image)
            ),
            notes: vec!["a node says: no image found".to_owned()],
            help: messages::PUSH_PLATFORMS.to_owned(),
            missing: None,
        }];
    }
    let platforms = known
        .platforms
        .iter()
        .filter(|(platform, _)| needed.as_ref().is_none_or(|needed| needed.contains(platform)));
    let seen = platforms.filter_map(|(platform, of)| {
        let observation = match of {
            Fact::Known(of) => refusal(of).map(|(certainty, refusal)| Observation {
                field: Field::OsImage,
                certainty,
                message: format!("{} `{}`: {}", refusal.who, messages::short(image), refusal.what),
                notes: vec![refusal.note],
                help: "build it `FROM` the base image of the release, keep its labels and do not squash its layers"
                    .to_owned(),
                missing: None,
            }),
            Fact::Unknown(Cause::NotAsked) => None,
            Fact::Unknown(cause) => Some(unread(cause)),
            Fact::Absent => Some(unknown(UnknownReason::NoImage { reference: reference.clone() })),
        };
        Some((observation?, PoolPlatform { pool: None, platform: Some(platform) }))
    });
    merged(seen)
}

struct Refusal {
    who: &'static str,
    what: String,
    note: String,
}

/// What a node will find wrong with an image, in the order in which it looks.
fn refusal(image: &PlatformImage) -> Option<(Certainty, Refusal)> {
    let labels = &image.labels;
    if !is_bootable(labels) {
        return Some((
            Certainty::Fault,
            Refusal {
                who: "nodes will refuse",
                what: "it has neither the label `containers.bootc` nor `ostree.bootable`".to_owned(),
                note: "a node says: Target image does not have ostree.bootable label".to_owned(),
            },
        ));
    }
    let Some(last) = labels.get(FINAL_DIFF_ID) else {
        return Some((
            Certainty::Minor,
            Refusal {
                who: "older nodes refuse",
                what: "it has no label `ostree.final-diffid`".to_owned(),
                note: "newer hosts take such an image; older ones say: No ostree.final-diffid label found"
                    .to_owned(),
            },
        ));
    };
    let Some(layer) = image.layers.iter().find(|layer| layer.diff_id.as_str() == last) else {
        return Some((
            Certainty::Fault,
            Refusal {
                who: "nodes will refuse",
                what: format!(
                    "its label `ostree.final-diffid` names `{}`, which is none of its layers",
                    shown(last)
                ),
                note: "this is what squashing leaves; a node says: Missing ostree.final-diffid".to_owned(),
            },
        ));
    };
    let twice = image.layers.iter().filter(|other| other.digest == layer.digest).count() > 1;
    twice.then(|| {
        (
            Certainty::Fault,
            Refusal {
                who: "nodes will refuse",
                what: format!(
                    "the layer `{}`, which ends its ostree commit, is there more than once",
                    layer.digest
                ),
                note: "a node says: Multiple entries for that digest".to_owned(),
            },
        )
    })
}
