//! `stream-mismatch`: an image on another OS stream than the pool's.

use crate::lineage::{Ancestry, ForeignReason};
use crate::messages;
use crate::model::machine_config::Field;
use crate::rules::{Context, Observation};

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    context.for_each_lineage(|image, lineage| {
        let Ancestry::Foreign { reason: ForeignReason::OtherStream, .. } = lineage.ancestry else {
            return context.unknown_lineage("is built on the OS stream of its pool", image, lineage);
        };
        let message = format!("`{}` is {}", messages::short(image), lineage.reason()?);
        let observation = Observation::fault(Field::OsImage, message)
            .notes(lineage.comparison())
            .notes(lineage.notes.clone())
            .help(lineage.rebuild());
        Some(observation)
    })
}
