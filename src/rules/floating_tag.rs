//! `floating-tag`: a tag, or nothing, where a digest should stand.

use crate::model::facts::Fact;
use crate::pin;
use crate::policy::Level;
use crate::rules::{Certainty, Context, Observation, Rule, RuleInput};

pub(super) static RULE: Rule = Rule {
    id: "floating-tag",
    fault: "a tag, or nothing, where a digest should stand",
    inputs: &[RuleInput::MachineConfig],
    recommended: Level::Deny,
    documentation: "
Looks at `osImageURL` and `baseOSExtensionsContainerImage`. A reference is sound when it ends in
`@sha256:…`. A reference with neither tag nor digest means the tag `latest` to a node.

With `pin: true` in the policy, `/mutate` puts the digest in the place of the tag before `/validate`
sees the object, and this rule finds nothing. It speaks where nothing mutates, and where the
registry could not be asked in time.

### Why

Every node resolves the tag for itself, when it comes to it. When the tag moves while a pool rolls,
or before the next node joins, nodes of one pool run different operating systems, and nothing in the
cluster shows it: the Machine Config Operator compares the text of the field, which is the same.

### What to do

Write `repository@sha256:…`. `skopeo inspect --format '{{.Digest}}' docker://IMAGE` prints the
digest. Take that of the index when the tag names one: the digest of one platform's manifest breaks
pools with nodes of another.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    case.references()
        .filter_map(|(field, reference)| {
            let tag = reference.effective_tag()?;
            let message = if reference.tag().is_some() {
                format!("`{reference}` is a tag, not a digest")
            } else {
                format!("`{reference}` has neither tag nor digest, so nodes pull `{tag}`")
            };
            let asked = reference.pull_spec();
            let fact = case.facts.manifest(&asked);
            let mut notes = vec![
                "each node resolves the tag for itself, so nodes of one pool can end up on different images"
                    .to_owned(),
            ];
            let help = match (case.subject.origin.pin_command(), fact) {
                (_, Fact::Known(manifest))
                    if let Err(reason) = pin::confirmed(&asked, manifest, case.facts) =>
                {
                    notes.push(reason);
                    format!("write `{}` once nodes can pull that", reference.pinned_to(&manifest.digest))
                }
                (Some(command), Fact::Known(_) | Fact::Unknown(_)) => format!("pin it: {command}"),
                (_, Fact::Known(manifest)) => format!("write `{}`", reference.pinned_to(&manifest.digest)),
                (_, Fact::Absent | Fact::Unknown(_)) => format!(
                    "write `{}@sha256:<digest>`; `skopeo inspect --format '{{{{.Digest}}}}' \
                     docker://{reference}` prints the digest",
                    reference.repository()
                ),
            };
            Some(Observation { field, certainty: Certainty::Fault, message, notes, help, missing: None })
        })
        .collect()
}
