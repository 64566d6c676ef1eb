//! `unpullable-image`: an image that nodes cannot get from the registry.

use crate::lineage::MissingFact;
use crate::messages::{self, Source};
use crate::model::facts::{Cause, Fact};
use crate::rules::{Certainty, Context, Observation};

pub(in crate::rules) fn judge(context: &Context<'_>) -> Vec<Observation> {
    let retry = context.entry_point().retry();
    let observations = context.references().filter_map(|(field, reference)| {
        let asked = reference.pull_spec();
        let observation = match context.facts.manifest(&asked) {
            Fact::Known(_) => return None,
            Fact::Absent => Observation::fault(field, format!("{} has no image `{asked}`", asked.host()))
                .help(format!("check the repository and push the image, then {retry}")),
            Fact::Unknown(cause) if cause.holds_for_nodes() => {
                let help = match cause {
                    Cause::Refused { host, .. } => {
                        // A mirror has an entry of its own.
                        let entry = if host == asked.api_host() { asked.host() } else { host };
                        format!(
                            "add an entry for `{entry}` with pull access to the pull secret `openshift-config/pull-secret`"
                        )
                    }
                    _ => format!("push the image to one of these registries, or give nodes access, then {retry}"),
                };
                Observation::fault(field, format!("nodes cannot pull `{asked}`: {cause}")).help(help)
            }
            Fact::Unknown(cause) => {
                let message = format!("whether nodes can pull `{asked}` is not known: {cause}");
                Observation::new(field, Certainty::Unknown, message)
                    .help(messages::help_for(cause, Source::Registry(&asked), context.entry_point()))
            }
        };
        let observation = match context.facts.manifest(&asked).cause() {
            Some(Cause::OutsideAllowed | Cause::OutsideCluster | Cause::Blocked { .. }) => {
                observation.covered_by("registry-not-allowed")
            }
            _ => observation,
        };
        Some(observation.missing(Some(MissingFact::Registry(asked))))
    });
    observations.collect()
}
