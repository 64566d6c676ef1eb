//! `malformed-reference`: what no node can pull, whatever a registry holds.

use crate::policy::Level;
use crate::rules::{Certainty, Context, Observation, Rule, RuleInput};

pub(super) static RULE: Rule = Rule {
    id: "malformed-reference",
    fault: "a short name, a transport prefix, tag and digest together, or a bad digest",
    inputs: &[RuleInput::MachineConfig],
    recommended: Level::Deny,
    documentation: "
Looks at `osImageURL` and `baseOSExtensionsContainerImage`. A reference is sound when the library
that nodes use, `containers/image`, accepts it and can pull it, and when it names its registry.

Refused are short names (`os:4.18`, `acme/os`), prefixes (`docker://`, `ostree-unverified-registry:`),
upper-case repository paths, digests that are cut, in upper case or of unknown algorithms, and
`repository:tag@sha256:…`, which parses but which nodes refuse to pull. Of that last form `/mutate`
drops the tag and keeps the digest, so this rule then finds nothing.

### Why

A node finds out only when it is drained and about to reboot: the pool degrades, one node at a time.
A short name is worse, because what it means depends on each node's own search list.

### What to do

Write `registry/path@sha256:<digest>`, nothing before and nothing after.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    case.images()
        .filter_map(|(field, image)| {
            let (message, note, help) = match &image.reference {
                Err(error) => (
                    error.to_string(),
                    "nodes refuse it only after they were drained, and the pool degrades",
                    error.help(),
                ),
                Ok(reference) => {
                    let digest = reference.digest().filter(|_| reference.tag().is_some())?;
                    (
                        format!("`{reference}` has a tag and a digest together"),
                        "nodes refuse to pull a reference that has both",
                        format!("write `{}`", reference.pinned_to(digest)),
                    )
                }
            };
            Some(Observation {
                field,
                certainty: Certainty::Fault,
                message,
                notes: vec![note.to_owned()],
                help,
                missing: None,
            })
        })
        .collect()
}
