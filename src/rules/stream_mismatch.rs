//! `stream-mismatch`: an image on another OS stream than the pool's.

use crate::lineage::{Ancestry, ForeignReason};
use crate::messages;
use crate::model::machine_config::Field;
use crate::policy::Level;
use crate::rules::{Certainty, Context, Observation, Rule, RuleInput};

pub(super) static RULE: Rule = Rule {
    id: "stream-mismatch",
    fault: "an image on another OS stream than the pool's",
    inputs: &[RuleInput::Image, RuleInput::Cluster],
    recommended: Level::Deny,
    documentation: "
A release may have operating systems of several streams, such as `rhel-9` and `rhel-10`. The stream of a
pool is its `spec.osImageStream.name`, else for a custom pool that of `worker`, else the default of
`OSImageStream/cluster`. An image that is built, by its layers, on the base of another stream is a fault;
what its labels say of the stream is not looked at.

### Why

A stream is a major version of the operating system. Nodes cannot go back from a later one, and
configuration that is fit for the one can be missing in the other: RHEL 10 has no `runc`.

### What to do

Build the image on the base of the pool's stream, or move the pool to the other stream first.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    case.by_lineage(|image, lineage| {
        let Ancestry::Foreign { why: ForeignReason::OtherStream, closest } = &lineage.ancestry else {
            return case.unknown_lineage("is built on the OS stream of its pool", image, lineage);
        };
        let mut notes = lineage.expected();
        notes.extend(closest.as_ref().map(|closest| closest.agreement(lineage.platform.as_ref())));
        notes.extend(lineage.notes.iter().cloned());
        Some(Observation {
            field: Field::OsImage,
            certainty: Certainty::Fault,
            message: format!("`{}` is {}", messages::short(image), lineage.reason()?),
            notes,
            help: lineage.rebuild(),
            missing: None,
        })
    })
}
