//! `registry-not-allowed`: an image from a registry that the policy or the cluster does not allow.

use crate::lineage::MissingFact;
use crate::model::facts::registry_sources::{IMAGE_CONFIG, RegistryAccess};
use crate::model::facts::{Cause, Fact};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::Field;
use crate::rules::{Context, Observation};
use crate::text::shown;

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    context.references().filter_map(|(field, reference)| check(context, field, reference)).collect()
}

fn check(context: &Context<'_>, field: Field, reference: &ImageReference) -> Option<Observation> {
    let (policy, repository, asked) = (context.policy, reference.repository(), reference.pull_spec());
    let access = context.facts.cluster.registry_access(reference);
    let observation = if !policy.allows(reference) {
        let message = format!("policy `{}` does not allow images from `{repository}`", policy.name());
        Observation::fault(field, message).note(listed(policy.allowed())).help(format!(
            "copy the image to an allowed repository, or add `{repository}` to `registries.allow` of the policy"
        ))
    } else if let Fact::Unknown(Cause::Blocked { scope }) = context.facts.manifest(&asked)
        && !matches!(access, RegistryAccess::Blocked(_))
    {
        let scope = shown(scope);
        let is_tag = reference.digest().is_none();
        Observation::fault(field, format!("nodes cannot pull `{asked}`: `{scope}` is blocked"))
            .notes(is_tag.then(|| "digest mirrors are not used for tags".to_owned()))
            .help(format!(
                "use an image that nodes can pull, or unblock `{scope}` where the mirrors are configured"
            ))
    } else {
        match access {
            RegistryAccess::Allowed => return None,
            RegistryAccess::Unknown(object, cause) => {
                let what = format!("whether the cluster allows images from `{repository}`");
                return context.unknown_cluster(field, &what, object, cause);
            }
            RegistryAccess::Outside(allowed) => {
                let message = format!("the cluster does not allow images from `{repository}`");
                Observation::fault(field, message).note(listed(allowed)).help(format!(
                    "copy the image to an allowed registry, or add `{repository}` to `registrySources.allowedRegistries` of `{IMAGE_CONFIG}`"
                ))
            }
            RegistryAccess::Blocked(scope) => {
                let scope = shown(scope);
                let message = format!("the cluster blocks images from `{repository}`: `{scope}` is blocked");
                Observation::fault(field, message).help(format!(
                    "copy the image to another registry, or remove `{scope}` from `registrySources.blockedRegistries` of `{IMAGE_CONFIG}`"
                ))
            }
        }
    };
    // No request was sent to such a registry.
    Some(observation.missing(Some(MissingFact::Registry(asked))))
}

/// The first of the allowed ones, and how many more there are.
fn listed(allowed: &[impl ToString]) -> String {
    let first: Vec<_> =
        allowed.iter().take(MAX_LISTED).map(|entry| format!("`{}`", shown(&entry.to_string()))).collect();
    let more = allowed.len().saturating_sub(MAX_LISTED);
    let tail = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("allowed: {}{tail}", first.join(", "))
}

const MAX_LISTED: usize = 5;
