//! `malformed-reference`: a reference that no node can pull, whatever the registry holds.

use crate::rules::{Context, Observation};

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    let observations = context.images().filter_map(|(field, image)| match &image.reference {
        Err(error) => Some(
            Observation::fault(field, error.to_string())
                .note("nodes find the error only after they are drained, and the pool becomes degraded")
                .help(error.help()),
        ),
        Ok(reference) => {
            let digest = reference.digest().filter(|_| reference.tag().is_some())?;
            Some(
                Observation::fault(field, format!("`{reference}` has both a tag and a digest"))
                    .note("nodes cannot pull a reference that has both")
                    .help(format!("write `{}`", reference.pinned_to(digest))),
            )
        }
    });
    observations.collect()
}
