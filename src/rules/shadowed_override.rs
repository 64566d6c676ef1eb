//! `shadowed-override`: another MachineConfig wins in a pool.

use crate::lineage::MissingFact;
use crate::messages;
use crate::model::facts::{Cause, Fact};
use crate::model::machine_config::Field;
use crate::policy::Level;
use crate::pools::{AffectedPool, Winner, image};
use crate::rules::{Certainty, Context, Observation, Rule, RuleInput};
use crate::text::shown;

pub(super) static RULE: Rule = Rule {
    id: "shadowed-override",
    fault: "another MachineConfig wins in the pool, so that this one has no effect there",
    inputs: &[RuleInput::Cluster],
    recommended: Level::Warn,
    documentation: "
Merges the MachineConfigs of each pool that the object reaches as the operator does, and tells where
another one decides `osImageURL` or `baseOSExtensionsContainerImage`. The last that names an image wins:
before 4.15 by name alone; from 4.15 all of role `worker` come before those of the custom pool; from 4.21
what the operator's controllers generated is passed over. Up to 4.20 it is not, and the generated
`01-…-kubelet` carries the default image: an override with a name before it is lost without a word.

It is no fault when the other one names the same image.

### Why

The object is stored, nothing happens, and nothing says why.

### What to do

Give this MachineConfig a name that sorts after the other's, or take the image out of the other.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    let mut observations = Vec::new();
    for (field, own) in case.images() {
        let cluster = &case.facts.cluster;
        let mut lost: Vec<(&str, &AffectedPool<'_>)> = Vec::new();
        for pool in case.pools {
            match pool.winner(field, case.subject, cluster) {
                Winner::Other(config) if image(config, field) != own.text => lost.push((&config.name, pool)),
                Winner::Unknown(cause) => {
                    let what = "whether another MachineConfig wins over this one";
                    observations.extend(case.unknown_cluster(field, what, "the MachineConfigs", cause));
                }
                Winner::Unclear => observations.push(unclear(field, pool, case)),
                Winner::Other(_) | Winner::Subject => {}
            }
        }
        let mut winners: Vec<&str> = lost.iter().map(|(winner, _)| *winner).collect();
        winners.sort_unstable();
        winners.dedup();
        for winner in winners {
            let pools: Vec<_> = lost
                .iter()
                .filter(|(of, _)| *of == winner)
                .map(|(_, pool)| format!("`{}`", shown(pool.name)))
                .collect();
            let all = lost.len() == case.pools.len();
            observations.push(Observation {
                field,
                certainty: Certainty::Fault,
                message: format!(
                    "MachineConfig `{}` wins over this one in {} {}",
                    shown(winner),
                    if pools.len() == 1 { "pool" } else { "pools" },
                    messages::list(&pools)
                ),
                notes: all.then(|| "this one has no effect in any pool".to_owned()).into_iter().collect(),
                help: format!(
                    "take `{}` out of `{}`, or give this MachineConfig a name that sorts after it",
                    field.key(),
                    shown(winner)
                ),
                missing: None,
            });
        }
    }
    observations.dedup();
    observations
}

fn unclear(field: Field, pool: &AffectedPool<'_>, case: &Context<'_>) -> Observation {
    let version = &case.facts.cluster.version;
    let why = match version {
        Fact::Unknown(Cause::NotAsked) => "nobody asked for it".to_owned(),
        Fact::Unknown(cause) => cause.to_string(),
        Fact::Absent => "there is no ClusterVersion".to_owned(),
        Fact::Known(version) => format!("`{}` is none that is known", shown(&version.desired.version)),
    };
    Observation {
        field,
        certainty: Certainty::Unknown,
        message: format!(
            "whether another MachineConfig wins over this one in pool `{}` depends on the cluster's release, \
             which is not known: {why}",
            shown(pool.name)
        ),
        notes: Vec::new(),
        help: match version {
            Fact::Unknown(Cause::Forbidden { .. }) => messages::help_with_right(case.entry_point()),
            _ => format!("{} when ClusterVersion/version can be read", case.entry_point().retry()),
        },
        missing: match version {
            Fact::Unknown(cause) => Some(MissingFact::Cluster(cause.clone())),
            Fact::Known(_) | Fact::Absent => None,
        },
    }
}
