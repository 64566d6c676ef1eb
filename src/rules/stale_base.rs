//! `stale-base`: an image on the base of another release than the cluster's.

use crate::lineage::{Ancestry, BaseStatus, ForeignReason};
use crate::messages;
use crate::model::machine_config::Field;
use crate::policy::Level;
use crate::rules::{Certainty, Context, Observation, Rule, RuleInput};

pub(super) static RULE: Rule = Rule {
    id: "stale-base",
    fault: "an image on the base of another release than the cluster's",
    inputs: &[RuleInput::Image, RuleInput::Cluster],
    recommended: Level::Warn,
    documentation: "
Looks for the base that an image is really built on among those of the releases in ClusterVersion's
history and of those that the cluster could roll to, by their layers, when it is built on none that
counts (see `foreign-base`).

While an upgrade is under way, the base of the last completed release counts too. An image on it is told
with a warning, whatever the level: its nodes will be behind when the upgrade is done.

### Why

An override stands through upgrades: the cluster says that it is on the new release, and the nodes of the
pool go on with the old operating system and its open holes, and in time with a kubelet that is further
behind than Kubernetes supports. Nothing else in the cluster says so.

### What to do

Build the image again on the base of the cluster's release, and apply its new digest. `layerpin base`
prints the base, by digest.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    case.by_lineage(|image, lineage| {
        let (certainty, agreement) = match &lineage.ancestry {
            Ancestry::Foreign { why: ForeignReason::OtherRelease, closest } => (
                Certainty::Fault,
                closest.as_ref().map(|closest| closest.agreement(lineage.platform.as_ref())),
            ),
            Ancestry::Same { base } | Ancestry::Derived { base, .. }
                if base.status == BaseStatus::Leaving =>
            {
                (
                    Certainty::Minor,
                    Some("the upgrade is under way, so the base of the last release counts".to_owned()),
                )
            }
            _ => return case.unknown_lineage("is built on the base of another release", image, lineage),
        };
        let mut notes = lineage.expected();
        notes.extend(agreement);
        notes.extend(lineage.notes.iter().cloned());
        Some(Observation {
            field: Field::OsImage,
            certainty,
            message: format!("`{}` is {}", messages::short(image), lineage.reason()?),
            notes,
            help: lineage.rebuild(),
            missing: None,
        })
    })
}
