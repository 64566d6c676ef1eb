//! `unprovable-base`: an image whose layers cannot tell what it is built on.

use crate::lineage::{Ancestry, Rewriting};
use crate::messages;
use crate::model::machine_config::Field;
use crate::policy::Level;
use crate::rules::{Certainty, Context, Observation, Rule, RuleInput};

pub(super) static RULE: Rule = Rule {
    id: "unprovable-base",
    fault: "a squashed or rechunked image, whose lineage cannot be proved",
    inputs: &[RuleInput::Image, RuleInput::Cluster],
    recommended: Level::Warn,
    documentation: "
Lineage is proved by layers (see `foreign-base`). Two ways of building make all of them anew: squashing
everything into one (`buildah build --squash`, `podman build --squash-all`), and cutting the content into
layers anew (`rpm-ostree compose build-chunked-oci`, `chunkah`).

Such an image may well be built on the right base. It is told from a foreign one by traces: the label
`ostree.final-diffid` names a layer that is no longer there; or the image is bootable and shares the
commit, the version or some layers with the base. Anybody can leave such traces, so this is no better
than a foreign base: give both rules the same level.

### Why

What cannot be proved has to be believed: that the image holds the base of the cluster's release, and not
that of another.

### What to do

Build without `--squash` of the base: `podman build --squash` makes one layer of the new ones and keeps
the base's. Push the image as it was built, not rechunked.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    case.by_lineage(|image, lineage| {
        let Ancestry::Unprovable { how, closest } = &lineage.ancestry else {
            return case.unknown_lineage("can be proved to be built on its base", image, lineage);
        };
        let mut notes = lineage.expected();
        notes.extend(closest.as_ref().map(|closest| closest.agreement(lineage.platform.as_ref())));
        notes.extend(case.claim(image, lineage));
        notes.extend(lineage.notes.iter().cloned());
        Some(Observation {
            field: Field::OsImage,
            certainty: Certainty::Fault,
            message: format!(
                "whether `{}` is built on {} cannot be proved: {}",
                messages::short(image),
                lineage.wanted(),
                lineage.reason()?
            ),
            notes,
            help: match how {
                Rewriting::Squashed => {
                    "build it again without squashing the base: `podman build --squash` keeps the base's layers"
                }
                Rewriting::Rechunked => "push the image as it was built, with the layers of the base below its own",
            }
            .to_owned(),
            missing: None,
        })
    })
}
