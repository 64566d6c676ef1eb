//! `extensions-clash`: extensions or another kernel beside an override.

use crate::messages;
use crate::model::machine_config::{Field, Object};
use crate::rules::{Context, Observation};
use crate::text::shown;

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    let object = &context.subject.object;
    if object.image(Field::OsImage).is_none() {
        return Vec::new();
    }
    let mut observations = Vec::new();
    let own = additions(&object.kernel_type, &object.extensions);
    if !own.is_empty() {
        observations.push(clash(object, "the same MachineConfig", &own));
    }
    let mut others: Vec<(&str, Vec<String>, String)> = Vec::new();
    for pool in context.pools {
        match pool.others(context.subject, &context.facts.cluster) {
            Ok(configs) => {
                for config in configs {
                    let added = additions(&config.kernel_type, &config.extensions);
                    if added.is_empty() {
                        continue;
                    }
                    let name = format!("`{}`", shown(pool.name));
                    match others.iter_mut().find(|(other, ..)| *other == config.name) {
                        Some((_, pools, _)) => pools.push(name),
                        None => others.push((&config.name, vec![name], added)),
                    }
                }
            }
            Err(cause) => {
                let what = "whether another MachineConfig of the pool adds extensions or another kernel";
                observations.extend(context.unknown_cluster(
                    Field::OsImage,
                    what,
                    "the MachineConfigs",
                    cause,
                ));
            }
        }
    }
    for (config, pools, added) in others {
        let who = format!("MachineConfig `{}` in {}", shown(config), messages::pools(&pools));
        observations.push(clash(object, &who, &added));
    }
    observations.dedup();
    observations
}

fn clash(object: &Object, who: &str, additions: &str) -> Observation {
    let extensions = Field::ExtensionsImage;
    let is_default = object.image(extensions).is_none();
    Observation::fault(Field::OsImage, format!("`osImageURL` is overridden, and {who} sets {additions}"))
        .note("nodes install packages on top of the image, which fails if the image already has them")
        .notes(is_default.then(|| {
            format!("`{}` is not set, so the packages come from the cluster's release", extensions.key())
        }))
        .help("install the packages in the image build, and remove them from the MachineConfig")
}

/// What is added to the operating system, in words. Empty when nothing is.
fn additions(kernel_type: &str, extensions: &[String]) -> String {
    let mut parts = Vec::new();
    if !matches!(kernel_type, "" | "default") {
        parts.push(format!("`kernelType: {}`", shown(kernel_type)));
    }
    if !extensions.is_empty() {
        let names: Vec<_> = extensions.iter().take(MAX_NAMES).map(|name| shown(name)).collect();
        let more = if extensions.len() > MAX_NAMES { ", …" } else { "" };
        parts.push(format!("`extensions: [{}{more}]`", names.join(", ")));
    }
    messages::list(&parts)
}

const MAX_NAMES: usize = 7;
