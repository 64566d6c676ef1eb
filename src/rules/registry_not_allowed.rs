//! `registry-not-allowed`: an image from outside the registries that the policy allows.

use super::{Case, Certainty, Input, Observation, Rule};
use crate::facts::{Cause, Fact};
use crate::image_reference::{ImageReference, shown};
use crate::lineage::Lacking;
use crate::machine_config::Field;
use crate::policy::Level;

pub(super) static RULE: Rule = Rule {
    id: "registry-not-allowed",
    fault: "a repository outside those that the policy allows, or one that is blocked on nodes",
    inputs: &[Input::MachineConfig],
    recommended: Level::Deny,
    documentation: "
Compares the repository of `osImageURL` and `baseOSExtensionsContainerImage`, as written and without
tag and digest, with the patterns of `registries.allow` in the policy. `*` stands for any run of
characters, `/` too. An empty list allows every registry.

This is judged before anything is asked: whatever the level of this rule, no question and no
credential goes to a registry outside the list. Such an image is not pinned either. The payload and
the bases of the cluster's release are asked for wherever they are: nodes pull them whatever the list
says, and no MachineConfig names them.

Where the image is asked for, a registry that nodes are told to keep away from is the same fault: one
that is `blocked` in `registries.conf` or in `image.config.openshift.io/cluster`, or the source of a
mirror set with `NeverContactSource`, when no mirror may answer in its place. Mirrors for digests do not
answer for tags.

### Why

The image becomes the operating system of the nodes: kernel, kubelet and all.

### What to do

Copy the image to an allowed repository, or have the repository added to `registries.allow`. Of a
blocked registry, name a mirror's copy, or the digest where mirrors hold digests alone.
",
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Observation> {
    case.references()
        .filter_map(|(field, reference)| {
            if !case.policy.allows(reference) {
                return Some(outside(case, field, reference));
            }
            match case.facts.manifest(&reference.asked()) {
                Fact::Unknown(Cause::Blocked { scope }) => Some(blocked(field, reference, scope)),
                _ => None,
            }
        })
        .collect()
}

fn outside(case: &Case<'_>, field: Field, reference: &ImageReference) -> Observation {
    let allowed = case.policy.allowed();
    let patterns: Vec<_> = allowed.iter().take(SHOWN).map(|pattern| format!("`{pattern}`")).collect();
    let more = allowed.len().saturating_sub(SHOWN);
    let tail = if more == 0 { String::new() } else { format!(" and {more} more") };
    Observation {
        field,
        certainty: Certainty::Fault,
        message: format!(
            "`{}` is outside the registries that policy `{}` allows",
            reference.repository(),
            case.policy.name()
        ),
        notes: vec![format!("allowed: {}{tail}", patterns.join(", "))],
        help: format!(
            "copy the image to an allowed repository, or add `{}` to `registries.allow` of the policy",
            reference.repository()
        ),
        // So nobody asked for it.
        lacking: Some(Lacking::Registry(reference.asked())),
    }
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
        message: format!("nodes are not to pull `{}`: `{scope}` is blocked", reference.asked()),
        notes,
        help: format!(
            "name an image that nodes may pull, or have `{scope}` unblocked where mirrors are configured"
        ),
        lacking: Some(Lacking::Registry(reference.asked())),
    }
}

const SHOWN: usize = 5;
