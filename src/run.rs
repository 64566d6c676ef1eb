//! Many objects judged as one run: one clock for all, each question asked once, and everything that
//! was learnt kept.
//!
//! For verbs that judge what lies in files. A server asks afresh for each review instead, because it
//! lives longer than its answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::evaluate::{self, Verdict, evaluate};
use crate::model::facts::Facts;
use crate::model::machine_config::Subject;
use crate::model::question::Question;
use crate::pin::{self, Plan};
use crate::policy::Policy;
use crate::sources::Sources;

/// One run of a verb over many objects, under one policy.
#[derive(Debug)]
pub struct Run {
    sources: Sources,
    policy: Arc<Policy>,
    timeout: Duration,
    asked: Mutex<HashMap<Question, Arc<OnceCell<Facts>>>>,
    known: Mutex<Facts>,
}

/// What was made of one object as it stands.
#[derive(Clone, Debug)]
pub struct ObjectAssessment {
    /// What was found.
    pub verdict: Verdict,
    /// What would be written instead of tags, as far as their digests are known.
    pub plan: Plan,
    /// What both rest on.
    pub facts: Facts,
}

impl Run {
    /// Begins a run that asks `sources`, and gives all questions of one object `timeout` together. The
    /// cluster, where there is one, is read here, once, and has as long.
    pub async fn begin(sources: Sources, policy: Arc<Policy>, timeout: Duration) -> Self {
        sources.read_cluster(Instant::now() + timeout).await;
        let known = Mutex::new(sources.begin());
        Self { sources, policy, timeout, asked: Mutex::default(), known }
    }

    /// The policy that objects are judged under.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Judges `subject` as it stands. What an earlier object asked already is not asked again, be it
    /// that there was no answer.
    pub async fn judge(&self, subject: &Subject) -> ObjectAssessment {
        let facts = self.learn(|facts| evaluate::questions(subject, facts, &self.policy)).await;
        ObjectAssessment {
            verdict: evaluate(subject, &facts, &self.policy),
            plan: pin::plan(subject, &facts, &self.policy),
            facts,
        }
    }

    /// Plans the pins of `subject`, and gives what the plan rests on.
    pub async fn plan(&self, subject: &Subject) -> (Plan, Facts) {
        let deadline = Instant::now() + self.timeout;
        let mut facts = lock(&self.known).without_answers();
        self.know(&pin::questions(subject, &self.policy), &mut facts, deadline).await;
        self.know(&pin::checks(subject, &facts, &self.policy), &mut facts, deadline).await;
        (pin::plan(subject, &facts, &self.policy), facts)
    }

    /// Asks what `questions` want to know, given what is known so far, until there are none left.
    pub async fn learn(&self, questions: impl Fn(&Facts) -> Vec<Question>) -> Facts {
        let deadline = Instant::now() + self.timeout;
        let mut facts = lock(&self.known).without_answers();
        loop {
            let questions = questions(&facts);
            if questions.is_empty() {
                return facts;
            }
            self.know(&questions, &mut facts, deadline).await;
        }
    }

    /// Answers `questions` into `facts` by `deadline`, from what is known where that holds an answer.
    pub async fn know(&self, questions: &[Question], facts: &mut Facts, deadline: Instant) {
        let settling = questions.iter().map(|question| self.settle(question, questions, deadline));
        let answers = join_all(settling).await;
        for (question, answer) in questions.iter().zip(answers) {
            if let Some(answer) = answer.get() {
                facts.take_answer(question, answer);
            }
        }
    }

    /// Everything that was asked and answered in this run.
    pub fn facts(self) -> Facts {
        self.known.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that `question`, which is asked together with those `beside` it, is answered. Whoever
    /// comes while it is being asked waits for that answer, which is there by the deadline of the one who
    /// came first, and so by its own.
    async fn settle(
        &self,
        question: &Question,
        beside: &[Question],
        deadline: Instant,
    ) -> Arc<OnceCell<Facts>> {
        let cell = Arc::clone(lock(&self.asked).entry(question.clone()).or_default());
        cell.get_or_init(|| async {
            let mut answer = lock(&self.known).without_answers();
            let alone = std::slice::from_ref(question);
            self.sources.gather_beside(alone, beside, &mut answer, &self.policy, deadline).await;
            lock(&self.known).take_answer(question, &answer);
            answer
        })
        .await;
        cell
    }
}

/// What is guarded is put in as a whole, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
