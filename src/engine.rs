//! The engine behind every door: gather, plan, evaluate.
//!
//! Owns the order of the steps and the policy in force. The doors (webhooks, dry run) only differ
//! in what they do with the outcome.

use std::sync::Arc;

use tokio::time::Instant;

use crate::evaluate::{self, Assessment, Verdict, evaluate};
use crate::model::facts::Facts;
use crate::model::machine_config::Subject;
use crate::pin::{self, Plan};
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
        let mut facts = self.sources.begin();
        let questions = pin::questions(subject, policy);
        self.sources.gather(&questions, &mut facts, policy, deadline).await;
        let checks = pin::checks(subject, &facts, policy);
        self.sources.gather(&checks, &mut facts, policy, deadline).await;
        pin::plan(subject, &facts, policy)
    }

    /// Judges `subject` as it stands. Answers by `deadline`.
    pub async fn judge(&self, subject: &Subject, policy: &Policy, deadline: Instant) -> Verdict {
        let mut facts = self.sources.begin();
        loop {
            match evaluate::assess(subject, &facts, policy) {
                Assessment::Judged(verdict) => return verdict,
                Assessment::Asking(questions) => {
                    self.sources.gather(&questions, &mut facts, policy, deadline).await;
                }
            }
        }
    }

    /// Judges `subject` as it stands, pins it, and judges what comes of that. Answers by `deadline`.
    pub async fn rehearse(&self, subject: Subject, policy: Arc<Policy>, deadline: Instant) -> DryRun {
        let mut facts = self.sources.begin();
        // A question that wants a fresh answer comes before one that does not.
        let questions = pin::questions(&subject, &policy);
        self.sources.gather(&questions, &mut facts, &policy, deadline).await;
        let checks = pin::checks(&subject, &facts, &policy);
        self.sources.gather(&checks, &mut facts, &policy, deadline).await;
        self.know(&subject, &mut facts, &policy, deadline).await;
        let plan = pin::plan(&subject, &facts, &policy);
        let after = plan.apply(&subject);
        self.know(&after, &mut facts, &policy, deadline).await;
        let before = evaluate(&subject, &facts, &policy);
        let verdict = evaluate(&after, &facts, &policy);
        DryRun { subject, policy, facts, plan, before, verdict }
    }

    /// Asks until everything that `subject` is judged by is in `facts`, answered or unknown.
    async fn know(&self, subject: &Subject, facts: &mut Facts, policy: &Policy, deadline: Instant) {
        loop {
            let questions = evaluate::questions(subject, facts, policy);
            if questions.is_empty() {
                return;
            }
            self.sources.gather(&questions, facts, policy, deadline).await;
        }
    }
}

/// What the cluster would do with an object, step by step.
#[derive(Debug)]
pub struct DryRun {
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
