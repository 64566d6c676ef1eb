//! `shadowed-override`: another MachineConfig takes precedence in a pool.

use std::collections::BTreeMap;

use crate::lineage::MissingFact;
use crate::messages::{self, Source};
use crate::model::facts::{Cause, Fact};
use crate::model::machine_config::Field;
use crate::pools::{AffectedPool, Winner};
use crate::rules::{Certainty, Context, Observation};
use crate::text::shown;

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    let mut observations = Vec::new();
    for (field, own) in context.images() {
        let mut shadowed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for pool in context.pools {
            match pool.winner(field, context.subject, &context.facts.cluster) {
                Winner::Other(config) if config.image(field) != own.text => {
                    shadowed.entry(&config.name).or_default().push(format!("`{}`", shown(pool.name)));
                }
                Winner::Unknown(cause) => {
                    observations.extend(context.unknown_cluster(field, WHAT, "the MachineConfigs", cause));
                }
                Winner::DependsOnRelease => observations.push(depends_on_release(field, pool, context)),
                Winner::Other(_) | Winner::Subject => {}
            }
        }
        let in_every_pool = shadowed.values().flatten().count() == context.pools.len();
        observations.extend(shadowed.into_iter().map(|(winner, pools)| {
            let (winner, key) = (shown(winner), field.key());
            let pools = messages::pools(&pools);
            let message = format!("MachineConfig `{winner}` takes precedence over this one in {pools}");
            Observation::fault(field, message)
                .notes(in_every_pool.then(|| "this one has no effect in any pool".to_owned()))
                .help(format!(
                    "remove `{key}` from `{winner}`, or give this MachineConfig a name that sorts after it"
                ))
        }));
    }
    observations.dedup();
    observations
}

fn depends_on_release(field: Field, pool: &AffectedPool<'_>, context: &Context<'_>) -> Observation {
    let version = &context.facts.cluster.version;
    let reason = match version {
        Fact::Unknown(Cause::NotAsked) => "no cluster was asked".to_owned(),
        Fact::Unknown(cause) => cause.to_string(),
        Fact::Absent => "there is no ClusterVersion".to_owned(),
        Fact::Known(version) => format!("`{}` is not a known version", shown(&version.desired.version)),
    };
    let pool = shown(pool.name);
    let message =
        format!("{WHAT} in pool `{pool}` depends on the cluster's release, which is not known: {reason}");
    let entry_point = context.entry_point();
    let help = match version.cause() {
        Some(cause @ Cause::Forbidden { .. }) => messages::help_for(cause, Source::Cluster, entry_point),
        _ => format!("{} when ClusterVersion/version can be read", entry_point.retry()),
    };
    let missing = version.cause().map(|cause| MissingFact::Cluster(cause.clone()));
    Observation::new(field, Certainty::Unknown, message).help(help).missing(missing)
}

const WHAT: &str = "whether another MachineConfig takes precedence over this one";
