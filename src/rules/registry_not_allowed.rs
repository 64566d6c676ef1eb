//! `registry-not-allowed`: an image from outside the registries that the policy allows.

use super::{Case, Certainty, Input, Observation, Rule};
use crate::lineage::Lacking;
use crate::policy::Level;

pub(super) static RULE: Rule = Rule {
    id: "registry-not-allowed",
    fault: "a repository outside those that the policy allows",
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

### Why

The image becomes the operating system of the nodes: kernel, kubelet and all.

### What to do

Copy the image to an allowed repository, or have the repository added to `registries.allow`.
",
    judge,
};

fn judge(case: &Case<'_>) -> Vec<Observation> {
    let allowed = case.policy.allowed();
    case.references()
        .filter(|(_, reference)| !case.policy.allows(reference))
        .map(|(field, reference)| {
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
        })
        .collect()
}

const SHOWN: usize = 5;
