//! `foreign-base`: an image that is not built on any accepted base.

use crate::lineage::{Ancestry, ForeignReason};
use crate::messages;
use crate::model::machine_config::Field;
use crate::rules::{Context, Observation};

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    context.for_each_lineage(|image, lineage| {
        let reason = match &lineage.ancestry {
            Ancestry::Foreign {
                reason: ForeignReason::OtherRelease | ForeignReason::OtherStream, ..
            } => {
                return None;
            }
            Ancestry::Foreign { reason, .. } => *reason,
            _ => return context.unknown_lineage("is built on an accepted base", image, lineage),
        };
        let name = messages::short(image);
        let message = match reason {
            ForeignReason::OtherPlatform => {
                format!("`{name}` has the layers of another platform: {}", lineage.reason()?)
            }
            _ => format!("`{name}` is not built on {}", lineage.wanted()),
        };
        let nothing_found = matches!(reason, ForeignReason::NothingShared | ForeignReason::NoBaseForPlatform);
        let observation = Observation::fault(Field::OsImage, message)
            .notes(lineage.comparison())
            .notes(lineage.reason().filter(|_| nothing_found))
            .notes(lineage.claim(image, context.facts))
            .notes(lineage.notes.clone())
            .help(lineage.rebuild());
        Some(observation)
    })
}
