//! `stale-base`: an image on the base of another release than the cluster's.

use crate::lineage::{Ancestry, BaseStatus, ForeignReason};
use crate::messages;
use crate::model::machine_config::Field;
use crate::rules::{Certainty, Context, Observation};

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    context.for_each_lineage(|image, lineage| {
        let (certainty, note) = match &lineage.ancestry {
            Ancestry::Foreign { reason: ForeignReason::OtherRelease, .. } => (Certainty::Fault, None),
            Ancestry::Same { base } | Ancestry::Derived { base, .. }
                if base.status == BaseStatus::Leaving =>
            {
                let note = "an upgrade is in progress, so the base of the previous release is accepted";
                (Certainty::Minor, Some(note.to_owned()))
            }
            _ => return context.unknown_lineage("is built on the base of another release", image, lineage),
        };
        let message = format!("`{}` is {}", messages::short(image), lineage.reason()?);
        let observation = Observation::new(Field::OsImage, certainty, message)
            .notes(lineage.comparison())
            .notes(note)
            .notes(lineage.notes.clone())
            .help(lineage.rebuild());
        Some(observation)
    })
}
