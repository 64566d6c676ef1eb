//! `floating-tag`: a reference without a digest.

use crate::messages;
use crate::model::facts::Fact;
use crate::pin;
use crate::rules::{Context, Observation};

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    let observations = context.references().filter_map(|(field, reference)| {
        let tag = reference.effective_tag()?;
        let message = if reference.tag().is_some() {
            format!("`{reference}` is a tag, not a digest")
        } else {
            format!("`{reference}` has neither tag nor digest, so nodes pull `{tag}`")
        };
        let asked = reference.pull_spec();
        let fact = context.facts.manifest(&asked);
        let (obstacle, help) = match (context.subject.origin.pin_command(), fact) {
            (_, Fact::Known(manifest))
                if let Err(reason) = pin::confirmed(&asked, manifest, context.facts) =>
            {
                let pinned = reference.pinned_to(&manifest.digest);
                (Some(reason), format!("write `{pinned}` when nodes can pull it"))
            }
            (Some(command), Fact::Known(_) | Fact::Unknown(_)) => (None, format!("pin it: {command}")),
            (_, Fact::Known(manifest)) => {
                (None, format!("write `{}`", reference.pinned_to(&manifest.digest)))
            }
            (_, Fact::Absent | Fact::Unknown(_)) => {
                let command = messages::digest_command(&reference.to_string());
                (
                    None,
                    format!(
                        "write `{}@sha256:<digest>`; {command} prints the digest",
                        reference.repository()
                    ),
                )
            }
        };
        let observation = Observation::fault(field, message)
            .note(
                "each node resolves the tag for itself, so nodes of one pool can end up on different images",
            )
            .notes(obstacle)
            .help(help);
        Some(observation)
    });
    observations.collect()
}
