//! The outside world, and the only place that asks it anything.
//!
//! Owns which questions go out and by when every answer must be in. What comes back is always
//! [`Facts`]: a question that fails is a fact of its own kind, never an error.

pub mod registry;

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::facts::{Cause, Fact, Facts};
use crate::pin::{Freshness, Question};
use crate::policy::Policy;

pub use registry::RegistryClient;

/// Where facts come from.
#[derive(Clone, Debug)]
pub enum Sources {
    /// Registries, over the network.
    Network(Arc<RegistryClient>),
    /// Nowhere: every question is unknown.
    Offline,
}

impl Sources {
    /// Answers `questions`, all of them by `deadline`.
    ///
    /// Nothing is asked of a registry that `policy` does not allow. What is not answered by the
    /// deadline is unknown, and goes on being asked for those who come after.
    pub async fn gather(&self, questions: &[Question], policy: &Policy, deadline: Instant) -> Facts {
        let mut facts = Facts::none(Timestamp::now());
        let answers = questions.iter().map(|question| self.answer(question, policy, deadline));
        for (question, answer) in questions.iter().zip(join_all(answers).await) {
            facts.manifests.insert(question.reference.clone(), answer);
        }
        facts
    }

    async fn answer(
        &self,
        Question { reference, freshness }: &Question,
        policy: &Policy,
        deadline: Instant,
    ) -> Fact<crate::facts::Manifest> {
        match self {
            _ if !policy.allows(reference) => Fact::Unknown(Cause::OutsideAllowed),
            Self::Offline => Fact::Unknown(Cause::Offline),
            Self::Network(registry) => match freshness {
                Freshness::Cached => registry.manifest(reference, deadline).await,
                Freshness::Fresh => registry.manifest_now(reference, deadline).await,
            },
        }
    }
}
