//! The outside world, and the only place that asks it anything.
//!
//! Owns which questions go out and by when every answer must be in. What comes back is always
//! [`Facts`]: a question that fails is a fact of its own kind, never an error.

pub mod cluster;
pub mod registry;

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::facts::image::{Image, Payload};
use crate::facts::{Cause, Fact, Facts, Manifest};
use crate::image_reference::ImageReference;
use crate::policy::Policy;
use crate::question::{Freshness, Question};

pub use cluster::ClusterSource;
pub use registry::RegistryClient;

/// Where facts come from.
#[derive(Clone, Debug)]
pub enum Sources {
    /// Registries and the cluster, over the network.
    Network {
        /// Asks registries.
        registry: Arc<RegistryClient>,
        /// Knows the cluster, where there is one.
        cluster: Option<Arc<ClusterSource>>,
    },
    /// Nowhere: every question is unknown.
    Offline,
    /// An earlier run: its answers are given again, at its time, and what it did not ask is unknown.
    Recorded(Arc<Facts>),
}

impl Sources {
    /// Facts that hold what is known without asking, as of now; of a recorded run, as of then.
    pub fn begin(&self) -> Facts {
        match self {
            Self::Network { cluster: Some(cluster), .. } => {
                Facts { cluster: cluster.facts(), ..Facts::none(Timestamp::now()) }
            }
            Self::Network { cluster: None, .. } | Self::Offline => Facts::none(Timestamp::now()),
            Self::Recorded(facts) => facts.without_answers(),
        }
    }

    /// Reads the cluster once, by `deadline`, for a verb that ends. What could not be read is unknown to
    /// the facts that are begun afterwards.
    pub async fn read_cluster(&self, deadline: Instant) {
        if let Self::Network { registry, cluster: Some(cluster) } = self {
            cluster.read(registry.credentials(), deadline).await;
        }
    }

    /// Keeps up with the cluster in the background, for a server, until what is returned is dropped.
    pub fn follow_cluster(&self) -> JoinSet<()> {
        match self {
            Self::Network { registry, cluster: Some(cluster) } => cluster.follow(registry),
            _ => JoinSet::new(),
        }
    }

    /// The cluster, where there is one.
    pub fn cluster(&self) -> Option<&Arc<ClusterSource>> {
        match self {
            Self::Network { cluster, .. } => cluster.as_ref(),
            Self::Offline | Self::Recorded(_) => None,
        }
    }

    /// Answers `questions` into `facts`, all of them by `deadline`.
    ///
    /// Nothing is asked of a registry that `policy` does not allow. What is not answered by the
    /// deadline is unknown, and goes on being asked for those who come after. Afterwards every
    /// question is answered by `facts`.
    pub async fn gather(
        &self,
        questions: &[Question],
        facts: &mut Facts,
        policy: &Policy,
        deadline: Instant,
    ) {
        let mut distinct: Vec<Question> = Vec::new();
        for question in questions {
            if let Self::Recorded(recorded) = self
                && question.is_answered_by(recorded)
                && (policy.allows(question.reference()) || !question.is_bounded_by_policy())
            {
                facts.take_answer(question, recorded);
                continue;
            }
            match distinct.iter_mut().find_map(|earlier| Some((earlier.joined(question)?, earlier))) {
                Some((joined, earlier)) => *earlier = joined,
                None => distinct.push(question.clone()),
            }
        }
        let answers = distinct.iter().map(|question| self.answer(question, policy, deadline));
        for answer in join_all(answers).await {
            match answer {
                Answer::Manifest(reference, fact) => drop(facts.manifests.insert(reference, fact)),
                Answer::Image(reference, fact) => drop(facts.images.insert(reference, fact)),
                Answer::Payload(reference, fact) => drop(facts.payloads.insert(reference, fact)),
            }
        }
    }

    async fn answer(&self, question: &Question, policy: &Policy, deadline: Instant) -> Answer {
        let reference = question.reference().clone();
        let closed = match self {
            _ if question.is_bounded_by_policy() && !policy.allows(&reference) => Some(Cause::OutsideAllowed),
            Self::Offline => Some(Cause::Offline),
            Self::Network { .. } => None,
            Self::Recorded(_) => Some(Cause::NotRecorded),
        };
        match (question, self) {
            (Question::Manifest { freshness, .. }, Self::Network { registry, .. }) if closed.is_none() => {
                let fact = match freshness {
                    Freshness::Cached => registry.manifest(&reference, deadline).await,
                    Freshness::Fresh => registry.manifest_now(&reference, deadline).await,
                };
                Answer::Manifest(reference, fact)
            }
            (Question::Manifest { .. }, _) => Answer::Manifest(reference, unknown(closed)),
            (Question::Image { platforms, .. }, Self::Network { registry, .. }) if closed.is_none() => {
                let fact = registry.image(&reference, platforms, deadline).await;
                Answer::Image(reference, fact)
            }
            (Question::Image { .. }, _) => Answer::Image(reference, unknown(closed)),
            (Question::Payload { .. }, Self::Network { registry, .. }) if closed.is_none() => {
                let fact = registry.payload(&reference, deadline).await;
                Answer::Payload(reference, fact)
            }
            (Question::Payload { .. }, _) => Answer::Payload(reference, unknown(closed)),
        }
    }
}

/// An answer, with what it is about.
enum Answer {
    Manifest(ImageReference, Fact<Manifest>),
    Image(ImageReference, Fact<Image>),
    Payload(ImageReference, Fact<Payload>),
}

fn unknown<T>(cause: Option<Cause>) -> Fact<T> {
    Fact::Unknown(cause.unwrap_or(Cause::NotAsked))
}
