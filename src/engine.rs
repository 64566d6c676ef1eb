//! The engine behind every door: gather, plan, evaluate.
//!
//! Owns the order of the steps and the policy in force. The doors (webhooks, dry run) only differ
//! in what they do with the outcome.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::evaluate::{self, Verdict, evaluate};
use crate::facts::Facts;
use crate::machine_config::Subject;
use crate::pin::{self, Freshness, Plan, Question};
use crate::policy::Policy;
use crate::sources::Sources;

/// Judges objects under one policy at a time.
#[derive(Debug)]
pub struct Engine {
    sources: Sources,
}

impl Engine {
    /// An engine that asks `sources`.
    pub fn new(sources: Sources) -> Self {
        Self { sources }
    }

    /// Where the engine's facts come from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Plans the pins of `subject`. Answers by `deadline`.
    pub async fn pin(&self, subject: &Subject, policy: &Policy, deadline: Instant) -> Plan {
        let questions = pin::questions(subject, policy);
        let facts = self.gather(&questions, policy, deadline).await;
        pin::plan(subject, &facts, policy)
    }

    /// Judges `subject` as it stands. Answers by `deadline`.
    pub async fn judge(&self, subject: &Subject, policy: &Policy, deadline: Instant) -> Verdict {
        let questions = cached(evaluate::questions(subject, policy));
        let facts = self.gather(&questions, policy, deadline).await;
        evaluate(subject, &facts, policy)
    }

    /// Judges `subject` as it stands, pins it, and judges what comes of that. Answers by `deadline`.
    pub async fn rehearse(&self, subject: Subject, policy: Arc<Policy>, deadline: Instant) -> Rehearsal {
        let mut questions = pin::questions(&subject, &policy);
        questions.extend(cached(evaluate::questions(&subject, &policy)));
        let mut facts = self.gather(&distinct(questions), &policy, deadline).await;
        let plan = pin::plan(&subject, &facts, &policy);
        let after = plan.apply(&subject);
        let mut further = cached(evaluate::questions(&after, &policy));
        further.retain(|question| !facts.manifests.contains_key(&question.reference));
        facts.manifests.extend(self.gather(&further, &policy, deadline).await.manifests);
        let before = evaluate(&subject, &facts, &policy);
        let verdict = evaluate(&after, &facts, &policy);
        Rehearsal { subject, policy, facts, plan, before, verdict }
    }

    async fn gather(&self, questions: &[Question], policy: &Policy, deadline: Instant) -> Facts {
        if questions.is_empty() {
            return Facts::none(Timestamp::now());
        }
        self.sources.gather(questions, policy, deadline).await
    }
}

/// What the cluster would do with an object, step by step.
#[derive(Debug)]
pub struct Rehearsal {
    /// The object as it came.
    pub subject: Subject,
    /// The policy that it was judged under.
    pub policy: Arc<Policy>,
    /// What was known.
    pub facts: Facts,
    /// What `/mutate` would change.
    pub plan: Plan,
    /// The verdict on the object as it came.
    pub before: Verdict,
    /// The verdict on the object after the plan: what `/validate` would say.
    pub verdict: Verdict,
}

fn cached(references: Vec<crate::image_reference::ImageReference>) -> Vec<Question> {
    references.into_iter().map(|reference| Question { reference, freshness: Freshness::Cached }).collect()
}

/// Asks nothing twice; a question that wants a fresh answer comes before one that does not.
fn distinct(questions: Vec<Question>) -> Vec<Question> {
    let mut distinct: Vec<Question> = Vec::new();
    for question in questions {
        if !distinct.iter().any(|earlier| earlier.reference == question.reference) {
            distinct.push(question);
        }
    }
    distinct
}
