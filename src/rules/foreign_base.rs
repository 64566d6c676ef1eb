//! `foreign-base`: an image that is built on no base that counts.

use crate::lineage::{Ancestry, ForeignReason};
use crate::messages;
use crate::model::machine_config::Field;
use crate::policy::Level;
use crate::rules::{Certainty, Context, Observation, Rule, RuleInput};

pub(super) static RULE: Rule = Rule {
    id: "foreign-base",
    fault: "an image that is not built on any accepted base",
    inputs: &[RuleInput::Image, RuleInput::Cluster],
    recommended: Level::Warn,
    documentation: "
Compares the layers of `osImageURL` with those of the base image of the cluster's release: the diffIDs
of the base must be the first of the image's, in order, on every platform that the pools' nodes have.
Recompression and pushes to other registries change nothing of that. Labels and annotations say what
anybody wants them to, and are no proof; where they claim a descent, the finding repeats the claim.

The bases that count are those of `--release-image` or `--base-image` where one is given, else for each
pool the first of OSImageStream, ControllerConfig, the ConfigMap `machine-config-osimageurl` and the
release payload that belongs to the release in ClusterVersion; and `acceptedBases` of the policy beside
them. Without a cluster and without any of these there is nothing to judge by. Then this rule, and the
others on lineage, find nothing; the report's `lineage` says so for each image.

Images on the base of another release are `stale-base`, of another stream `stream-mismatch`, and those
whose layers cannot tell are `unprovable-base`.

### Why

The operating system of a node and the cluster's release are built and tested together: kubelet, CRI-O
and the Machine Config Daemon's expectations come with the base.

### What to do

Build the image `FROM` the base that the finding names; `layerpin base` prints it. A base of your own,
such as that of a hotfix, goes into `acceptedBases` of the policy. `docs/lineage.md` has every result.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    case.by_lineage(|image, lineage| {
        let (why, closest) = match &lineage.ancestry {
            Ancestry::Foreign { why: ForeignReason::OtherRelease | ForeignReason::OtherStream, .. } => {
                return None;
            }
            Ancestry::Foreign { why, closest } => (*why, closest),
            _ => return case.unknown_lineage("is built on an accepted base", image, lineage),
        };
        let mut notes = lineage.expected();
        notes.extend(closest.as_ref().map(|closest| closest.agreement(lineage.platform.as_ref())));
        if matches!(why, ForeignReason::NothingShared | ForeignReason::NoBaseForPlatform) {
            notes.extend(lineage.reason());
        }
        notes.extend(case.claim(image, lineage));
        notes.extend(lineage.notes.iter().cloned());
        Some(Observation {
            field: Field::OsImage,
            certainty: Certainty::Fault,
            message: match why {
                ForeignReason::OtherPlatform => {
                    format!(
                        "`{}` has the layers of another platform: {}",
                        messages::short(image),
                        lineage.reason()?
                    )
                }
                _ => format!("`{}` is not built on {}", messages::short(image), lineage.wanted()),
            },
            notes,
            help: lineage.rebuild(),
            missing: None,
        })
    })
}
