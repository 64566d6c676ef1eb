//! `extensions-clash`: extensions or another kernel beside an override.

use crate::messages;
use crate::model::machine_config::{Field, Object};
use crate::policy::Level;
use crate::rules::{Certainty, Context, Observation, Rule, RuleInput};
use crate::text::shown;

pub(super) static RULE: Rule = Rule {
    id: "extensions-clash",
    fault: "`extensions` or a non-default `kernelType` in the pool together with an override",
    inputs: &[RuleInput::MachineConfig, RuleInput::Cluster],
    recommended: Level::Warn,
    documentation: "
Looks for `extensions` and for a `kernelType` other than `default` in the MachineConfig that overrides
`osImageURL`, and with a cluster in the others of each pool that it reaches.

### Why

Nodes install extensions and kernels as packages on top of the image. When the image holds such packages
already, or comes from another build than the extensions image, the installation fails and the pool
degrades.

### What to do

Install what is needed while the image is built, and take `extensions` and `kernelType` out of the pool.
Where they must stay, set `baseOSExtensionsContainerImage` to the extensions image of the same release as
the base.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    let object = &case.subject.object;
    if object.image(Field::OsImage).is_none() {
        return Vec::new();
    }
    let mut observations = Vec::new();
    let own = additions(&object.kernel_type, &object.extensions);
    if !own.is_empty() {
        observations.push(clash(object, "the same MachineConfig sets", &own));
    }
    let mut told: Vec<(&str, Vec<String>, String)> = Vec::new();
    for pool in case.pools {
        match pool.others(case.subject, &case.facts.cluster) {
            Ok(others) => {
                for other in others {
                    let theirs = additions(&other.kernel_type, &other.extensions);
                    if theirs.is_empty() {
                        continue;
                    }
                    let name = format!("`{}`", shown(pool.name));
                    match told.iter_mut().find(|(config, ..)| *config == other.name) {
                        Some((_, pools, _)) => pools.push(name),
                        None => told.push((&other.name, vec![name], theirs)),
                    }
                }
            }
            Err(cause) => {
                let what = "whether another MachineConfig of the pool adds extensions or another kernel";
                observations.extend(case.unknown_cluster(Field::OsImage, what, "the MachineConfigs", cause));
            }
        }
    }
    for (config, pools, theirs) in told {
        let pools = format!("{} {}", if pools.len() == 1 { "pool" } else { "pools" }, messages::list(&pools));
        observations.push(clash(
            object,
            &format!("in {pools} MachineConfig `{}` sets", shown(config)),
            &theirs,
        ));
    }
    observations.dedup();
    observations
}

fn clash(object: &Object, who: &str, additions: &str) -> Observation {
    let mut notes =
        vec!["nodes install them on top of the image, and fail where it has them already".to_owned()];
    if object.image(Field::ExtensionsImage).is_none() {
        notes.push(format!(
            "`{}` is not set, so they come from the build of the cluster's release",
            Field::ExtensionsImage.key()
        ));
    }
    Observation {
        field: Field::OsImage,
        certainty: Certainty::Fault,
        message: format!("`osImageURL` is overridden, and {who} {additions}"),
        notes,
        help: "install what is needed while the image is built, and take it out of the MachineConfig"
            .to_owned(),
        missing: None,
    }
}

/// What is added to the operating system, in words. Empty when nothing is.
fn additions(kernel_type: &str, extensions: &[String]) -> String {
    let mut parts = Vec::new();
    if !matches!(kernel_type, "" | "default") {
        parts.push(format!("`kernelType: {}`", shown(kernel_type)));
    }
    if !extensions.is_empty() {
        let names: Vec<_> = extensions.iter().take(SHOWN).map(|name| shown(name)).collect();
        let more = if extensions.len() > SHOWN { ", …" } else { "" };
        parts.push(format!("`extensions: [{}{more}]`", names.join(", ")));
    }
    messages::list(&parts)
}

const SHOWN: usize = 7;
