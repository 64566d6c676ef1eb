//! `registry-not-allowed`: an image from outside the registries that the policy or the cluster allows.

use crate::lineage::MissingFact;
use crate::model::facts::registry_sources::{IMAGE_CONFIG, RegistryAccess};
use crate::model::facts::{Cause, Fact};
use crate::model::image_reference::ImageReference;
use crate::model::machine_config::Field;
use crate::policy::Level;
use crate::rules::{Certainty, Context, Observation, Rule, RuleInput};
use crate::text::shown;

pub(super) static RULE: Rule = Rule {
    id: "registry-not-allowed",
    fault: "a repository outside those that the policy or the cluster allows, or one that is blocked on nodes",
    inputs: &[RuleInput::MachineConfig, RuleInput::Cluster],
    recommended: Level::Deny,
    documentation: "
Compares the repository of `osImageURL` and `baseOSExtensionsContainerImage`, as written and without
tag and digest, with the patterns of `registries.allow` in the policy. `*` stands for any run of
characters, `/` too. An empty list allows every registry.

This is judged before anything is asked: whatever the level of this rule, no question and no
credential goes to a registry outside the list. Such an image is not pinned either. The payload and
the bases of the cluster's release are asked for wherever they are: nodes pull them whatever the list
says, and no MachineConfig names them.

In a cluster, the registries that `image.config.openshift.io/cluster` lets nodes pull from are compared
as well: `spec.registrySources.allowedRegistries` and `blockedRegistries`, entries of the form
`host[:port][/path]` or `*.domain`. Nodes compare the name as written, so a mirror makes no difference,
and the same holds here: nothing is asked of a registry outside the one list or inside the other, nor of
its mirrors. The repository of the release payload is always allowed. When the object cannot be read the
image is asked for, and whether its registry is allowed is not known.

Where the image is asked for, a registry that nodes are told to keep away from is the same fault: one
that is `blocked` in `registries.conf`, or the source of a mirror set with `NeverContactSource`, when no
mirror may answer in its place. Mirrors for digests do not
answer for tags.

### Why

The image becomes the operating system of the nodes: kernel, kubelet and all.

### What to do

Copy the image to an allowed repository, or have the repository added to `registries.allow`,
or to `allowedRegistries` of the cluster. Of a
blocked registry, name a mirror's copy, or the digest where mirrors hold digests alone.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    case.references()
        .filter_map(|(field, reference)| {
            if !case.policy.allows(reference) {
                return Some(outside(case, field, reference));
            }
            if let Fact::Unknown(Cause::Blocked { scope }) = case.facts.manifest(&reference.pull_spec())
                && !matches!(case.facts.cluster.registry_access(reference), RegistryAccess::Blocked(_))
            {
                return Some(blocked(field, reference, scope));
            }
            in_cluster(case, field, reference)
        })
        .collect()
}

fn outside(case: &Context<'_>, field: Field, reference: &ImageReference) -> Observation {
    let allowed = case.policy.allowed();
    Observation {
        field,
        certainty: Certainty::Fault,
        message: format!(
            "`{}` is outside the registries that policy `{}` allows",
            reference.repository(),
            case.policy.name()
        ),
        notes: vec![listed(allowed)],
        help: format!(
            "copy the image to an allowed repository, or add `{}` to `registries.allow` of the policy",
            reference.repository()
        ),
        // So nobody asked for it.
        missing: Some(MissingFact::Registry(reference.pull_spec())),
    }
}

/// What the image configuration of the cluster says of it.
fn in_cluster(case: &Context<'_>, field: Field, reference: &ImageReference) -> Option<Observation> {
    let repository = reference.repository();
    let (message, notes, help) = match case.facts.cluster.registry_access(reference) {
        RegistryAccess::Allowed => return None,
        RegistryAccess::Unknown(object, cause) => {
            let what = format!("whether the cluster lets nodes pull from `{repository}`");
            return case.unknown_cluster(field, &what, object, cause);
        }
        RegistryAccess::Outside(allowed) => (
            format!("`{repository}` is outside the registries that the cluster allows"),
            vec![listed(allowed)],
            format!(
                "copy the image to an allowed registry, or add `{repository}` to `registrySources.allowedRegistries` of `{IMAGE_CONFIG}`"
            ),
        ),
        RegistryAccess::Blocked(scope) => {
            let scope = shown(scope);
            (
                format!("`{repository}` is in `{scope}`, which the cluster blocks"),
                Vec::new(),
                format!(
                    "copy the image to another registry, or take `{scope}` out of `registrySources.blockedRegistries` of `{IMAGE_CONFIG}`"
                ),
            )
        }
    };
    // So nobody asked for it.
    let missing = Some(MissingFact::Registry(reference.pull_spec()));
    Some(Observation { field, certainty: Certainty::Fault, message, notes, help, missing })
}

/// The first of the allowed ones, and how many more there are.
fn listed(allowed: &[impl ToString]) -> String {
    let first: Vec<_> =
        allowed.iter().take(SHOWN).map(|entry| format!("`{}`", shown(&entry.to_string()))).collect();
    let more = allowed.len().saturating_sub(SHOWN);
    let tail = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("allowed: {}{tail}", first.join(", "))
}

fn blocked(field: Field, reference: &ImageReference, scope: &str) -> Observation {
    let scope = shown(scope);
    let notes = match reference.digest() {
        Some(_) => Vec::new(),
        None => vec!["mirrors for digests do not answer for tags".to_owned()],
    };
    Observation {
        field,
        certainty: Certainty::Fault,
        message: format!("nodes are not to pull `{}`: `{scope}` is blocked", reference.pull_spec()),
        notes,
        help: format!(
            "name an image that nodes may pull, or have `{scope}` unblocked where mirrors are configured"
        ),
        missing: Some(MissingFact::Registry(reference.pull_spec())),
    }
}

const SHOWN: usize = 5;
