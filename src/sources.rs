//! The outside world, and the only place that asks it anything.
//!
//! Owns which questions go out and by when every answer must be in. What comes back is always
//! [`Facts`]: a question that fails is a fact of its own kind, never an error.

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::model::facts::image::{Image, Payload};
use crate::model::facts::registry_sources::RegistryAccess;
use crate::model::facts::{AcceptedBases, Cause, Fact, Facts, Manifest};
use crate::model::pull_spec::PullSpec;
use crate::model::question::{Freshness, Question};
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
        match &self.origin {
            FactSource::Network { cluster, .. } => cluster.as_ref(),
            FactSource::Offline | FactSource::Recorded(_) => None,
        }
    }

    /// The client of registries, where any are asked.
    pub fn registry(&self) -> Option<&Arc<RegistryClient>> {
        match &self.origin {
            FactSource::Network { registry, .. } => Some(registry),
            FactSource::Offline | FactSource::Recorded(_) => None,
        }
    }

    /// Answers `questions` into `facts`, all of them by `deadline`.
    ///
    /// Nothing is asked of a registry that `policy` or the cluster does not allow. What is not answered by the
    /// deadline is unknown, and goes on being asked for those who come after. Afterwards every
    /// question is answered by `facts`.
    pub async fn gather(
        &self,
        questions: &[Question],
        facts: &mut Facts,
        policy: &Policy,
        deadline: Instant,
    ) {
        self.gather_beside(questions, questions, facts, policy, deadline).await;
    }

    /// The same for a caller that gathers `beside`, all that it asks together, in parts of which
    /// `questions` are one: what another part reads of an image is not asked for here.
    pub async fn gather_beside(
        &self,
        questions: &[Question],
        beside: &[Question],
        facts: &mut Facts,
        policy: &Policy,
        deadline: Instant,
    ) {
        let mut distinct: Vec<Question> = Vec::new();
        for question in questions {
            if let FactSource::Recorded(recorded) = &self.origin
                && question.is_answered_by(recorded)
                && closed(question, facts, policy).is_none()
            {
                facts.take_answer(question, recorded);
                continue;
            }
            match distinct.iter_mut().find_map(|earlier| Some((earlier.joined(question)?, earlier))) {
                Some((joined, earlier)) => *earlier = joined,
                None => distinct.push(question.clone()),
            }
        }
        let answers = distinct.iter().map(|question| {
            let closed = closed(question, facts, policy);
            self.answer(question, beside, closed, deadline)
        });
        for answer in join_all(answers).await {
            match answer {
                SourcedFact::Manifest(reference, fact) => drop(facts.manifests.insert(reference, fact)),
                SourcedFact::Image(reference, fact) => drop(facts.images.insert(reference, fact)),
                SourcedFact::Payload(reference, fact) => drop(facts.payloads.insert(reference, fact)),
            }
        }
    }

    /// The answer to a question, which is asked together with those `beside` it.
    async fn answer(
        &self,
        question: &Question,
        beside: &[Question],
        closed: Option<Cause>,
        deadline: Instant,
    ) -> SourcedFact {
        let reference = question.reference().clone();
        let closed = closed.or(match &self.origin {
            FactSource::Offline => Some(Cause::Offline),
            FactSource::Network { .. } => None,
            FactSource::Recorded(_) => Some(Cause::NotRecorded),
        });
        match (question, &self.origin) {
            (Question::Manifest { freshness, .. }, FactSource::Network { registry, .. })
                if closed.is_none() =>
            {
                let is_read = |other: &Question| matches!(other, Question::Image { reference, .. } if reference == question.reference());
                let fact = match freshness {
                    Freshness::Cached if beside.iter().any(is_read) => {
                        registry.manifest_of_image(&reference, deadline).await
                    }
                    Freshness::Cached => registry.manifest(&reference, deadline).await,
                    Freshness::Fresh => registry.manifest_now(&reference, deadline).await,
                };
                SourcedFact::Manifest(reference, fact)
            }
            (Question::Manifest { .. }, _) => SourcedFact::Manifest(reference, unknown(closed)),
            (Question::Image { platforms, .. }, FactSource::Network { registry, .. }) if closed.is_none() => {
                let fact = registry.image(&reference, platforms, deadline).await;
                SourcedFact::Image(reference, fact)
            }
            (Question::Image { .. }, _) => SourcedFact::Image(reference, unknown(closed)),
            (Question::Payload { .. }, FactSource::Network { registry, .. }) if closed.is_none() => {
                let fact = registry.payload(&reference, deadline).await;
                SourcedFact::Payload(reference, fact)
            }
            (Question::Payload { .. }, _) => SourcedFact::Payload(reference, unknown(closed)),
        }
    }
}

/// Why the question goes to nobody: its image is outside what the policy or the cluster allows.
fn closed(question: &Question, facts: &Facts, policy: &Policy) -> Option<Cause> {
    if !question.is_bounded_by_policy() {
        return None;
    }
    if !policy.allows(question.reference()) {
        return Some(Cause::OutsideAllowed);
    }
    match facts.cluster.registry_access(question.reference()) {
        // What the cluster does not tell closes no door.
        RegistryAccess::Allowed | RegistryAccess::Unknown(..) => None,
        RegistryAccess::Outside(_) => Some(Cause::OutsideCluster),
        RegistryAccess::Blocked(scope) => Some(Cause::Blocked { scope: scope.to_owned() }),
    }
}

/// An answer, with what it is about.
enum SourcedFact {
    Manifest(PullSpec, Fact<Manifest>),
    Image(PullSpec, Fact<Arc<Image>>),
    Payload(PullSpec, Fact<Payload>),
}

fn unknown<T>(cause: Option<Cause>) -> Fact<T> {
    Fact::Unknown(cause.unwrap_or(Cause::NotAsked))
}
