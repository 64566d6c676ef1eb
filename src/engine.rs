//! The engine behind every entry point: one loop that asks until nothing is missing.
//!
//! Owns the rounds of questions and, for a run over many objects, what was asked before. The pure steps
//! ([`pin::step`], [`Evaluation::step`]) say what they need to know; entry points only differ in what
//! they do with the result.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::evaluate::{DryRun, Evaluation, Judgement, Verdict};
use crate::model::facts::Facts;
use crate::model::machine_config::Subject;
use crate::model::question::{Answer, Question, Step, joined};
use crate::pin::{self, Plan};
use crate::policy::Policy;
use crate::sources::Sources;

/// Judges objects and plans their pins.
#[derive(Debug)]
pub struct Engine {
    sources: Sources,
    memo: Option<Memo>,
}

/// What was asked in one run.
#[derive(Debug)]
struct Memo {
    asked: Mutex<HashMap<Question, Arc<OnceCell<Answer>>>>,
    known: Mutex<Facts>,
}

impl Engine {
    /// An engine that asks `sources` for each object anew, for a server: it lives longer than answers are
    /// true, and leaves it to the caches of the sources how long they are kept.
    pub fn new(sources: Sources) -> Self {
        Self { sources, memo: None }
    }

    /// An engine for one run over many objects: each question is asked once, even if there is no answer,
    /// and one time of observation holds for all objects. The cluster, where there is one, is read here,
    /// by `deadline`.
    pub async fn for_run(sources: Sources, deadline: Instant) -> Self {
        sources.read_cluster(deadline).await;
        let known = Mutex::new(sources.begin());
        Self { sources, memo: Some(Memo { asked: Mutex::default(), known }) }
    }

    /// Where the engine's facts come from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Everything that was asked and answered in the run. Nothing but the cluster and what the user gave,
    /// where answers are not kept.
    pub fn into_facts(self) -> Facts {
        match self.memo {
            Some(memo) => memo.known.into_inner().unwrap_or_else(PoisonError::into_inner),
            None => self.sources.begin(),
        }
    }

    /// Plans the pins of `subject`. Answers by `deadline`.
    pub async fn pin(&self, subject: &Subject, policy: &Policy, deadline: Instant) -> Plan {
        self.resolve(policy, deadline, |facts| pin::step(subject, facts, policy)).await.0
    }

    /// Judges `subject` unchanged. Answers by `deadline`.
    pub async fn judge(&self, subject: &Subject, policy: &Policy, deadline: Instant) -> Judgement {
        let mut facts = self.begin();
        let verdict = self.verdict(&mut facts, subject, policy, deadline).await;
        Judgement { verdict, facts }
    }

    async fn verdict(
        &self,
        facts: &mut Facts,
        subject: &Subject,
        policy: &Policy,
        deadline: Instant,
    ) -> Verdict {
        let cluster = Arc::clone(&facts.cluster);
        let evaluation = Evaluation::of(subject, &cluster, policy);
        self.complete(facts, policy, deadline, |facts| evaluation.step(facts)).await
    }

    /// Plans the pins of `subject` and judges it before and after the plan. Answers by `deadline`.
    pub async fn dry_run(&self, subject: Subject, policy: Arc<Policy>, deadline: Instant) -> DryRun {
        let mut facts = self.begin();
        // The plan first: a question that wants a fresh answer comes before one that does not.
        let planned = |facts: &Facts| pin::step(&subject, facts, &policy);
        let plan = self.complete(&mut facts, &policy, deadline, planned).await;
        let before = self.verdict(&mut facts, &subject, &policy, deadline).await;
        let verdict = self.verdict(&mut facts, &plan.apply(&subject), &policy, deadline).await;
        DryRun { subject, policy, facts, plan, before, verdict }
    }

    /// Takes `step` until it is done, and gives its result with the facts that it rests on. Between the
    /// rounds everything is asked that the step lacks, all of it by `deadline`.
    pub async fn resolve<T>(
        &self,
        policy: &Policy,
        deadline: Instant,
        step: impl Fn(&Facts) -> Step<T>,
    ) -> (T, Facts) {
        let mut facts = self.begin();
        let result = self.complete(&mut facts, policy, deadline, step).await;
        (result, facts)
    }

    /// The same for somebody who has `facts` already: what is answered there is not asked.
    pub async fn complete<T>(
        &self,
        facts: &mut Facts,
        policy: &Policy,
        deadline: Instant,
        step: impl Fn(&Facts) -> Step<T>,
    ) -> T {
        loop {
            let questions = match step(facts) {
                Step::Done(result) => return result,
                Step::Ask(questions) => joined(questions),
            };
            let answers = questions.iter().map(|question| self.answer(question, facts, policy, deadline));
            for (question, answer) in questions.iter().zip(join_all(answers).await) {
                answer.record(question, facts);
            }
        }
    }

    /// Facts that hold what is known without asking.
    fn begin(&self) -> Facts {
        match &self.memo {
            Some(memo) => lock(&memo.known).without_answers(),
            None => self.sources.begin(),
        }
    }

    async fn answer(&self, question: &Question, facts: &Facts, policy: &Policy, deadline: Instant) -> Answer {
        let Some(memo) = &self.memo else {
            return self.sources.answer(question, facts, policy, deadline).await;
        };
        let cell = Arc::clone(lock(&memo.asked).entry(question.clone()).or_default());
        // Whoever comes while it is being asked waits for that answer, which is there by the deadline of
        // the first, and so by the deadline of all who came later.
        let ask = || async {
            let answer = self.sources.answer(question, facts, policy, deadline).await;
            answer.clone().record(question, &mut lock(&memo.known));
            answer
        };
        cell.get_or_init(ask).await.clone()
    }
}

/// What is guarded is put in as a whole, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
