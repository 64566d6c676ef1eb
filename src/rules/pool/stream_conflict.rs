//! `stream-conflict`: an override in a pool that also chooses an OS image stream.

use crate::messages;
use crate::model::facts::Fact;
use crate::model::machine_config::Field;
use crate::rules::{Context, Observation};
use crate::text::shown;

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    let Some(image) = context.subject.object.image(Field::OsImage) else { return Vec::new() };
    let cluster = &context.facts.cluster;
    if let Fact::Unknown(cause) = &cluster.pools {
        let what = "whether a pool of this MachineConfig also sets `osImageStream`";
        let unknown = context.unknown_cluster(Field::OsImage, what, "the MachineConfigPools", cause);
        return unknown.into_iter().collect();
    }
    let name = match &image.reference {
        Ok(reference) => messages::short(reference),
        Err(_) => shown(&image.text),
    };
    let conflicts = context.pools.iter().filter_map(|pool| {
        let stream = pool.known?.os_image_stream.as_deref().filter(|stream| !stream.is_empty())?;
        let of_stream = cluster.streams.known().and_then(|streams| streams.available.get(stream));
        if of_stream == Some(&image.text) {
            return None;
        }
        let pool = shown(pool.name);
        let message = format!(
            "`{name}` overrides the operating system of pool `{pool}`, which also sets `osImageStream` to `{}`",
            shown(stream)
        );
        let observation = Observation::fault(Field::OsImage, message)
            .note("the Machine Config Operator does not render a pool that has both")
            .help(format!(
                "remove it from the pool: oc patch mcp {pool} --type json -p '[{{\"op\":\"remove\",\"path\":\"/spec/osImageStream\"}}]'"
            ));
        Some(observation)
    });
    conflicts.collect()
}
