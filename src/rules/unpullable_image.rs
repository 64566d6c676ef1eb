//! `unpullable-image`: what nodes will not get from the registry.

use crate::lineage::MissingFact;
use crate::messages;
use crate::model::facts::{Cause, Fact, NodeCredentials};
use crate::model::machine_config::EntryPoint;
use crate::policy::Level;
use crate::pools;
use crate::rules::registry_not_allowed;
use crate::rules::{Certainty, Context, Observation, Rule, RuleInput};

pub(super) static RULE: Rule = Rule {
    id: "unpullable-image",
    fault: "an image that is not there, or that the registry refuses to nodes",
    inputs: &[RuleInput::Manifest],
    recommended: Level::Deny,
    documentation: "
Asks the registry for the manifest, without pulling it. It is a fault when the registry says that
there is no such image (404), and when it refuses (401, 403) the credentials that nodes have. Those
are what `--authfile` names. Where no such file is given, a refusal tells nothing of the nodes, and
counts as an unanswered question, as does every failure to ask. What an unanswered question costs is
`onUnknown` in the policy.

No question goes to a registry outside `registries.allow`. That is `registry-not-allowed`; where that
rule is off, this one says that nothing is known.

A registry that has no entry in the credentials and one that refuses its entry are told apart.

Mirrors and blocked registries count as they do on nodes: a tag is looked for at tag mirrors, a digest
at digest mirrors, then at the registry itself unless it is blocked. When none of them gives the image,
each is named with what it said; it is a fault when nodes will hear the same from all of them.

### Why

A node pulls the image after it was drained. When it cannot, the node stays out of service and the
pool degrades. Secrets of namespaces and workloads do not count on nodes; only the global pull
secret does.

### What to do

Push the image, or give the nodes' pull secret (`openshift-config/pull-secret`) an entry that may
read it. `skopeo inspect --authfile FILE docker://IMAGE` asks the same question.
",
    judge,
};

fn judge(case: &Context<'_>) -> Vec<Observation> {
    let other = case.policy.level_alone(&registry_not_allowed::RULE, &pools::names(case.pools));
    let registry_not_allowed_speaks = other != Level::Off;
    let again = case.entry_point().retry();
    case.references()
        .filter_map(|(field, reference)| {
            let asked = reference.pull_spec();
            let fact = case.facts.manifest(&asked);
            let (certainty, message, help) = match fact {
                Fact::Known(_) => return None,
                Fact::Absent => (
                    Certainty::Fault,
                    format!("`{asked}` is not there: {} has no such image", asked.host()),
                    format!("check the repository and push the image, then {again}"),
                ),
                // `registry-not-allowed` says so already, where it may speak.
                Fact::Unknown(Cause::OutsideAllowed | Cause::OutsideCluster | Cause::Blocked { .. })
                    if registry_not_allowed_speaks =>
                {
                    return None;
                }
                Fact::Unknown(cause @ Cause::Refused { host, as_nodes: NodeCredentials::Same, .. }) => {
                    // A mirror has an entry of its own.
                    let entry = if host == asked.api_host() { asked.host() } else { host };
                    (
                        Certainty::Fault,
                        format!("`{asked}` is refused to nodes: {cause}"),
                        format!(
                            "give the pull secret `openshift-config/pull-secret` an entry for `{entry}` that may read it"
                        ),
                    )
                }
                Fact::Unknown(cause) if cause.holds_for_nodes() => (
                    Certainty::Fault,
                    format!("nodes cannot pull `{asked}`: {cause}"),
                    format!("push the image to one of these, or let nodes in there, then {again}"),
                ),
                Fact::Unknown(cause) => (
                    Certainty::Unknown,
                    format!("whether nodes can pull `{asked}` is not known: {cause}"),
                    messages::help_to_look(cause, &asked).unwrap_or_else(|| help_to_know(cause, case.entry_point())),
                ),
            };
            let missing = Some(MissingFact::Registry(asked));
            Some(Observation { field, certainty, message, notes: Vec::new(), help, missing })
        })
        .collect()
}

/// What brings an answer the next time; where the registry did answer, asking it again does not.
fn help_to_know(cause: &Cause, entry_point: EntryPoint) -> String {
    match cause {
        Cause::NoCredential { .. } => messages::FIX_CREDENTIALS.to_owned(),
        Cause::Refused { .. } => {
            "name the nodes' pull secret with `--authfile`, so that layerpin asks as nodes do".to_owned()
        }
        Cause::OutsideAllowed => {
            "add the repository to `registries.allow` of the policy, or switch `registry-not-allowed` on there"
                .to_owned()
        }
        Cause::Offline => "ask without `--offline`".to_owned(),
        Cause::NotRecorded => "record the facts again with `--save-facts`".to_owned(),
        _ => {
            let again = entry_point.retry();
            format!("{again} when the registry answers; `onUnknown` in the policy says what this costs")
        }
    }
}
