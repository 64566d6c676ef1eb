//! The bases that images are judged by, read before anybody asks: a review then asks a registry only
//! about its own image.
//!
//! Owns when it is asked again: at once when the cluster or the policy comes to name something new,
//! and ever more seldom what cannot be had.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::lineage;
use crate::model::facts::image::Image;
use crate::model::facts::{Fact, Facts};
use crate::model::question::Question;
use crate::policy::Policy;
use crate::server::ServerState;

/// Reads ahead for ever. Without registries to ask there is nothing to do.
pub(crate) async fn watch(state: Arc<ServerState>) {
    if state.engine.sources().registry().is_none() {
        return;
    }
    let begun = Instant::now();
    let mut ahead =
        Prefetch { answers: None, forget: begun + FORGOTTEN_AFTER, again: None, wait: FIRST_WAIT };
    loop {
        ahead.look(&state).await;
        #[expect(clippy::disallowed_methods, reason = "the pause between two rounds")]
        sleep(PAUSE).await;
    }
}

/// What was read so far.
struct Prefetch {
    answers: Option<Facts>,
    /// When everything is asked for anew, so that what an earlier release needed does not stay.
    forget: Instant,
    /// When what could not be had is asked for again.
    again: Option<Instant>,
    /// How long to wait after that.
    wait: Duration,
}

impl Prefetch {
    async fn look(&mut self, state: &ServerState) {
        let policy = state.policy.current();
        let mut facts = state.engine.sources().begin();
        if let Some(before) = self.answers.take().filter(|_| Instant::now() < self.forget) {
            facts.images = before.images;
            facts.payloads = before.payloads;
        } else {
            self.forget = Instant::now() + FORGOTTEN_AFTER;
        }
        let is_due = self.again.is_some_and(|again| Instant::now() >= again);
        if is_due {
            facts.images.retain(|_, image| is_whole(image));
            facts.payloads.retain(|_, payload| matches!(payload, Fact::Known(_)));
        }
        self.read(state, &policy, &mut facts).await;
        if lacks_nothing(&facts) {
            (self.again, self.wait) = (None, FIRST_WAIT);
        } else if is_due || self.again.is_none() {
            self.again = Some(Instant::now() + self.wait);
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
        }
        self.answers = Some(facts);
    }

    /// Asks until everything that the bases are known by is answered, be it that there is no answer.
    async fn read(&self, state: &ServerState, policy: &Policy, facts: &mut Facts) {
        loop {
            let questions = lineage::prefetch_questions(facts, policy);
            if questions.is_empty() {
                return;
            }
            state.engine.sources().gather(&questions, facts, policy, Instant::now() + PATIENCE).await;
            for question in &questions {
                tell(question, facts);
            }
        }
    }
}

fn lacks_nothing(facts: &Facts) -> bool {
    facts.images.values().all(is_whole)
        && facts.payloads.values().all(|payload| matches!(payload, Fact::Known(_)))
}

/// Whether there is nothing more to be learnt.
fn is_whole(image: &Fact<Arc<Image>>) -> bool {
    match image {
        Fact::Known(image) => image.platforms.values().all(|platform| matches!(platform, Fact::Known(_))),
        Fact::Absent | Fact::Unknown(_) => false,
    }
}

fn tell(question: &Question, facts: &Facts) {
    let reference = question.reference();
    let cause = match question {
        Question::Image { .. } => told(facts.image(reference)),
        Question::Payload { .. } => told(facts.payload(reference)),
        Question::Manifest { .. } => return,
    };
    match cause {
        None => tracing::info!(%reference, "read ahead"),
        Some(cause) => {
            tracing::warn!(%reference, cause, "not read ahead; reviews that need it do not know it")
        }
    }
}

fn told<T>(fact: &Fact<T>) -> Option<String> {
    match fact {
        Fact::Known(_) => None,
        Fact::Absent => Some("the registry has none".to_owned()),
        Fact::Unknown(cause) => Some(cause.to_string()),
    }
}

/// The cluster is known from memory, so that looking costs almost nothing.
const PAUSE: Duration = Duration::from_secs(1);
/// Longer than the client reads a payload at most.
const PATIENCE: Duration = Duration::from_secs(150);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
