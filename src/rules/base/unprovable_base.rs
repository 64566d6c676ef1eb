//! `unprovable-base`: an image whose layers do not show what it is built on.

use crate::lineage::{Ancestry, Rewriting};
use crate::messages;
use crate::model::machine_config::Field;
use crate::rules::{Context, Observation};

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    context.for_each_lineage(|image, lineage| {
        let Ancestry::Unprovable { rewriting, .. } = lineage.ancestry else {
            return context.unknown_lineage("is verifiably built on its base", image, lineage);
        };
        let message = format!(
            "cannot verify that `{}` is built on {}: {}",
            messages::short(image),
            lineage.wanted(),
            lineage.reason()?
        );
        let help = match rewriting {
            Rewriting::Squashed => {
                "rebuild it without squashing the layers of the base: `podman build --squash` keeps them"
            }
            Rewriting::Rechunked => "push the image as it was built, without rechunking",
        };
        let observation = Observation::fault(Field::OsImage, message)
            .notes(lineage.comparison())
            .notes(lineage.claim(image, context.facts))
            .notes(lineage.notes.clone())
            .help(help);
        Some(observation)
    })
}
