//! The outside world, and the only place that asks it anything.
//!
//! Owns who is asked and whether a question may go out at all. What comes back is always a fact: a
//! question that fails is a fact of its own kind, never an error.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::model::facts::registry_sources::RegistryAccess;
use crate::model::facts::{AcceptedBases, Cause, Facts};
use crate::model::question::{Answer, Question};
use crate::policy::Policy;

pub use crate::cluster::ClusterSource;
pub use crate::registry::RegistryClient;

/// Where facts come from.
#[derive(Clone, Debug)]
pub struct Sources {
    origin: FactSource,
    given: AcceptedBases,
}

#[derive(Clone, Debug)]
enum FactSource {
    Network { registry: Arc<RegistryClient>, cluster: Option<Arc<ClusterSource>> },
    Offline,
    Recorded(Arc<Facts>),
}

impl Sources {
    /// Registries, and the cluster where there is one, over the network.
    pub fn network(registry: Arc<RegistryClient>, cluster: Option<Arc<ClusterSource>>) -> Self {
        Self::of(FactSource::Network { registry, cluster })
    }

    /// Nowhere: every question is unknown.
    pub fn offline() -> Self {
        Self::of(FactSource::Offline)
    }

    /// An earlier run: its answers are given again, at its time, and what it did not ask is unknown.
    pub fn recorded(facts: Arc<Facts>) -> Self {
        Self::of(FactSource::Recorded(facts))
    }

    /// The same, with what the user accepts in place of what the cluster says. A recorded run keeps
    /// what was given then.
    pub fn accepting(self, given: AcceptedBases) -> Self {
        Self { given, ..self }
    }

    fn of(origin: FactSource) -> Self {
        Self { origin, given: AcceptedBases::default() }
    }

    /// Facts that hold what is known without asking, as of now; of a recorded run, as of then.
    pub fn begin(&self) -> Facts {
        let now = || Facts { given: self.given.clone(), ..Facts::none(Timestamp::now()) };
        match &self.origin {
            FactSource::Network { cluster: Some(cluster), .. } => Facts { cluster: cluster.facts(), ..now() },
            FactSource::Network { cluster: None, .. } | FactSource::Offline => now(),
            FactSource::Recorded(facts) => facts.without_answers(),
        }
    }

    /// Reads the cluster once, by `deadline`, for a verb that ends. What could not be read is unknown to
    /// the facts that are begun afterwards.
    pub async fn read_cluster(&self, deadline: Instant) {
        if let FactSource::Network { registry, cluster: Some(cluster) } = &self.origin {
            cluster.read(registry, deadline).await;
        }
    }

    /// Keeps up with the cluster in the background, for a server, until what is returned is dropped.
    pub fn follow_cluster(&self) -> JoinSet<()> {
        match &self.origin {
            FactSource::Network { registry, cluster: Some(cluster) } => cluster.follow(registry),
            _ => JoinSet::new(),
        }
    }

    /// The cluster, where there is one.
    pub fn cluster(&self) -> Option<&Arc<ClusterSource>> {
        if let FactSource::Network { cluster, .. } = &self.origin { cluster.as_ref() } else { None }
    }

    /// The client of registries, where any are asked.
    pub fn registry(&self) -> Option<&Arc<RegistryClient>> {
        if let FactSource::Network { registry, .. } = &self.origin { Some(registry) } else { None }
    }

    /// The answer to every part of `question`, by `deadline`, for somebody who knows `facts`.
    ///
    /// Nothing is asked of a registry that `policy` or the cluster does not allow. What is not answered by
    /// the deadline is unknown; the registry client goes on asking for the next caller.
    pub async fn answer(
        &self,
        question: &Question,
        facts: &Facts,
        policy: &Policy,
        deadline: Instant,
    ) -> Answer {
        if let Some(cause) = refusal(question, facts, policy) {
            return question.answer_from(None, &cause);
        }
        let registry = match &self.origin {
            FactSource::Network { registry, .. } => registry,
            FactSource::Offline => return question.answer_from(None, &Cause::Offline),
            FactSource::Recorded(facts) => return question.answer_from(Some(facts), &Cause::NotRecorded),
        };
        match question {
            Question::Image { reference, manifest, platforms, .. } => {
                let (manifest, image) = match (platforms, *manifest) {
                    (Some(platforms), manifest) => {
                        let (manifest, image) =
                            registry.image(reference, manifest, platforms, deadline).await;
                        (manifest, Some(image))
                    }
                    (None, Some(freshness)) => {
                        (Some(registry.manifest(reference, freshness, deadline).await), None)
                    }
                    (None, None) => (None, None),
                };
                Answer::Image { manifest, image }
            }
            Question::Payload { reference } => Answer::Payload(registry.payload(reference, deadline).await),
        }
    }
}

/// Why nobody may be asked: the image is outside what the policy or the cluster allows.
fn refusal(question: &Question, facts: &Facts, policy: &Policy) -> Option<Cause> {
    if !question.is_bounded_by_policy() {
        return None;
    }
    if !policy.allows(question.reference()) {
        return Some(Cause::OutsideAllowed);
    }
    match facts.cluster.registry_access(question.reference()) {
        // What could not be read of the cluster does not block the request.
        RegistryAccess::Allowed | RegistryAccess::Unknown(..) => None,
        RegistryAccess::Outside(_) => Some(Cause::OutsideCluster),
        RegistryAccess::Blocked(scope) => Some(Cause::Blocked { scope: scope.to_owned() }),
    }
}
