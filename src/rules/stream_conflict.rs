//! `stream-conflict`: an override in a pool that also chooses an OS image stream.

use crate::messages;
use crate::model::facts::Fact;
use crate::model::machine_config::Field;
use crate::policy::Level;
use crate::rules::{Certainty, Context, Observation, PoolPlatform, Rule, RuleInput, merged};
use crate::text::shown;

pub(super) static RULE: Rule = Rule {
    id: "stream-conflict",
    fault: "an override in a pool that sets `osImageStream` too: the operator refuses to render",
    inputs: &[RuleInput::Cluster],
    recommended: Level::Deny,
    documentation: "
Looks for `spec.osImageStream.name` in the MachineConfigPools that the object reaches. It is no fault when
`osImageURL` is, to the letter, the image of that stream: that is no override.

### Why

The Machine Config Operator refuses to render a pool that has both: \"cannot override MachineConfig
osImageURL and set MachineConfigPool spec.osImageStream.name simultaneously\". From then on the pool takes
no configuration at all, new certificates and pull secrets neither.

### What to do

Take `spec.osImageStream` out of the pool, or the override out of the MachineConfig.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    let Some(image) = case.subject.object.image(Field::OsImage) else { return Vec::new() };
    if let Fact::Unknown(cause) = &case.facts.cluster.pools {
        let what = "whether a pool of the object sets `osImageStream` too";
        let unknown = case.unknown_cluster(Field::OsImage, what, "the pools", cause);
        return unknown.into_iter().collect();
    }
    let seen = case.pools.iter().filter_map(|pool| {
        let stream = pool.known?.os_image_stream.as_deref().filter(|stream| !stream.is_empty())?;
        let of_stream = match &case.facts.cluster.streams {
            Fact::Known(streams) => streams.available.get(stream),
            Fact::Absent | Fact::Unknown(_) => None,
        };
        if of_stream == Some(&image.text) {
            return None;
        }
        let name = match &image.reference {
            Ok(reference) => messages::short(reference),
            Err(_) => shown(&image.text),
        };
        let observation = Observation {
            field: Field::OsImage,
            certainty: Certainty::Fault,
            message: format!(
                "`{name}` overrides the operating system of pool `{}`, which sets `osImageStream` to `{}` too",
                shown(pool.name),
                shown(stream)
            ),
            notes: vec!["the operator renders nothing for the pool while it has both".to_owned()],
            help: format!(
                "take it out of the pool: oc patch mcp {} --type json -p '[{{\"op\":\"remove\",\"path\":\"/spec/osImageStream\"}}]'",
                shown(pool.name)
            ),
            missing: None,
        };
        Some((observation, PoolPlatform::default()))
    });
    merged(seen)
}
